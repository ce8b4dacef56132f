"""Brier score and expected calibration error a label."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tasks.metrics.calibration_error import NUM_BINS, brier_and_ece


def test_by_hand():
    scores = np.float32([[0.9], [0.9], [0.1], [0.1]])
    targets = np.array([[1], [0], [0], [0]], np.uint8)
    brier, ece = brier_and_ece(scores, targets, np.ones((4, 1), bool))
    assert brier == pytest.approx([(0.01 + 0.81 + 0.01 + 0.01) / 4], abs=1e-6)
    assert ece == pytest.approx([(abs(1 - 1.8) + abs(0 - 0.2)) / 4], abs=1e-6)


def test_unknown_entries_do_not_count_and_a_label_without_known_entries_is_undefined():
    scores = np.float32([[0.75, 0.5], [0.25, 0.5]])
    known = np.array([[True, False], [False, False]])
    brier, ece = brier_and_ece(scores, np.ones((2, 2), np.uint8), known)
    np.testing.assert_allclose(brier, [0.0625, np.nan])
    np.testing.assert_allclose(ece, [0.25, np.nan])


def test_scores_outside_0_to_1_are_no_probabilities():
    scores, targets = np.float32([[1.5, 0.5]]), np.ones((1, 2), np.uint8)
    assert np.isnan(brier_and_ece(scores, targets, np.ones((1, 2), bool))).all()
    assert not np.isnan(brier_and_ece(scores, targets, np.array([[False, True]]))[0][1])


@given(
    hnp.arrays(np.float32, st.tuples(st.integers(1, 30), st.integers(1, 3)), elements=st.floats(0, 1, width=32)),
    st.integers(0, 99),
)
def test_equals_the_slow_definition(scores, seed):
    rng = np.random.default_rng(seed)
    targets, known = (rng.random(scores.shape) < 0.5).astype(np.uint8), rng.random(scores.shape) < 0.7
    brier, ece = brier_and_ece(scores, targets, known)
    for c in range(scores.shape[1]):
        s, t = scores[known[:, c], c], targets[known[:, c], c].astype(float)
        if not len(s):
            assert np.isnan(brier[c])
            continue
        bins = np.minimum((s * np.float32(NUM_BINS)).astype(int), NUM_BINS - 1)
        assert brier[c] == pytest.approx(np.mean((s - t) ** 2), abs=1e-5)
        assert ece[c] == pytest.approx(sum(abs((t - s)[bins == b].sum()) for b in range(NUM_BINS)) / len(s), abs=1e-5)
