"""Each rule on scores whose best operating point one can see."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.registry import Choice
from tasks.metrics.ranking import rank, rank_pooled
from tasks.thresholds import RULES
from tasks.thresholds.rules import (
    ExpectedCost,
    FBeta,
    Fixed,
    GlobalF1,
    PerLabelF1,
    PrecisionRecallTarget,
    TargetPrecision,
    TargetRecall,
    between,
    precision_lower_bound,
)
from tests.metrics.test_ranking import cases
from tests.thresholds.conftest import cuts_of

#                 yes  yes  no   yes  no   no
SCORES, TARGETS = [0.9, 0.8, 0.6, 0.4, 0.2, 0.1], [1, 1, 0, 1, 0, 0]
# accept >= 0.9: P 1, R 1/3, F1 1/2 | >= 0.8: P 1, R 2/3, F1 4/5 | >= 0.4: P 3/4, R 1, F1 6/7


def value(rule, scores=SCORES, targets=TARGETS):
    thresholds = rule(*cuts_of(scores, targets))
    return thresholds.values_C[0], thresholds.reasons[0]


def test_fixed_is_what_was_given():
    assert value(Fixed(threshold=0.37)) == (0.37, "")


def test_per_label_f1_takes_the_best_of_all_points_half_way_to_the_next_score():
    assert value(PerLabelF1()) == (pytest.approx(0.3), "")  # between 0.4 and 0.2


def test_f_beta_below_one_prefers_precision():
    assert value(FBeta(beta=0.5)) == (pytest.approx(0.7), "")  # between 0.8 and 0.6


def test_the_paper_trap_of_nan_where_nothing_is_right_is_not_picked():
    # The best score is a negative: precision and recall of the strictest operating point are 0 / 1 and 0.
    assert value(PerLabelF1(), [0.9, 0.5, 0.1], [0, 1, 0])[0] == pytest.approx(0.3)


def test_global_f1_is_one_threshold_for_all_labels():
    scores = [[0.9, 0.5], [0.8, 0.4], [0.1, 0.3], [0.1, 0.2]]
    thresholds = GlobalF1()(*cuts_of(scores, [[1, 1], [1, 1], [0, 0], [0, 0]]))
    assert thresholds.values_C == pytest.approx([0.35, 0.35])


def test_target_precision_takes_the_most_recall_that_keeps_it():
    assert value(TargetPrecision(precision=0.9, confidence=0.5))[0] == pytest.approx(0.7)
    assert value(TargetPrecision(precision=0.75, confidence=0.5))[0] == pytest.approx(0.3)


def test_target_precision_asks_for_evidence():
    # 2 of 2 right bounds the precision at 0.425 only (3 of 4 at 0.356), so the nearest point to 0.9 is the one at 0.8.
    threshold, reason = value(TargetPrecision(precision=0.9, confidence=0.95))
    assert (threshold, reason) == (pytest.approx(0.7), "precision 0.9 not reached; the nearest operating point")
    assert value(TargetPrecision(precision=0.42, confidence=0.95))[1] == ""


def test_target_recall_takes_the_most_precision_that_keeps_it():
    assert value(TargetRecall(recall=0.6))[0] == pytest.approx(0.7)
    assert value(TargetRecall(recall=0.7))[0] == pytest.approx(0.3)


def test_the_90_50_rule_wants_both_and_takes_the_most_recall():
    assert value(PrecisionRecallTarget(precision=0.7, recall=0.5)) == (pytest.approx(0.3), "")
    assert value(PrecisionRecallTarget(precision=0.9, recall=0.5)) == (pytest.approx(0.7), "")


def test_a_label_that_cannot_have_both_is_not_deliverable_and_keeps_its_best_f1():
    threshold, reason = value(PrecisionRecallTarget(precision=0.9, recall=0.8))
    assert threshold == value(PerLabelF1())[0]
    assert reason == "not deliverable: no operating point has precision 0.9 and recall 0.8; best F1 instead"


@dataclasses.dataclass
class Deliver:
    precision: float
    recall: float


def test_labels_may_have_targets_of_their_own():
    points, pooled = cuts_of(list(zip(SCORES, SCORES, strict=True)), list(zip(TARGETS, TARGETS, strict=True)))
    rule = TargetPrecision([Deliver(0.7, 0.5), None], precision=0.9, confidence=0.5)
    assert rule(points, pooled).values_C == pytest.approx([0.3, 0.7])
    assert len(rule(pooled, pooled).values_C) == 1  # all labels together take the default


def test_expected_cost_weighs_both_mistakes():
    # Costs of false positive, false negative 1, 1: accept >= 0.4 makes one mistake. 3, 1: accept >= 0.8 makes one miss.
    assert value(ExpectedCost())[0] == pytest.approx(0.7)  # 2 saved at both operating points; the stricter one
    assert value(ExpectedCost(false_positive=0.5))[0] == pytest.approx(0.3)
    assert value(ExpectedCost(false_positive=3))[0] == pytest.approx(0.7)


def test_a_label_may_be_cheapest_never_predicted():
    assert value(ExpectedCost(false_positive=9), [0.9, 0.8], [0, 1]) == (math.inf, "cheapest never predicted")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FBeta(beta=0), "beta must be above 0, found 0"),
        (lambda: TargetPrecision(precision=1.2), r"precision must be in \(0, 1\], found 1.2"),
        (lambda: TargetPrecision(confidence=0.2), r"confidence must be in \[0.5, 1\), found 0.2"),
        (lambda: TargetRecall(recall=0), "recall must be in"),
        (lambda: PrecisionRecallTarget(recall=-1), "recall must be in"),
        (lambda: ExpectedCost(false_negative=-1), "false_negative must be 0 or more, found -1"),
    ],
)
def test_an_option_out_of_range_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_the_wilson_bound_is_the_ratio_itself_at_half_and_lower_above():
    assert precision_lower_bound(np.array([9]), np.array([10]), confidence=0.5) == pytest.approx([0.9])
    assert precision_lower_bound(np.array([90]), np.array([100]), confidence=0.975) == pytest.approx(
        [0.82563], abs=1e-5
    )


@given(st.floats(0, 1, width=32), st.floats(0, 1, width=32))
def test_a_threshold_between_two_scores_parts_them(a, b):
    lower, score = sorted((a, b))
    if lower < score:
        assert lower < between(lower, score) <= score
    assert score - 1e-5 <= between(-math.inf, score) <= score


def test_a_threshold_is_short_where_that_changes_nothing():
    assert between(0.1234567, 0.7654321) == 0.444444


# ---------------------------------------------------------------- every entry of RULES


@pytest.mark.parametrize("name", RULES)
@given(case=cases())
def test_a_rule_gives_one_threshold_a_label_with_its_support(name, case):
    points, pooled = rank(*case).points, rank_pooled(*case).points
    thresholds = RULES[name]()(points, pooled)
    num_labels = case[0].shape[1]
    assert thresholds.values_C.shape == (num_labels,)
    assert not np.isnan(thresholds.values_C).any()
    assert len(thresholds.reasons) == num_labels
    np.testing.assert_array_equal(thresholds.support_C, (case[2] & (case[1] == 1)).sum(axis=0))


@pytest.mark.parametrize("name", sorted(set(RULES) - {"fixed", "global_f1"}))
@given(case=cases())
def test_unknown_entries_do_not_move_a_threshold(name, case):
    scores, targets, known = case
    noisy = np.where(known, scores, 1 - scores), np.where(known, targets, 1 - targets), known
    a, b = (RULES[name]()(rank(*c).points, rank_pooled(*c).points).values_C for c in (case, noisy))
    np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", RULES)
def test_a_rule_is_built_from_params_with_its_targets(name):
    rule = Choice(name=name).build(RULES, where="calibrate.rule", delivery_targets=[None])
    assert rule(*cuts_of(SCORES, TARGETS)).values_C.shape == (1,)


@given(cases())
def test_no_point_of_any_score_beats_the_chosen_f1(case):
    scores, targets, known = case
    thresholds = PerLabelF1()(rank(*case).points, rank_pooled(*case).points)
    for c in range(scores.shape[1]):
        s, t = scores[known[:, c], c], targets[known[:, c], c]

        def f1(threshold, s=s, t=t):
            return 2 * (t[s >= threshold]).sum() / ((s >= threshold).sum() + t.sum())

        if t.any():
            assert f1(thresholds.values_C[c]) == pytest.approx(max(f1(v) for v in s))
