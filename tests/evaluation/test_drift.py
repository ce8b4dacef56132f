"""Drift of scores between two sets of images."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ks_2samp

from tasks.evaluation.drift import population_stability, score_drift


def scores(num_images, *, shift=0.0, num_labels=3, seed=0):
    logits = np.random.default_rng(seed).standard_normal((num_images, num_labels)) + shift
    return (1 / (1 + np.exp(-logits))).astype(np.float32)


def test_the_same_scores_do_not_drift():
    rows = score_drift(scores(300), scores(300), np.full(3, 0.5), ["a", "b", "c"])
    assert all(row["PSI"] == 0 and row["KS"] == 0 and not row["notable"] for row in rows.values())


def test_psi_by_hand():
    # Deciles of 0..9 cut one score a bin; all of the others lie in the last bin: half an image is added to each.
    before, now = np.arange(10.0), np.full(10, 9.0)
    p, q = np.full(10, 1.5 / 15), np.array([0.5] * 9 + [10.5]) / 15
    assert population_stability(before, now) == (pytest.approx(np.sum((q - p) * np.log(q / p))), 10)


def test_ks_is_scipys():
    before, now = scores(200, num_labels=1), scores(150, num_labels=1, shift=0.4, seed=1)
    row = score_drift(before, now, np.array([0.5]), ["a"])["a"]
    assert row["KS"] == pytest.approx(ks_2samp(before[:, 0], now[:, 0]).statistic)


def test_a_shift_is_notable_and_chance_is_not():
    labels, thresholds = [str(c) for c in range(40)], np.full(40, 0.5)
    still = score_drift(scores(200, num_labels=40), scores(300, num_labels=40, seed=1), thresholds, labels)
    moved = score_drift(scores(200, num_labels=40), scores(300, num_labels=40, shift=1, seed=1), thresholds, labels)
    assert not any(row["notable"] for row in still.values())
    assert all(row["notable"] for row in moved.values())


def test_without_drift_psi_exceeds_chance_in_about_5_percent_of_labels():
    num = 2000
    rows = [
        score_drift(scores(400, num_labels=1, seed=s), scores(600, num_labels=1, seed=num + s), np.array([0.5]), ["a"])
        for s in range(num)
    ]
    assert 0.03 < np.mean([row["a"]["PSI"] > row["a"]["PSI_by_chance"] for row in rows]) < 0.07


def test_tied_scores_make_fewer_bins():
    same = np.zeros((50, 1), np.float32)
    assert score_drift(same, same, np.array([0.5]), ["a"])["a"] == {
        "PSI": 0.0, "PSI_by_chance": pytest.approx(0, abs=1), "KS": 0.0, "predicted_before": 0.0, "predicted": 0.0,
        "notable": False,
    }  # fmt: skip


def test_without_images_there_is_nothing_to_tell():
    assert score_drift(np.zeros((0, 1)), np.zeros((5, 1)), np.zeros(1), ["a"]) == {}
