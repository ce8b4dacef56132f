"""thresholds.json."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tasks.core.errors import TableError
from tasks.thresholds.document import read_thresholds, write_thresholds
from tasks.thresholds.fit import FittedThresholds
from tasks.thresholds.probability_calibration import CALIBRATORS, calibrate


def fitted(values):
    num = len(values)
    nan = np.full(num, np.nan)
    return FittedThresholds(np.array(values), np.arange(num), [""] * num, np.ones(num), nan, nan)


def test_thresholds_come_back_in_the_order_asked_for(tmp_path):
    path = tmp_path / "thresholds.json"
    write_thresholds(path, fitted([0.25, np.inf]), ["cat", "chien à"], rule="f_beta", fit_on="calibration")
    saved = read_thresholds(path, ["chien à", "cat"])
    assert saved.values_C.tolist() == [np.inf, 0.25]
    assert (saved.rule, saved.fit_on) == ("f_beta", "calibration")


def test_a_tiny_threshold_keeps_its_digits(tmp_path):
    path = tmp_path / "thresholds.json"
    tiny = 3.00000123e-8  # six decimals would make it 0, and every image positive
    write_thresholds(path, fitted([tiny]), ["rare"], rule="per_label_f1", fit_on="train")
    assert read_thresholds(path, ["rare"]).values_C[0] == tiny


def test_the_file_is_sorted_and_plain_json(tmp_path):
    path = tmp_path / "thresholds.json"
    write_thresholds(path, fitted([0.5, 0.5]), ["b", "a"], rule="fixed", fit_on="calibration")
    document = json.loads(path.read_text(encoding="utf-8"))
    assert list(document["labels"]) == ["a", "b"]
    assert document["labels"]["a"] == {
        "threshold": 0.5,
        "support": 1,
        "shrinkage_weight": 1.0,
        "low": None,
        "high": None,
        "reason": "",
    }


def test_a_missing_label_is_named_with_the_nearest(tmp_path):
    path = tmp_path / "thresholds.json"
    write_thresholds(path, fitted([0.5]), ["person"], rule="fixed", fit_on="calibration")
    with pytest.raises(TableError, match=r"no threshold for label 'perosn'\. Did you mean 'person'\?"):
        read_thresholds(path, ["perosn"])


@pytest.mark.parametrize("content", [{"test": {}}, 0.5, None, ["cat"], {"labels": 1}, {"labels": {"\ud800": {}}}])
def test_another_json_file_is_refused(content, tmp_path):
    (tmp_path / "metrics.json").write_text(json.dumps(content))
    with pytest.raises(TableError, match=r"not a thresholds\.json"):
        read_thresholds(tmp_path / "metrics.json", ["cat"])


@pytest.mark.parametrize("method", CALIBRATORS)
def test_calibrated_probabilities_come_back_in_the_order_asked_for(tmp_path, method):
    rng = np.random.default_rng(0)
    scores = rng.random((400, 2)).astype(np.float32)
    truth = (rng.random((400, 2)) < scores**2).astype(np.uint8), np.ones((400, 2), bool)
    calibration = calibrate(scores, *truth, method)
    path = tmp_path / "thresholds.json"
    write_thresholds(path, fitted([0.5, 0.5]), ["a", "b"], rule="fixed", fit_on="train", calibration=calibration)
    saved = read_thresholds(path, ["b", "a"]).calibration
    assert saved.method == method
    np.testing.assert_array_equal(saved(scores[:, ::-1]), calibration(scores)[:, ::-1])


def test_scores_that_were_not_calibrated_leave_no_trace_in_the_file(tmp_path):
    path = tmp_path / "thresholds.json"
    scores = np.zeros((1, 1), np.float32)
    nothing = calibrate(scores, scores.astype(np.uint8), scores == 0, "none")
    write_thresholds(path, fitted([0.5]), ["a"], rule="fixed", fit_on="train", calibration=nothing)
    assert set(json.loads(path.read_text(encoding="utf-8"))) == {"rule", "fit_on", "labels"}
    np.testing.assert_array_equal(read_thresholds(path, ["a"]).calibration(scores + 0.25), scores + 0.25)
