"""What holds for every entry of METRICS, so that a new one is tested before anyone writes a test for it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.metrics import METRICS, PROTOCOLS, Scored
from tests.metrics.test_ranking import cases


def scored(case, protocol="tagwright", groups=None):
    scores, targets, known = case
    scores = (scores - scores.min()) / 5  # FEW_SCORES span 5
    thresholds = np.full(scores.shape[1], 0.45)
    return Scored(scores, targets, known, thresholds, PROTOCOLS[protocol], groups or {})


def shuffled(case, axis):
    order = np.random.default_rng(0).permutation(case[0].shape[axis])
    return tuple(np.take(m, order, axis=axis) for m in case)


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("protocol", PROTOCOLS)
@settings(max_examples=15)
@given(case=cases())
def test_a_metric_is_a_float_in_0_to_1_or_undefined(name, protocol, case):
    value = METRICS[name](scored(case, protocol))
    assert isinstance(value, float)
    assert np.isnan(value) or -1e-9 <= value <= 1 + 1e-9


@pytest.mark.parametrize("name", METRICS)
@settings(max_examples=15)
@given(case=cases())
def test_the_order_of_images_does_not_matter(name, case):
    assert METRICS[name](scored(case)) == pytest.approx(METRICS[name](scored(shuffled(case, 0))), nan_ok=True)


@pytest.mark.parametrize("name", [n for n in METRICS if not n.startswith("top3")])  # ties go to the first label there
@settings(max_examples=15)
@given(case=cases())
def test_the_order_of_labels_does_not_matter(name, case):
    assert METRICS[name](scored(case)) == pytest.approx(METRICS[name](scored(shuffled(case, 1))), nan_ok=True)


@pytest.mark.parametrize("name", METRICS)
@settings(max_examples=15)
@given(case=cases(), seed=st.integers(0, 9))
def test_scores_and_targets_of_unknown_entries_do_not_matter(name, case, seed):
    scores, targets, known = case
    noise = np.random.default_rng(seed)
    groups = {"all": range(scores.shape[1])}
    other_scores = np.where(known, scores, noise.choice(scores.ravel(), scores.shape))
    other = Scored(
        *((other_scores - scores.min()) / 5, np.where(known, targets, 1 - targets), known),
        *(np.full(scores.shape[1], 0.45), PROTOCOLS["tagwright"], groups),
    )
    assert METRICS[name](scored(case, groups=groups)) == pytest.approx(METRICS[name](other), nan_ok=True)


@pytest.mark.parametrize("name", sorted(set(METRICS) - {"brier", "ECE", "top3_OF1", "top3_CF1"}))
def test_a_perfect_model_scores_one(name):
    targets = np.array([[1, 0], [0, 1], [1, 0]], np.uint8)
    perfect = Scored(
        targets.astype(np.float32),
        targets,
        np.ones((3, 2), bool),
        np.full(2, 0.5),
        PROTOCOLS["tagwright"],
        {"g": [0, 1]},
    )
    assert METRICS[name](perfect) == 1


def test_cell_accuracy_is_the_share_of_right_entries():
    targets = np.array([[1, 0], [0, 1]], np.uint8)
    scores = np.float32([[0.9, 0.9], [0.1, 0.1]])
    assert METRICS["hamming_accuracy"](
        Scored(scores, targets, np.ones((2, 2), bool), np.full(2, 0.5), PROTOCOLS["otx"])
    ) == pytest.approx(2 / 4)


def test_a_score_that_is_not_finite_is_a_programmers_mistake():
    with pytest.raises(AssertionError, match="finite"):
        Scored(np.float32([[np.nan]]), np.zeros((1, 1), np.uint8), np.ones((1, 1), bool), np.zeros(1), PROTOCOLS["asl"])
