"""`compare`: paired intervals of a difference, and a refusal of unlike runs that says what is unlike."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from tasks.core.errors import ProtocolError
from tasks.evaluation.comparison import compare
from tasks.evaluation.measure import evaluate
from tasks.evaluation.scored_run import ScoredRun
from tasks.metrics.protocols import PROTOCOLS


def a_run(noise=0.1, num_images=300, seed=0, group_ids=None, **stamp):
    """Three labels of one truth; scores are the truth with noise of that size."""
    truth = np.random.default_rng(0)
    targets = (truth.random((num_images, 3)) < 0.4).astype(np.uint8)
    known = truth.random(targets.shape) < 0.9
    scores = targets + noise * np.random.default_rng(seed + 1).standard_normal(targets.shape)
    ids, labels = [f"{n:03}" for n in range(num_images)], ["cat", "dog", "cow"]
    options = {"absent_labels": [], "threshold_rule": "fixed", "weights_kind": "ema", **stamp}
    stamped = PROTOCOLS["tagwright"].stamp(image_ids=ids, labels=labels, **options)
    return ScoredRun(
        ids, labels, np.clip(scores, 0, 1).astype(np.float32), targets, known, np.full(3, 0.5), group_ids, stamped
    )


def test_the_values_are_those_of_evaluate_and_the_interval_holds_their_difference():
    a, b = a_run(noise=0.6), a_run(noise=0.5, seed=1)
    result = compare(a, b, bootstrap=200)
    for run, side in ((a, "a"), (b, "b")):
        alone = evaluate(run.scores_NC, run.targets_NC, run.known_NC, run.labels, run.image_ids, run.thresholds_C)
        for name, row in result["metrics"].items():
            assert row[side] == pytest.approx(alone["metrics"][name])
        assert result["labels"]["dog"]["AP"][side] == pytest.approx(alone["labels"]["dog"]["AP"])
        assert result["labels"]["dog"]["F1"][side] == pytest.approx(alone["labels"]["dog"]["F1"])
    row = result["metrics"]["mAP"]
    assert row["difference"] == pytest.approx(row["b"] - row["a"])
    assert row["low"] <= row["difference"] <= row["high"]


def test_a_clearly_better_model_is_called_better():
    result = compare(a_run(noise=0.8), a_run(noise=0.3, seed=1), bootstrap=200)
    assert result["metrics"]["mAP"]["better"] == "b"
    assert compare(a_run(noise=0.3), a_run(noise=0.8, seed=1), bootstrap=200)["metrics"]["OF1"]["better"] == "a"


def test_a_model_is_not_better_than_itself():
    result = compare(a_run(), a_run(), bootstrap=50)
    assert {row["better"] for row in result["metrics"].values()} == {None}
    assert {row["difference"] for row in result["metrics"].values()} == {0}


def test_pairing_makes_the_interval_narrower_than_unpaired_ones_would_be():
    a = a_run(noise=0.7)
    b = replace(a, scores_NC=np.clip(a.scores_NC + 0.01, 0, 1))
    result = compare(a, b, bootstrap=200)
    unpaired = evaluate(a.scores_NC, a.targets_NC, a.known_NC, a.labels, a.image_ids, a.thresholds_C, bootstrap=200)[
        "intervals"
    ]["metrics"]["OF1"]
    assert result["metrics"]["OF1"]["high"] - result["metrics"]["OF1"]["low"] < 0.5 * (unpaired[1] - unpaired[0])


def test_the_order_of_images_and_labels_does_not_matter():
    a, b = a_run(), a_run(noise=0.5, seed=1)
    images, labels = np.random.default_rng(0).permutation(300), [2, 0, 1]
    entries = [m[np.ix_(images, labels)] for m in (b.scores_NC, b.targets_NC, b.known_NC)]
    turned = ScoredRun(
        [b.image_ids[i] for i in images], [b.labels[c] for c in labels], *entries, b.thresholds_C[labels], None, b.stamp
    )
    assert compare(a, turned, bootstrap=50) == compare(a, b, bootstrap=50)


def test_duplicate_groups_are_drawn_together():
    groups = [str(n // 10) for n in range(300)]
    result = compare(a_run(group_ids=groups), a_run(seed=1, group_ids=groups), bootstrap=20)
    assert result["bootstrap"]["drawn_by"] == "group"


def test_the_answer_is_json_and_an_absent_label_is_null():
    a, b = a_run(), a_run(seed=1)
    for run in (a, b):
        run.targets_NC[:, 1] = 0
    result = json.loads(json.dumps(compare(a, b, bootstrap=20), allow_nan=False))
    assert result["labels"]["dog"]["AP"] == {
        "a": None, "b": None, "difference": None, "low": None, "high": None, "better": None
    }  # fmt: skip


def test_other_test_images_are_refused():
    with pytest.raises(ProtocolError, match=r"the test images differ: A has 300, B has 299.*'299' only in A"):
        compare(a_run(), a_run(num_images=299))


def test_other_labels_are_refused():
    with pytest.raises(ProtocolError, match=r"the test labels differ.*'dog' only in A"):
        compare(a_run(), replace(a_run(), labels=["cat", "hound", "cow"]))


def test_another_truth_is_refused():
    other = a_run()
    other.targets_NC[7, 1] ^= 1
    other.known_NC[7, 1] = True
    with pytest.raises(ProtocolError, match=r"disagree on 1 \(image, label\) pairs, e\.g\. image '007', label 'dog'"):
        compare(a_run(), other)


@pytest.mark.parametrize(
    ("stamp", "message"),
    [
        ({"threshold_rule": "per_label_f1"}, "threshold_rule is 'fixed' in A and 'per_label_f1' in B"),
        ({"weights_kind": "raw"}, "weights_kind is 'ema' in A and 'raw' in B"),
    ],
)
def test_unlike_measuring_is_refused_and_named(stamp, message):
    with pytest.raises(ProtocolError) as caught:
        compare(a_run(), a_run(**stamp))
    assert message in str(caught.value)


def test_unlike_protocols_are_refused_and_every_difference_is_named():
    b = a_run()
    b = replace(b, stamp={**b.stamp, "name": "asl", "ties": "later_first"})
    with pytest.raises(ProtocolError, match=r"name is 'tagwright' in A and 'asl' in B; ties is 'grouped' in A"):
        compare(a_run(), b)


def test_what_only_one_run_states_is_not_held_against_it():
    b = a_run()
    stamp = {**b.stamp, "relations": True, "model_sha256": "f00", "weights_kind": "unknown"}
    assert compare(a_run(), replace(b, stamp=stamp), bootstrap=5)["metrics"]["mAP"]["difference"] == 0
