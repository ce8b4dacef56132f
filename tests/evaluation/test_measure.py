"""`evaluate`: one JSON-ready dict."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tasks.core.errors import ProtocolError
from tasks.evaluation.curves import precision_recall_curves
from tasks.evaluation.measure import evaluate
from tasks.metrics import METRICS
from tasks.metrics.ranking import rank

SCORES = np.float32([[0.9, 0.2, 0.1], [0.4, 0.8, 0.3], [0.7, 0.3, 0.2], [0.1, 0.6, 0.4]])
TARGETS = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 0], [1, 1, 0]], np.uint8)
KNOWN = np.array([[1, 1, 1], [1, 1, 1], [0, 1, 1], [1, 0, 1]], bool)
LABELS, IDS = ["cat", "dog", "chat ô"], ["a", "b", "c", "d"]


def result(**options):
    return evaluate(SCORES, TARGETS, KNOWN, LABELS, IDS, **options)


def test_the_result_is_json_with_every_metric_and_every_label():
    measured = json.loads(json.dumps(result(bootstrap=20), allow_nan=False))
    assert list(measured["metrics"]) == list(METRICS)
    assert list(measured["labels"]) == LABELS
    assert measured["labels"]["dog"]["positives"] == 1
    assert measured["labels"]["dog"]["known"] == 3


def test_a_label_without_positives_is_listed_and_undefined():
    measured = result()
    assert measured["protocol"]["labels_without_positives"] == ["chat ô"]
    assert measured["labels"]["chat ô"]["AP"] is None
    assert measured["metrics"]["mAP"] == pytest.approx(
        (measured["labels"]["cat"]["AP"] + measured["labels"]["dog"]["AP"]) / 2
    )


def test_without_thresholds_the_protocols_own_is_used_and_stamped():
    assert result(protocol="asl")["labels"]["cat"]["threshold"] == 0.8
    assert result(protocol="asl")["protocol"]["threshold_rule"] == "fixed 0.8"


def test_an_infinite_threshold_is_never_predicted_and_null_in_json():
    measured = result(thresholds_C=np.array([np.inf, 0.5, 0.5]), threshold_rule="by hand")
    assert measured["labels"]["cat"]["threshold"] is None
    assert measured["labels"]["cat"]["predicted"] == 0


def test_exclusive_groups_are_named_by_their_labels():
    # Images a and b are right; c has neither; on d the unknown dog does not compete with the present cat.
    assert result(groups={"animal": ["cat", "dog"]})["metrics"]["group_accuracy"] == 1
    assert result(groups={"animal": ["cat", "chat ô"]})["metrics"]["group_accuracy"] == 1 / 2
    assert result(groups={"animal": ["cat", "dog"]})["groups"] == {"animal": 1}


def test_no_intervals_unless_asked():
    assert "intervals" not in result()
    low, high = result(bootstrap=50)["intervals"]["metrics"]["OF1"]
    assert 0 <= low <= high <= 1


def test_the_same_seed_gives_the_same_intervals():
    assert result(bootstrap=30, seed=4) == result(bootstrap=30, seed=4)
    assert result(bootstrap=30, seed=4)["intervals"] != result(bootstrap=30, seed=5)["intervals"]


def test_an_unknown_protocol_is_refused():
    with pytest.raises(ProtocolError):
        result(protocol="coco")


def test_curves_run_from_the_strictest_point_to_the_loosest():
    curves = precision_recall_curves(rank(SCORES, TARGETS, KNOWN).points, LABELS)
    # cat: known 0.9 yes, 0.4 no, 0.1 yes -> precision 1, 2/3 at recall 1/2, 1.
    assert curves["cat"]["recall"] == [0.5, 1.0]
    assert curves["cat"]["precision"] == pytest.approx([1, 2 / 3])
    assert curves["chat ô"] == {"threshold": [], "precision": [], "recall": []}


def test_a_long_curve_is_thinned_and_keeps_both_ends():
    scores = np.linspace(0, 1, 1000, dtype=np.float32)[:, None]
    points = rank(scores, np.ones((1000, 1), np.uint8), np.ones((1000, 1), bool)).points
    curve = precision_recall_curves(points, ["x"], max_points=50)["x"]
    assert len(curve["recall"]) == 50
    assert (curve["recall"][0], curve["recall"][-1]) == (0.001, 1.0)
