"""Scores to probabilities, label by label."""

from __future__ import annotations

import numpy as np
import pytest

from tasks.metrics.calibration_error import brier_and_ece
from tasks.thresholds.probability_calibration import CALIBRATORS, Logistic, calibrate


def overconfident(num_images=4000, seed=0):
    """Two labels whose true logit is half of what the score says; the second one shifted too."""
    rng = np.random.default_rng(seed)
    logits = 3 * rng.standard_normal((num_images, 2))
    targets = (rng.random(logits.shape) < 1 / (1 + np.exp(-(0.5 * logits - [0, 1])))).astype(np.uint8)
    return (1 / (1 + np.exp(-logits))).astype(np.float32), targets, np.ones(targets.shape, bool)


@pytest.mark.parametrize("method", CALIBRATORS)
def test_calibration_lowers_the_calibration_error_of_new_images(method):
    scores, targets, known = overconfident(seed=1)
    calibrated = calibrate(*overconfident(), method)(scores)
    before, after = brier_and_ece(scores, targets, known)[1], brier_and_ece(calibrated, targets, known)[1]
    assert after[0] < before[0] / 2
    if method != "temperature":  # one slope cannot undo a shift
        assert after[1] < before[1] / 2


@pytest.mark.parametrize("method", CALIBRATORS)
def test_a_map_rises_and_stays_in_0_to_1(method):
    ladder = np.linspace(0, 1, 101, dtype=np.float32)[:, None].repeat(2, axis=1)
    calibrated = calibrate(*overconfident(), method)(ladder)
    assert (np.diff(calibrated, axis=0) >= 0).all()
    assert ((calibrated >= 0) & (calibrated <= 1)).all()


def test_platt_finds_the_true_slope_and_shift():
    slope, shift = ((m.slope, m.intercept) for m in calibrate(*overconfident(20_000), "platt").maps)
    assert slope == pytest.approx((0.5, 0), abs=0.05)
    assert shift == pytest.approx((0.5, -1), abs=0.05)


def test_temperature_leaves_one_half_where_it_is():
    calibrated = calibrate(*overconfident(), "temperature")(np.full((1, 2), 0.5, np.float32))
    assert calibrated.tolist() == [[0.5, 0.5]]


def test_platt_stays_finite_on_labels_that_scores_part_perfectly():
    scores = np.float32([0.1] * 20 + [0.9] * 20)[:, None]
    fitted = calibrate(scores, (scores > 0.5).astype(np.uint8), np.ones(scores.shape, bool), "platt")
    assert 0 < fitted(scores).min() < 0.2
    assert 0.8 < fitted(scores).max() < 1


def test_a_label_with_little_support_keeps_its_scores():
    scores, targets, known = overconfident(200)
    known[:, 1] = False
    calibrated = calibrate(scores, targets, known, "isotonic")(scores)
    np.testing.assert_array_equal(calibrated[:, 1], scores[:, 1])


def test_a_reversed_label_is_flattened_not_flipped():
    scores, targets, known = overconfident()
    assert calibrate(scores, 1 - targets, known, "platt").maps[0] == Logistic(0.0, pytest.approx(0, abs=0.1))
