"""Fallback, shrinkage and intervals around a rule."""

from __future__ import annotations

import numpy as np
import pytest

from tasks.metrics import f1
from tasks.thresholds import RULES
from tasks.thresholds.fit import fit, shrinkage_weights
from tasks.thresholds.rules import ExpectedCost, Fixed, GlobalF1, PerLabelF1, TargetPrecision


def made_up(supports, num_images=400, seed=0):
    """Scores of labels with that many positives each, at the front."""
    rng = np.random.default_rng(seed)
    targets = np.array([[n < support for support in supports] for n in range(num_images)], np.uint8)
    scores = np.clip(0.25 + 0.3 * targets + 0.15 * rng.standard_normal(targets.shape), 0, 1).astype(np.float32)
    return scores, targets, np.ones(targets.shape, bool)


def test_a_rare_label_takes_the_threshold_of_all_labels_and_says_so():
    fitted = fit(PerLabelF1(), *made_up([100, 3]), min_support=5, shrinkage=0)
    common = fit(GlobalF1(), *made_up([100, 3]), min_support=0).values_C[1]
    assert fitted.values_C[1] == common
    assert fitted.reasons == ["", "3 known positives, fewer than 5: threshold of all labels together"]
    assert fitted.shrinkage_weight_C.tolist() == [1, 0]


def test_unknown_positives_are_no_support():
    scores, targets, known = made_up([100, 100])
    known[2:, 1] = False
    assert fit(PerLabelF1(), scores, targets, known).support_C.tolist() == [100, 2]


def test_a_label_without_positives_takes_the_common_threshold():
    assert fit(PerLabelF1(), *made_up([100, 0]), min_support=0).reasons[1].startswith("0 known positives, fewer than 1")


@pytest.mark.parametrize("name", sorted(set(RULES) - {"fixed"}))
def test_without_any_positive_nothing_is_predicted(name):
    fitted = fit(RULES[name](), *made_up([0, 0]), bootstrap=5)
    assert np.isinf([fitted.values_C, fitted.low_C, fitted.high_C]).all()
    assert fitted.reasons[0] == "never predicted: no label has a known positive"


def test_without_images_a_fixed_threshold_is_still_fixed():
    empty = np.zeros((0, 2), np.float32), np.zeros((0, 2), np.uint8), np.zeros((0, 2), bool)
    fitted = fit(Fixed(threshold=0.3), *empty)
    assert (fitted.values_C.tolist(), fitted.reasons) == ([0.3, 0.3], ["", ""])


def test_a_fixed_threshold_needs_no_fallback():
    assert fit(Fixed(), *made_up([100, 1])).reasons == ["", ""]


@pytest.mark.parametrize("seed", range(5))
def test_a_shrunk_threshold_lies_between_its_own_and_the_common_one(seed):
    data = made_up([200, 50, 10], seed=seed)
    own, shrunk = (fit(PerLabelF1(), *data, shrinkage=x).values_C for x in (0, 1))
    common = fit(GlobalF1(), *data).values_C
    assert ((np.minimum(own, common) <= shrunk) & (shrunk <= np.maximum(own, common))).all()


def test_labels_that_share_a_scale_share_a_threshold():
    assert fit(PerLabelF1(), *made_up([200] * 20)).shrinkage_weight_C.max() < 0.5


def test_the_rarer_label_leans_more_on_the_common_threshold():
    scores, targets, known = made_up([200] * 20)
    scores += np.linspace(-0.15, 0.15, 20, dtype=np.float32)
    known[:, ::2] = (np.arange(400) % 20 == 0)[:, None]  # every other label is known on 20 images only
    weights = fit(PerLabelF1(), scores, targets, known).shrinkage_weight_C
    assert 0 < weights[::2].mean() < weights[1::2].mean() < 1


def test_labels_with_scales_of_their_own_keep_their_thresholds():
    scores, targets, known = made_up([200] * 10)
    scaled = (scores * np.linspace(0.05, 1, 10)).astype(np.float32)
    assert fit(PerLabelF1(), scaled, targets, known).shrinkage_weight_C.min() > 0.9


def test_more_shrinkage_leaves_less_of_its_own():
    distance, variance, rare = np.array([0.2, -0.1]), np.array([0.01, 0.02]), np.zeros(2, bool)
    weights = [shrinkage_weights(distance, variance, rare, factor=x) for x in (0.5, 1, 2)]
    assert (weights[0] > weights[1]).all()
    assert (weights[1] > weights[2]).all()
    # tau^2 = ((0.04 - 0.01) + (0.01 - 0.02)) / 2 = 0.01
    assert weights[1] == pytest.approx([0.5, 1 / 3])


def test_thresholds_closer_than_their_spread_are_all_common():
    distance_C, variance_C = np.array([0.1, -0.1]), np.array([0.02, 0.02])
    assert shrinkage_weights(distance_C, variance_C, np.zeros(2, bool), factor=1).tolist() == [0, 0]


def test_a_target_is_never_moved():
    data = made_up([200, 50, 10])
    a, b = (fit(TargetPrecision(precision=0.8), *data, shrinkage=x).values_C for x in (0, 5))
    np.testing.assert_array_equal(a, b)


def test_a_label_that_is_cheapest_never_predicted_stays_so():
    scores, targets, known = made_up([200, 100])
    scores[:, 1] = 0.9 - 0.5 * targets[:, 1]  # every negative outscores every positive
    fitted = fit(ExpectedCost(false_positive=5), scores, targets, known)
    assert np.isinf(fitted.values_C[1])
    assert fitted.reasons[1] == "cheapest never predicted"


@pytest.mark.parametrize("name", RULES)
def test_every_rule_can_be_fitted_with_intervals_around_its_thresholds(name):
    fitted = fit(RULES[name](), *made_up([200, 60, 2]), bootstrap=40)
    assert (fitted.low_C <= fitted.high_C).all()
    assert (fitted.low_C[:2] <= fitted.values_C[:2] + 0.05).all()
    assert (fitted.high_C[:2] >= fitted.values_C[:2] - 0.05).all()


def test_no_interval_unless_asked():
    assert np.isnan(fit(PerLabelF1(), *made_up([100])).low_C).all()


def test_intervals_narrow_with_support():
    fitted = fit(PerLabelF1(), *made_up([2000, 20], num_images=4000), bootstrap=100, shrinkage=0)
    widths = fitted.high_C - fitted.low_C
    assert widths[0] < widths[1]


def test_the_same_seed_gives_the_same_thresholds():
    a, b = (fit(PerLabelF1(), *made_up([100, 20]), bootstrap=30, seed=7) for _ in range(2))
    for name in ("values_C", "low_C", "high_C", "shrinkage_weight_C"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


def test_fitted_thresholds_decide_the_fitted_images_as_well_as_any_can():
    scores, targets, known = data = made_up([150, 80])
    values = fit(PerLabelF1(), *data, shrinkage=0).values_C
    best = f1.per_label(f1.count(f1.decide(scores, values), targets, known, axis=0)).f1
    for threshold in np.linspace(0, 1, 101):
        other = f1.per_label(f1.count(f1.decide(scores, np.full(2, threshold)), targets, known, axis=0)).f1
        assert (best >= other - 1e-12).all()
