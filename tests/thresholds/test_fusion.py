"""A detector's scores blended with the model's."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score

from tasks.thresholds.fusion import FLOOR, MIN_SUPPORT, Blend, fit_blend, fit_blends, fuse


def small_objects(num_images=3000, seed=0):
    """The model sees half of the objects, the detector sees the other half too; each has its own noise."""
    rng = np.random.default_rng(seed)
    targets = (rng.random(num_images) < 0.3).astype(np.uint8)
    small = rng.random(num_images) < 0.5
    own = 1 / (1 + np.exp(-(3 * (targets & ~small) - 1.5 + rng.standard_normal(num_images))))
    detected = rng.random(num_images) < np.where(targets, 0.8, 0.05)
    return own.astype(np.float32), np.where(detected, rng.uniform(0.3, 0.9, num_images), 0.0), targets


def test_the_blend_finds_what_the_model_is_too_coarse_for():
    blend = fit_blend(*small_objects())
    own, detected, targets = small_objects(seed=1)
    fused = average_precision_score(targets, blend(own, detected))
    assert fused > average_precision_score(targets, own) + 0.1
    assert fused > average_precision_score(targets, detected) + 0.02


def test_the_weights_are_those_of_a_logistic_regression():
    own, detected, targets = small_objects()
    clipped = np.clip(detected, FLOOR, 1 - FLOOR)
    inputs = np.stack([np.log(own / (1 - own)), np.log(clipped / (1 - clipped))], axis=1).astype(np.float64)
    peer = LogisticRegression(C=1e9, tol=1e-8).fit(inputs, targets)
    blend = fit_blend(own, detected, targets)
    assert (blend.model, blend.detector) == pytest.approx(peer.coef_[0], abs=0.02)
    assert blend.intercept == pytest.approx(peer.intercept_[0], abs=0.02)


def test_a_detector_that_knows_nothing_gets_almost_no_weight_and_a_misleading_one_none():
    own, _, targets = small_objects()
    noise = np.random.default_rng(2).random(len(own))
    assert fit_blend(own, noise, targets).detector < 0.1
    assert fit_blend(own, np.where(targets, 0.1, 0.9), targets).detector == 0


def test_fewer_than_10_positives_are_not_fused():
    own, detected, targets = small_objects()
    few = np.flatnonzero(targets == 1)[: MIN_SUPPORT - 1]
    rows = np.concatenate([few, np.flatnonzero(targets == 0)])
    assert fit_blend(own[rows], detected[rows], targets[rows]) is None


def test_unknown_entries_do_not_count_and_other_labels_keep_their_scores():
    own, detected, targets = (np.stack([v, v], axis=1) for v in small_objects())
    known = np.ones(targets.shape, bool)
    wrong = targets.copy()
    wrong[:500], known[:500] = 1, False
    blends = fit_blends(own, detected, wrong, known, [1])
    assert blends == {1: fit_blend(own[500:, 1], detected[500:, 1], targets[500:, 1])}
    fused = fuse(own, detected, blends)
    np.testing.assert_array_equal(fused[:, 0], own[:, 0])
    np.testing.assert_array_equal(fused[:, 1], blends[1](own[:, 1], detected[:, 1]))


def test_a_blend_by_hand():
    # logit(0.5) = 0, logit(0.9) = ln 9: sigmoid(ln 9 / 2) = 3 / (3 + 1)
    assert Blend(1.0, 0.5, 0.0)(np.float32([0.5]), np.array([0.9]))[0] == pytest.approx(0.75)
