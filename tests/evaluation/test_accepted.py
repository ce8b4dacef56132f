"""The accepted run, and what a new one changes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tasks.core import tables
from tasks.core.errors import GateError, TableError
from tasks.evaluation.accepted import accept, changed_decisions, compare_with_accepted, read_accepted
from tasks.evaluation.comparison import compare
from tasks.evaluation.measure import evaluate
from tasks.evaluation.regression_gate import check_gate
from tasks.evaluation.scored_run import ScoredRun, write_scored_run
from tests.evaluation.test_comparison import a_run


def metrics_of(run: ScoredRun, **stamp) -> dict:
    entries = (run.scores_NC, run.targets_NC, run.known_NC)
    metrics = evaluate(*entries, run.labels, run.image_ids, run.thresholds_C)["metrics"]
    return {"test": {name: metrics[name] for name in ("mAP", "OF1", "ECE")}, "protocol": {**run.stamp, **stamp}}


def change(before: ScoredRun, now: ScoredRun, *, kept=True, bootstrap=50, stamp=(), **now_stamp) -> dict:
    written = metrics_of(before, **dict(stamp))
    return compare_with_accepted(
        written, before if kept else None, metrics_of(now, **now_stamp), now, bootstrap=bootstrap, seed=0
    )


def test_before_the_first_acceptance_there_is_nothing_to_compare_and_the_gate_is_open():
    run = a_run()
    result = compare_with_accepted({}, None, metrics_of(run), run, bootstrap=50, seed=0)
    assert result["how"] == "nothing accepted"
    assert "every run passes" in check_gate(result, metric="mAP", tolerance=0)


def test_with_the_accepted_scores_the_comparison_is_paired():
    before, now = a_run(noise=0.6), a_run(noise=0.4, seed=1)
    result = change(before, now)
    paired = compare(before, now, bootstrap=50)
    assert result["how"] == "paired"
    for name, row in paired["metrics"].items():
        expected = {"before": row["a"], "now": row["b"], **{k: row[k] for k in ("difference", "low", "high")}}
        assert result["metrics"][name] == expected
    assert result["labels"]["dog"]["difference"] == paired["labels"]["dog"]["AP"]["difference"]


def test_decisions_that_one_of_the_runs_has_wrong_are_listed_those_that_moved_most_first():
    run = a_run()
    truth = np.array([[1, 0, 1]], np.uint8)
    before = replace(
        run,
        image_ids=["i"],
        scores_NC=np.float32([[0.2, 0.9, 0.9]]),
        targets_NC=truth,
        known_NC=np.array([[True] * 3]),
    )
    now = replace(before, scores_NC=np.float32([[0.6, 0.1, 0.3]]))
    decisions = changed_decisions(before, now)
    assert decisions["mended"]["num"] == 2
    assert [d["label"] for d in decisions["mended"]["worst"]] == ["dog", "cat"]  # moved by 0.8 and by 0.4
    (broken,) = decisions["broken"]["worst"]
    assert broken == {
        "image_id": "i",
        "label": "cow",
        "truth": 1,
        "before": pytest.approx(0.9),
        "now": pytest.approx(0.3),
    }
    unknown = replace(now, known_NC=np.array([[False] * 3]))
    assert changed_decisions(before, unknown) == {side: {"num": 0, "worst": []} for side in decisions}


def test_the_accepted_model_is_evaluated_on_todays_labels_images_and_protocol():
    before, now = a_run(noise=0.6), a_run(noise=0.6, num_images=290)
    now = replace(now, scores_NC=before.scores_NC[:290])  # the same model
    now.targets_NC[7] ^= 1  # a person corrected the labels of an image, ten others left the test
    result = change(before, now, stamp={"name": "asl"})
    assert result["how"] == "paired"
    assert result["metrics"]["mAP"]["difference"] == 0


def test_without_the_accepted_scores_the_figures_are_those_written_then():
    before, now = a_run(noise=0.6), a_run(noise=0.4, seed=1)
    result = change(before, now, kept=False)
    assert (result["how"], result["why"]) == ("as written", "its scores were not kept")
    row = result["metrics"]["mAP"]
    assert row["difference"] == pytest.approx(row["now"] - row["before"])
    assert row["low"] is None


@pytest.mark.parametrize(
    ("stamp", "named"), [({"name": "asl"}, "name"), ({"truth_sha256": "f00"}, "truth_sha256"), ({"ties": "x"}, "ties")]
)
def test_without_the_accepted_scores_figures_measured_otherwise_are_not_compared_and_the_gate_refuses(stamp, named):
    result = change(a_run(), a_run(seed=1), kept=False, stamp=stamp)
    assert result["how"] == "not comparable"
    assert result["metrics"] == {}
    with pytest.raises(GateError, match=f"measured otherwise: {named}.*tasks accept"):
        check_gate(result, metric="mAP", tolerance=1)


def test_images_that_the_accepted_model_never_scored_are_counted():
    result = change(a_run(num_images=290), a_run(), stamp={"images_sha256": "f00"})
    assert result["why"].startswith("it has no scores for 10 of today's 300 images")


def test_settings_of_the_model_may_differ_and_are_listed():
    result = change(a_run(), a_run(threshold_rule="per_label_f1"), model_sha256="b", stamp={"model_sha256": "a"})
    assert result["how"] == "paired"
    assert result["settings"] == [
        {"name": "threshold_rule", "before": "fixed", "now": "per_label_f1"},
        {"name": "model_sha256", "before": "a", "now": "b"},
    ]


def test_the_gate_refuses_what_is_worse_by_more_than_the_tolerance_and_passes_the_rest():
    result = change(a_run(noise=0.3), a_run(noise=0.6, seed=1))
    lost = -result["metrics"]["mAP"]["difference"]
    assert lost > 0
    with pytest.raises(GateError, match=rf"gate: mAP .* worse by {lost:.4f}, 95 % interval -.* The report shows"):
        check_gate(result, metric="mAP", tolerance=lost - 1e-9)
    assert "tolerance" in check_gate(result, metric="mAP", tolerance=lost)


def test_an_accepted_run_is_read_back(tmp_path):
    run, metrics = a_run(), metrics_of(a_run())
    write_scored_run(tmp_path / "evaluation/scored_run.parquet", run)
    tables.write_json(tmp_path / "metrics.json", metrics)
    accept(tmp_path / "metrics.json", tmp_path / "evaluation", tmp_path / "accepted")
    written, kept = read_accepted(tmp_path / "accepted")
    assert written["test"]["mAP"] == pytest.approx(metrics["test"]["mAP"], abs=1e-6)
    np.testing.assert_array_equal(kept.scores_NC, run.scores_NC)


def test_nothing_is_accepted_before_an_evaluation(tmp_path):
    with pytest.raises(TableError, match="no such file"):
        accept(tmp_path / "metrics.json", tmp_path, tmp_path / "accepted")


def test_a_clone_has_nothing_accepted(root):
    assert read_accepted(root / "data/accepted")[0] == {}


def test_without_the_folder_nothing_is_accepted(tmp_path):
    assert read_accepted(tmp_path / "none") == ({}, None)
