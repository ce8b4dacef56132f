"""The F1 family: each published definition on matrices one can count by hand, and against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import precision_recall_fscore_support

from tasks.metrics import f1
from tests.metrics.test_ranking import cases

#            decided        truth
# image 0    a b            a b
# image 1    a              a   c
# image 2    a                b
# image 3    (none)         (none)
DECIDED = np.array([[1, 1, 0], [1, 0, 0], [1, 0, 0], [0, 0, 0]], bool)
TARGETS = np.array([[1, 1, 0], [1, 0, 1], [0, 1, 0], [0, 0, 0]], np.uint8)
KNOWN = np.ones((4, 3), bool)


def counts(axis=0, known=KNOWN):
    return f1.count(DECIDED, TARGETS, known, axis=axis)


def test_counts_of_labels():
    # a: 2 right of 3 predicted, 2 true; b: 1 of 1, 2 true; c: never predicted, 1 true.
    assert (counts().tp.tolist(), counts().predicted.tolist(), counts().positives.tolist()) == (
        [2, 1, 0],
        [3, 1, 0],
        [2, 2, 1],
    )


def test_overall_puts_all_entries_in_one_pot():
    precision, recall, score = f1.overall(counts())
    assert (precision, recall) == pytest.approx((3 / 4, 3 / 5))
    assert score == pytest.approx(2 * 0.75 * 0.6 / 1.35)


def test_the_two_class_definitions_differ():
    cp, cr = (2 / 3 + 1 + 0) / 3, (1 + 1 / 2 + 0) / 3
    assert f1.class_harmonic(counts(), "zero") == pytest.approx((cp, cr, 2 * cp * cr / (cp + cr)))
    assert f1.class_mean(counts(), "zero") == pytest.approx((cp, cr, (4 / 5 + 2 / 3 + 0) / 3))


def test_one_false_prediction_enters_overall_precision_too():
    guarded = counts().with_one_false_prediction()  # c gets a false prediction: 3 right of 5
    assert f1.overall(guarded).precision == pytest.approx(3 / 5)
    assert f1.class_harmonic(guarded, "zero").precision == pytest.approx((2 / 3 + 1 + 0) / 3)


def test_per_image_averages_over_images_and_an_empty_image_counts_zero():
    # precision 1, 1, 0, 0; recall 1, 1/2, 0, 0; F1 1, 2/3, 0, 0.
    assert f1.per_image(counts(axis=1)) == pytest.approx((2 / 4, 1.5 / 4, (1 + 2 / 3) / 4))


@pytest.mark.parametrize(("absent", "expected"), [("zero", 1 / 2), ("excluded", 1.0), ("undefined", np.nan)])
def test_an_absent_label_is_counted_as_zero_left_out_or_makes_the_mean_undefined(absent, expected):
    one_absent = f1.Counts(np.array([2, 0]), np.array([2, 0]), np.array([2, 0]))
    assert f1.class_mean(one_absent, absent).f1 == pytest.approx(expected, nan_ok=True)


def test_unknown_entries_do_not_count():
    known = KNOWN.copy()
    known[2, 0] = False  # the one false prediction of a
    assert f1.overall(counts(known=known)).precision == 1


def test_exact_match_needs_every_known_label_right():
    assert f1.exact_match(DECIDED, TARGETS, KNOWN) == 2 / 4  # images 0 and 3
    known = KNOWN.copy()
    known[1, 2] = False  # image 1 missed only c
    known[3] = False  # image 3 is not counted at all
    assert f1.exact_match(DECIDED, TARGETS, known) == 2 / 3


@pytest.mark.parametrize(("strict", "expected"), [(False, [True, True]), (True, [False, True])])
def test_a_score_equal_to_its_threshold_is_accepted_unless_strict(strict, expected):
    assert f1.decide(np.float32([[0.5, 0.75]]), np.array([0.5, 0.5]), strict=strict).tolist() == [expected]


@given(st.floats(0, 1, width=32), st.floats(0, 1))
def test_decisions_on_float32_scores_equal_those_in_float64(score, threshold):
    scores = np.float32([[score]])
    assert f1.decide(scores, np.array([threshold]))[0, 0] == (score >= threshold)
    assert f1.decide(scores, np.array([threshold]), strict=True)[0, 0] == (score > threshold)


def test_an_infinite_threshold_is_never_reached():
    assert not f1.decide(np.float32([[1.0]]), np.array([np.inf])).any()


def test_top_k_takes_the_best_known_labels_and_ties_go_to_the_first():
    scores = np.float32([[0.1, 0.9, 0.5, 0.5], [0.3, 0.2, 0.1, 0.0]])
    known = np.array([[True, True, True, True], [True, True, False, False]])
    assert f1.top_k(scores, known).tolist() == [[1, 2, 3], [0, 1, -1]]
    assert f1.top_k(scores, known, k=2).tolist() == [[1, 2], [0, 1]]


def test_counts_of_chosen_columns():
    chosen = f1.count_chosen(np.array([[0, 1], [0, -1], [1, 0], [-1, -1]]), TARGETS, TARGETS.sum(axis=0))
    assert (chosen.tp.tolist(), chosen.predicted.tolist()) == ([2, 2, 0], [3, 2, 0])


def test_group_accuracy_counts_images_with_exactly_one_present_label():
    scores = np.float32([[0.9, 0.1, 0.0], [0.2, 0.3, 0.0], [0.9, 0.8, 0.0]])
    targets = np.array([[1, 0, 1], [1, 0, 1], [1, 1, 1]], np.uint8)
    known = np.ones((3, 3), bool)
    assert f1.group_accuracy(scores, targets, known, [0, 1]) == 1 / 2
    assert np.isnan(f1.group_accuracy(scores, np.zeros_like(targets), known, [0, 1]))
    assert np.isnan(f1.group_accuracy(scores, targets, known))


def test_several_groups_must_all_be_right_on_the_same_image():
    scores = np.float32([[0.9, 0.1, 0.7, 0.6], [0.9, 0.1, 0.2, 0.6], [0.1, 0.9, 0.8, 0.2], [0.9, 0.1, 0.9, 0.1]])
    targets = np.array([[1, 0, 1, 0], [1, 0, 1, 0], [0, 1, 1, 0], [1, 0, 0, 0]], np.uint8)  # the last has one only
    known = np.ones((4, 4), bool)
    assert f1.group_accuracy(scores, targets, known, [0, 1]) == 1
    assert f1.group_accuracy(scores, targets, known, [2, 3]) == 2 / 3
    assert f1.group_accuracy(scores, targets, known, [0, 1], [2, 3]) == 2 / 3


@given(cases(), st.floats(-1, 2))
def test_all_definitions_equal_scikit_learn_where_everything_is_known(case, threshold):
    scores, targets, _ = case
    known = np.ones(targets.shape, bool)
    decided = f1.decide(scores, np.full(scores.shape[1], threshold))

    def theirs(average):
        return precision_recall_fscore_support(targets, decided, average=average, zero_division=0)[:3]

    per_label, per_image = (f1.count(decided, targets, known, axis=axis) for axis in (0, 1))
    if targets.shape[1] > 1:  # scikit-learn takes one column for single-label data
        assert f1.overall(per_label) == pytest.approx(theirs("micro"))
        assert f1.class_mean(per_label, "zero") == pytest.approx(theirs("macro"))
        assert f1.per_image(per_image) == pytest.approx(theirs("samples"))
