"""An ablation on hand-made scores: its steps, paired differences, intervals that hold the seeds' variance."""

from __future__ import annotations

import numpy as np
import pytest

from tasks.core.errors import ParamsError
from tasks.evaluation.ablation import ablation_rows, markdown, mean_over_drawn_seeds, read_steps
from tests.imports import ROOT

PAPER = ROOT / "recipes/ablations/paper.yaml"


# ---------------------------------------------------------------- steps


def steps(tmp_path, text: str, **options):
    path = tmp_path / "ablation.yaml"
    path.write_text(text, encoding="utf-8")
    return read_steps(path, **options)


def test_a_skipped_step_leaves_no_change_behind(tmp_path):
    text = (
        "- {step: a, what: x, params: {}}\n"
        "- {step: b, what: x, params: {finetune: {lr: 0.5}}}\n"
        "- {step: c, what: x, params: {finetune: {epochs: 4}}}\n"
    )
    read = steps(tmp_path, text, skip=["b"])
    assert [(step.name, step.changes) for step in read] == [("a", {}), ("c", {"finetune": {"epochs": 4}})]


@pytest.mark.parametrize(
    ("skip", "message"),
    [(["gta"], "no step 'gta' that can be skipped. Did you mean 'gat'"), (["baseline"], "no step 'baseline'")],
)
def test_a_step_that_is_not_there_cannot_be_skipped_nor_can_the_first(skip, message):
    with pytest.raises(ParamsError, match=message):
        read_steps(PAPER, skip=skip)


def test_an_unknown_ablation_gets_the_nearest_one():
    with pytest.raises(ParamsError, match=r"papers\.yaml: no such ablation\. Did you mean 'paper'"):
        read_steps(PAPER.with_stem("papers"))


def test_the_key_of_an_earlier_version_is_refused_with_the_new_one(tmp_path):
    with pytest.raises(ParamsError, match=r"key `rung` \('a'\) is now called `step`"):
        steps(tmp_path, "- {rung: a, what: x, params: {}}\n")


# ---------------------------------------------------------------- the table


def constant(values_RS, num_resamples=50):
    """Every resample of the images gives the same mAP: what is left is the variance between seeds."""
    return np.repeat(np.asarray(values_RS, float)[..., None], num_resamples, axis=-1)


def test_differences_are_taken_to_the_step_before_and_to_the_first():
    map_RS = np.array([[0.5, 0.6], [0.6, 0.7], [0.9, 0.9]])
    first, second, third = ablation_rows(["a", "b", "c"], map_RS, constant(map_RS))
    assert [row["mAP"] for row in (first, second, third)] == pytest.approx([0.55, 0.65, 0.9])
    assert first["over_previous"] is None
    assert first["over_first"] is None
    assert third["over_previous"]["difference"] == pytest.approx(0.25)
    assert third["over_first"]["difference"] == pytest.approx(0.35)
    assert second["by_seed"] == [0.6, 0.7]


def test_a_gain_that_every_seed_shows_alike_is_certain_however_far_apart_the_seeds_are():
    map_RS = np.array([[0.2, 0.5, 0.8], [0.3, 0.6, 0.9]])
    row = ablation_rows(["a", "b"], map_RS, constant(map_RS))[1]
    assert (row["over_previous"]["low"], row["over_previous"]["high"]) == pytest.approx((0.1, 0.1))
    assert row["over_previous"]["better"] == "b"
    assert row["high"] - row["low"] > 0.2


def test_a_gain_that_only_one_seed_shows_is_not_called_one():
    map_RS = np.array([[0.5, 0.5, 0.5], [0.5, 0.5, 0.8]])
    row = ablation_rows(["a", "b"], map_RS, constant(map_RS, 200))[1]
    assert row["over_previous"]["difference"] == pytest.approx(0.1)
    assert row["over_previous"]["better"] is None


def test_images_that_are_hard_for_both_steps_cancel_out():
    noise_B = np.random.default_rng(0).normal(scale=0.1, size=400)
    drawn_RSB = constant([[0.5, 0.5], [0.52, 0.52]], 400) + noise_B
    row = ablation_rows(["a", "b"], drawn_RSB[..., 0] - noise_B[0], drawn_RSB)[1]
    assert row["over_previous"]["better"] == "b"
    assert row["high"] - row["low"] > 0.2


def test_drawing_one_seed_less_than_there_are_gives_the_variance_of_a_mean_of_seeds():
    values_S = np.array([0.1, 0.4, 0.7])
    drawn_B = mean_over_drawn_seeds(constant([values_S], 40_000), seed=0)[0]
    assert drawn_B.mean() == pytest.approx(values_S.mean(), abs=0.005)
    assert drawn_B.var() == pytest.approx(values_S.var(ddof=1) / 3, rel=0.05)


def test_one_seed_leaves_the_variance_of_the_images():
    drawn_RSB = np.random.default_rng(0).random((2, 1, 30))
    np.testing.assert_array_equal(mean_over_drawn_seeds(drawn_RSB, seed=0), drawn_RSB[:, 0])


def test_the_table_is_in_percent_and_bold_where_the_interval_leaves_out_0():
    map_RS = np.array([[0.5, 0.5], [0.6, 0.6], [0.6, 0.6]])
    rows = ablation_rows(["baseline", "sam", "am"], map_RS, constant(map_RS))
    lines = markdown(rows, {"baseline": 0.01, "sam": 0.03, "am": 0.03}).splitlines()
    assert lines[2] == "| baseline | 0.01 | 50.00 ± 0.00 |  |  |"
    assert lines[3].startswith("| + sam | 0.03 | 60.00 ± 0.00 | **+10.00 [+10.00, +10.00]** |")
    assert "| +0.00 [+0.00, +0.00] |" in lines[4]
