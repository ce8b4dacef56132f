"""Slices: the metrics of a part are those of the part alone."""

from __future__ import annotations

import numpy as np
import pytest

from tasks.evaluation.measure import evaluate
from tasks.evaluation.slices import Slice, by_image, by_object_size, by_rarity, by_short_side, measure_slices
from tasks.metrics.protocols import PROTOCOLS
from tasks.metrics.scored import Scored

SCORES = np.float32([[0.9, 0.2], [0.4, 0.8], [0.7, 0.3], [0.1, 0.6]])
TARGETS = np.array([[1, 0], [0, 1], [0, 0], [1, 1]], np.uint8)
KNOWN = np.ones((4, 2), bool)


def scored(known=KNOWN, protocol="tagwright"):
    return Scored(SCORES, TARGETS, known, np.full(2, 0.5), PROTOCOLS[protocol])


def test_a_slice_of_images_measures_those_images_alone():
    first, second = measure_slices(scored(), by_image("source", ["a", "b", "b", "a"]))
    alone = evaluate(SCORES[[0, 3]], TARGETS[[0, 3]], KNOWN[:2], ["x", "y"], ["0", "3"], np.full(2, 0.5))["metrics"]
    assert (first["by"], first["value"], first["images"], first["labels"], first["positives"]) == (
        "source",
        "a",
        2,
        2,
        3,
    )
    assert first["metrics"] == {name: pytest.approx(alone[name]) for name in first["metrics"]}
    assert second["value"] == "b"


def test_a_slice_of_labels_measures_those_labels_alone():
    (row,) = measure_slices(scored(), [Slice("rarity", "rare", np.array([[True, False]]))])
    # label x: 0.9 yes, 0.7 no, 0.4 no, 0.1 yes -> AP (1 + 2/4) / 2; at 0.5 one of two is right, one of two predicted.
    assert (row["labels"], row["positives"]) == (1, 2)
    assert row["metrics"]["mAP"] == pytest.approx(0.75)
    assert (row["metrics"]["OP"], row["metrics"]["OR"]) == (0.5, 0.5)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_entries_outside_of_the_slice_are_no_negatives_of_it_under_any_protocol(protocol):
    entries = np.array([[True, True], [False, True], [False, True], [True, True]])
    (row,) = measure_slices(scored(protocol=protocol), [Slice("some", "entries", entries)])
    assert row["metrics"]["mAP"] == pytest.approx(1)  # what outscores a positive of x lies outside


def test_a_slice_without_a_known_positive_is_left_out():
    known = KNOWN.copy()
    known[[0, 3], 0] = known[[1, 3], 1] = False
    assert measure_slices(scored(known), by_image("source", ["a"] * 4)) == []


def test_labels_are_rare_up_to_10_training_images_and_common_up_to_100():
    rare, common, frequent = by_rarity([10, 11, 100, 101])
    assert rare.entries_NC.tolist() == [[True, False, False, False]]
    assert common.entries_NC.tolist() == [[False, True, True, False]]
    assert frequent.entries_NC.tolist() == [[False, False, False, True]]


def test_image_size_is_the_shorter_side_in_fixed_bands():
    bands = {s.value: s.entries_NC[:, 0].tolist() for s in by_short_side([64, 128, 255, 4000])}
    assert bands["under 128 px"] == [True, False, False, False]
    assert bands["128 to 256 px"] == [False, True, True, False]
    assert bands["1024 px or more"] == [False, False, False, True]


def test_objects_of_one_size_stand_against_all_negatives():
    share = np.array([[0.005, np.nan], [np.nan, 0.05], [np.nan, np.nan], [0.5, np.nan]])
    tiny, middling, large = by_object_size(share, TARGETS)
    assert tiny.entries_NC.tolist() == [[True, True], [True, False], [True, True], [False, False]]
    assert middling.entries_NC[:, 1].tolist() == [True, True, True, False]
    assert large.entries_NC[:, 0].tolist() == [False, True, True, True]
