"""Each protocol's numbers: on hand-sized scores, on the real detector, and the stamp that tells them apart."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from tasks.core.errors import ProtocolError
from tasks.metrics import METRICS, PROTOCOLS, Scored
from tasks.metrics.protocols import protocol_named


def measured(protocol, scores, targets, known, threshold=None):
    thresholds = np.full(scores.shape[1], protocol.threshold if threshold is None else threshold)
    scored = Scored(scores, targets, known, thresholds, protocol)
    return {name: metric(scored) for name, metric in METRICS.items()}


# ---------------------------------------------------------------- the real detector

STATED_AP = {
    "aeroplane": 0.9775, "bicycle": 0.9489, "bird": 0.9437, "boat": 0.9323, "bottle": 0.7364, "bus": 0.9124,
    "car": 0.9728, "cat": 0.9494, "chair": 0.7732, "cow": 0.9402, "diningtable": 0.8449, "dog": 0.9325,
    "horse": 0.9509, "motorbike": 0.9466, "person": 0.9867, "pottedplant": 0.8203, "sheep": 0.9464, "sofa": 0.8414,
    "train": 0.9472, "tvmonitor": 0.9050,
}  # fmt: skip


@pytest.mark.parametrize(("unknown", "stated"), [("ignored", 0.9104), ("absent", 0.8977), ("present", 0.8939)])
def test_the_real_detector_reaches_the_stated_map_for_each_reading_of_difficult_objects(detector, unknown, stated):
    protocol = replace(PROTOCOLS["tagwright"], unknown_in_ap=unknown)
    result = measured(protocol, detector.scores_NC, detector.targets_NC, detector.known_NC)
    assert round(result["mAP"], 4) == stated
    targets = np.where(detector.known_NC, detector.targets_NC, unknown == "present")
    counted = detector.known_NC | (unknown != "ignored")
    theirs = [
        average_precision_score(targets[counted[:, c], c], detector.scores_NC[counted[:, c], c]) for c in range(20)
    ]
    assert result["mAP"] == pytest.approx(np.mean(theirs), abs=1e-12)


def test_the_real_detector_reaches_the_stated_ap_of_every_label(detector):
    scored = Scored(
        detector.scores_NC, detector.targets_NC, detector.known_NC, np.full(20, 0.5), PROTOCOLS["tagwright"]
    )
    assert dict(zip(detector.labels, scored.ap_C.round(4).tolist(), strict=True)) == STATED_AP


@pytest.mark.parametrize("name", ["asl", "mlgcn", "otx", "voc07"])
def test_a_protocol_equals_its_definition_written_out_image_by_image(detector, name):
    """Independent loops over the images of three labels, in the words of each published definition."""
    protocol, columns = PROTOCOLS[name], [4, 6, 16]
    scores, targets, known = (m[:, columns] for m in (detector.scores_NC, detector.targets_NC, detector.known_NC))
    ours = measured(protocol, scores, targets, known)
    states = np.where(known, targets.astype(int), -1)
    ap = [_walked_ap(scores[:, c], states[:, c], name) for c in range(3)]
    assert ours["mAP"] == pytest.approx(np.mean(ap), abs=1e-12)

    f1_counts = [_walked_counts(scores[:, c], states[:, c], name) for c in range(3)]
    tp, predicted, positives = (np.array(v, float) for v in zip(*f1_counts, strict=True))
    overall = tp.sum() / predicted.sum(), tp.sum() / positives.sum()
    precision, recall = tp / predicted, tp / positives
    class_f1 = (
        np.mean(2 * precision * recall / (precision + recall))
        if name == "asl"
        else 2 * precision.mean() * recall.mean() / (precision.mean() + recall.mean())
    )
    assert (ours["OP"], ours["OR"]) == pytest.approx(overall)
    assert (ours["CP"], ours["CR"]) == pytest.approx((precision.mean(), recall.mean()))
    assert ours["CF1"] == pytest.approx(class_f1)


def _walked_ap(scores, states, name):
    images = list(range(len(scores)))
    if name == "asl":  # ascending, then reversed: of tied images the last comes first; difficult objects are negatives
        images = sorted(images, key=lambda i: scores[i])[::-1]
        states = np.where(states == -1, 0, states)
    else:
        images = sorted(images, key=lambda i: -scores[i])
    hits, seen, points = 0, 0, []
    for i in images:
        if states[i] == -1:
            continue
        seen += 1
        hits += states[i] == 1
        points.append((hits, hits / seen, states[i] == 1))
    if name == "voc07":
        return sum(max((p for h, p, _ in points if 10 * h >= k * hits), default=0) for k in range(11)) / 11
    return sum(p for _, p, is_hit in points if is_hit) / hits


def _walked_counts(scores, states, name):
    tp = predicted = positives = 0
    for score, state in zip(scores, states, strict=True):
        if state == -1 and name == "voc07":
            continue
        accepted = score > 0.8 if name == "asl" else score >= 0.5
        predicted += accepted
        positives += state == 1
        tp += accepted and state == 1
    return tp, predicted, positives


# ---------------------------------------------------------------- hand-sized

SCORES = np.float32([[0.9, 0.6, 0.1], [0.8, 0.2, 0.2], [0.3, 0.4, 0.3]])
TARGETS = np.array([[1, 0, 0], [0, 0, 0], [0, 1, 0]], np.uint8)
KNOWN = np.array([[1, 1, 1], [0, 1, 1], [1, 1, 1]], bool)  # the last label has no positive


@pytest.mark.parametrize(
    ("name", "stated"),
    [
        ("tagwright", (1 + 1 / 2) / 2),  # the unknown entry is passed over, the absent label left out
        ("asl", (1 + 1 / 2 + 0) / 3),  # the absent label counts 0
        ("otx", (1 + 1 / 2 + 0) / 3),
        ("mlgcn", np.nan),  # the absent label makes the mean undefined
        ("voc07", (1 + 1 / 2) / 2),
    ],
)
def test_absent_labels_in_the_mean(name, stated):
    assert measured(PROTOCOLS[name], SCORES, TARGETS, KNOWN)["mAP"] == pytest.approx(stated, nan_ok=True)


@pytest.mark.parametrize(("name", "stated"), [("tagwright", 1 / 2), ("otx", 1 / 3), ("mlgcn", 1 / 4)])
def test_overall_precision_reads_unknown_entries_and_empty_labels_as_the_protocol_does(name, stated):
    # At 0.5: label 0 is predicted on images 0 (right) and 1 (unknown), label 1 on image 0 (wrong), label 2 nowhere.
    # tagwright 1 of 2; otx counts the unknown as wrong, 1 of 3; mlgcn adds one false prediction for label 2, 1 of 4.
    assert measured(PROTOCOLS[name], SCORES, TARGETS, KNOWN)["OP"] == pytest.approx(stated)


def test_the_two_top3_definitions_differ_where_the_third_score_is_low():
    scores = np.float32([[0.9, 0.8, 0.2, 0.1]])
    targets, known = np.array([[1, 1, 0, 0]], np.uint8), np.ones((1, 4), bool)
    fixed = measured(replace(PROTOCOLS["mlgcn"], top3="fixed"), scores, targets, known)
    thresholded = measured(PROTOCOLS["mlgcn"], scores, targets, known)
    # Both predict labels 0 and 1; fixed adds label 2, and the guard one false prediction for each label left.
    assert fixed["top3_OF1"] == pytest.approx(2 * (2 / 4) * 1 / (2 / 4 + 1))
    assert thresholded["top3_OF1"] == pytest.approx(2 * (2 / 4) * 1 / (2 / 4 + 1))
    plain = replace(PROTOCOLS["mlgcn"], never_predicted="zero")
    assert measured(plain, scores, targets, known)["top3_OF1"] == 1
    assert measured(replace(plain, top3="fixed"), scores, targets, known)["top3_OF1"] == pytest.approx(0.8)


def test_an_unknown_protocol_is_named_with_the_nearest():
    with pytest.raises(ProtocolError, match=r"'als' is unknown\. Did you mean 'asl'\?"):
        protocol_named("als")


# ---------------------------------------------------------------- stamps


def stamp(image_ids=("1", "2"), labels=("cat", "dog"), **changes):
    options = {"absent_labels": [], "threshold_rule": "fixed", "weights_kind": "ema", **changes}
    return PROTOCOLS["tagwright"].stamp(image_ids=image_ids, labels=labels, **options)


def test_a_stamp_does_not_depend_on_the_order_of_images_and_labels():
    assert stamp() == stamp(image_ids=("2", "1"), labels=("dog", "cat"))


@pytest.mark.parametrize(
    "other",
    [
        {"image_ids": ("1", "3")},
        {"image_ids": ("12", "")},  # the same letters, cut elsewhere
        {"labels": ("cat", "dogs")},
        {"threshold_rule": "global_f1"},
        {"weights_kind": "raw"},
    ],
)
def test_anything_measured_differently_gives_another_stamp(other):
    assert stamp() != stamp(**other)
