"""Where a model is wrong: hardest mistakes, confused pairs, labels predicted together."""

from __future__ import annotations

from functools import partial

import numpy as np

from tasks.evaluation.diagnosis import confusions, cooccurrence_gaps, examples_by_label, worst_mistakes

# cat, dog, animal; the third image's dog is unknown.
TARGETS = np.array([[1, 0, 1], [1, 1, 1], [1, 0, 1], [0, 1, 1]], np.uint8)
KNOWN = np.array([[1, 1, 1], [1, 1, 1], [1, 0, 1], [1, 1, 1]], bool)
SCORES = np.float32([[0.2, 0.9, 0.9], [0.9, 0.8, 0.9], [0.9, 0.9, 0.4], [0.6, 0.7, 0.9]])
HALF = np.full(3, 0.5)
ALL = partial(worst_mistakes, most=9, most_of_a_label=9)


def test_the_worst_mistakes_are_furthest_from_their_threshold_and_unknown_entries_are_none():
    positions = [(m["row"], m["column"], m["kind"]) for m in ALL(SCORES, TARGETS, KNOWN, HALF)]
    assert positions == [
        (0, 1, "false positive"), (0, 0, "false negative"), (3, 0, "false positive"), (2, 2, "false negative")
    ]  # fmt: skip


def test_one_label_does_not_fill_the_list_of_the_worst():
    mistakes = worst_mistakes(SCORES, TARGETS, KNOWN, HALF, most=9, most_of_a_label=1)
    assert [(m["row"], m["column"]) for m in mistakes] == [(0, 1), (0, 0), (2, 2)]  # cat's second, (3, 0), is left out
    assert worst_mistakes(SCORES, TARGETS, KNOWN, HALF, most=2, most_of_a_label=1) == mistakes[:2]


def test_a_label_that_is_never_predicted_is_missed_by_what_its_score_lacks_to_one():
    never_cat = np.array([np.inf, 0.5, 0.5])  # cat: 0.2, 0.9, 0.9 on the three images with one
    mistakes = ALL(SCORES, TARGETS, KNOWN, never_cat)
    assert [(m["row"], m["column"]) for m in mistakes] == [(0, 0), (0, 1), (1, 0), (2, 0), (2, 2)]


def test_the_examples_of_a_label_are_its_surest_mistakes_and_its_surest_right_decisions():
    cat, dog, animal = examples_by_label(SCORES, TARGETS, KNOWN, HALF, most=1)
    assert cat == {"false positive": [3], "false negative": [0], "true positive": [1]}
    assert dog == {"false positive": [0], "false negative": [], "true positive": [1]}  # image 2's dog is unknown
    assert animal == {"false positive": [], "false negative": [2], "true positive": [0]}


def test_a_missed_label_is_taken_for_the_one_claimed_in_its_place():
    assert confusions(SCORES, TARGETS, KNOWN, HALF) == [
        {"missed": 0, "taken_for": 1, "images": 1, "share_of_missed": 1.0}
    ]


def test_pairs_are_counted_together_in_truth_and_in_decisions():
    # cat and dog: true on image 1; predicted on 1 and 3, where the unknown dog of image 2 does not count.
    assert cooccurrence_gaps(SCORES >= 0.5, TARGETS, KNOWN, implications=[(0, 2), (1, 2)]) == [
        {"a": 0, "b": 1, "together": 1, "predicted": 2}
    ]


def test_a_label_and_what_it_implies_are_a_pair_only_where_nobody_says_so():
    pairs = {(p["a"], p["b"]) for p in cooccurrence_gaps(SCORES >= 0.5, TARGETS, KNOWN)}
    assert (1, 2) in pairs
