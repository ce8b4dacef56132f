"""The ladder on hand-made scores: rungs that add up, differences in pairs, intervals that hold the seeds' luck too."""

from __future__ import annotations

import numpy as np
import pytest
import yaml

from tasks.core.errors import ParamsError
from tasks.evaluation.ablation import ladder_rows, markdown, mean_over_drawn_seeds, read_ladder
from tests.imports import ROOT

BASE = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
PAPER = ROOT / "recipes/ladders/paper.yaml"


def ladder(tmp_path, text: str, **options):
    path = tmp_path / "ladder.yaml"
    path.write_text(text, encoding="utf-8")
    return read_ladder(BASE, path, **options)


# ---------------------------------------------------------------- rungs


def test_a_rung_keeps_what_the_rungs_before_it_changed(tmp_path):
    first, second, third = ladder(
        tmp_path,
        "- {rung: a, what: x, params: {finetune: {epochs: 2}}}\n"
        "- {rung: b, what: x, params: {finetune: {lr: 0.5}}}\n"
        "- {rung: c, what: x, params: {finetune: {epochs: 4}}}\n",
    )
    of = [(rung.params.finetune.epochs, rung.params.finetune.lr) for rung in (first, second, third)]
    assert of == [(2, BASE["finetune"]["lr"]), (2, 0.5), (4, 0.5)]


def test_a_skipped_rung_leaves_no_change_behind(tmp_path):
    text = (
        "- {rung: a, what: x, params: {}}\n"
        "- {rung: b, what: x, params: {finetune: {lr: 0.5}}}\n"
        "- {rung: c, what: x, params: {finetune: {epochs: 4}}}\n"
    )
    names, lrs = zip(*((r.name, r.params.finetune.lr) for r in ladder(tmp_path, text, skip=["b"])), strict=True)
    assert names == ("a", "c")
    assert lrs == (BASE["finetune"]["lr"],) * 2


@pytest.mark.parametrize(
    ("skip", "message"),
    [(["gta"], "no rung 'gta' that can be skipped. Did you mean 'gat'"), (["baseline"], "no rung 'baseline'")],
)
def test_a_rung_that_is_not_there_cannot_be_skipped_nor_can_the_first(skip, message):
    with pytest.raises(ParamsError, match=message):
        read_ladder(BASE, PAPER, skip=skip)


def test_an_unknown_ladder_gets_the_nearest_one():
    with pytest.raises(ParamsError, match=r"papers\.yaml: no such ladder\. Did you mean 'paper'"):
        read_ladder(BASE, PAPER.with_stem("papers"))


@pytest.mark.parametrize("path", sorted(PAPER.parent.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_ladder_makes_valid_params_from_rung_to_rung(path):
    assert len(read_ladder(BASE, path)) > 1


def test_a_rung_with_a_misspelled_key_is_named(tmp_path):
    with pytest.raises(ParamsError, match=r"rung 'b': finetune\.epoch: unknown key\. Did you mean 'epochs'"):
        ladder(tmp_path, "- {rung: b, what: x, params: {finetune: {epoch: 2}}}\n")


def test_the_shipped_ladder_is_the_papers_and_each_rung_changes_one_thing():
    rungs = read_ladder(BASE, PAPER)
    assert [r.name for r in rungs] == ["baseline", "sam", "pre-training", "ml-decoder", "am", "aam", "gat"]
    seen = [
        (
            p.finetune.sam.enabled,
            p.pretrain.enabled,
            p.model.head.name,
            p.model.head.options.get("angular", False),
            p.finetune.loss.name,
        )
        for p in (r.params for r in rungs)
    ]
    assert seen == [
        (False, False, "linear", False, "bce"),
        (True, False, "linear", False, "bce"),
        (True, True, "linear", False, "bce"),
        (True, True, "ml_decoder", False, "bce"),
        (True, True, "ml_decoder", True, "am_binary"),
        (True, True, "ml_decoder", True, "aam"),
        (True, True, "gat_ml_decoder", True, "aam"),
    ]
    assert {p.params.finetune.optimizer.name for p in rungs} == {"sgd"}


# ---------------------------------------------------------------- the table


def constant(values_RS, num_resamples=50):
    """Every resample of the images gives the same mAP: what is left is the luck of the seeds."""
    return np.repeat(np.asarray(values_RS, float)[..., None], num_resamples, axis=-1)


def test_differences_are_taken_to_the_rung_before_and_to_the_first():
    map_RS = np.array([[0.5, 0.6], [0.6, 0.7], [0.9, 0.9]])
    first, second, third = ladder_rows(["a", "b", "c"], map_RS, constant(map_RS))
    assert [row["mAP"] for row in (first, second, third)] == pytest.approx([0.55, 0.65, 0.9])
    assert first["step"] is None
    assert first["total"] is None
    assert third["step"]["difference"] == pytest.approx(0.25)
    assert third["total"]["difference"] == pytest.approx(0.35)
    assert second["by_seed"] == [0.6, 0.7]


def test_a_gain_that_every_seed_shows_alike_is_certain_however_far_apart_the_seeds_are():
    map_RS = np.array([[0.2, 0.5, 0.8], [0.3, 0.6, 0.9]])
    row = ladder_rows(["a", "b"], map_RS, constant(map_RS))[1]
    assert (row["step"]["low"], row["step"]["high"]) == pytest.approx((0.1, 0.1))
    assert row["step"]["better"] == "b"
    assert row["high"] - row["low"] > 0.2


def test_a_gain_that_only_one_seed_shows_is_not_called_one():
    map_RS = np.array([[0.5, 0.5, 0.5], [0.5, 0.5, 0.8]])
    row = ladder_rows(["a", "b"], map_RS, constant(map_RS, 200))[1]
    assert row["step"]["difference"] == pytest.approx(0.1)
    assert row["step"]["better"] is None


def test_images_that_are_hard_for_both_rungs_cancel_out():
    luck_B = np.random.default_rng(0).normal(scale=0.1, size=400)
    drawn_RSB = constant([[0.5, 0.5], [0.52, 0.52]], 400) + luck_B
    row = ladder_rows(["a", "b"], drawn_RSB[..., 0] - luck_B[0], drawn_RSB)[1]
    assert row["step"]["better"] == "b"
    assert row["high"] - row["low"] > 0.2


def test_drawing_one_seed_less_than_there_are_gives_the_variance_of_a_mean_of_seeds():
    values_S = np.array([0.1, 0.4, 0.7])
    drawn_B = mean_over_drawn_seeds(constant([values_S], 40_000), seed=0)[0]
    assert drawn_B.mean() == pytest.approx(values_S.mean(), abs=0.005)
    assert drawn_B.var() == pytest.approx(values_S.var(ddof=1) / 3, rel=0.05)


def test_one_seed_leaves_the_luck_of_the_images():
    drawn_RSB = np.random.default_rng(0).random((2, 1, 30))
    np.testing.assert_array_equal(mean_over_drawn_seeds(drawn_RSB, seed=0), drawn_RSB[:, 0])


def test_the_table_is_in_percent_and_bold_where_the_interval_leaves_out_0():
    map_RS = np.array([[0.5, 0.5], [0.6, 0.6], [0.6, 0.6]])
    rows = ladder_rows(["baseline", "sam", "am"], map_RS, constant(map_RS))
    lines = markdown(rows, {"baseline": 0.01, "sam": 0.03, "am": 0.03}).splitlines()
    assert lines[2] == "| baseline | 0.01 | 50.00 ± 0.00 |  |  |"
    assert lines[3].startswith("| + sam | 0.03 | 60.00 ± 0.00 | **+10.00 [+10.00, +10.00]** |")
    assert "| +0.00 [+0.00, +0.00] |" in lines[4]
