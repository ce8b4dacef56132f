"""Average precision against hand counts, scikit-learn, torchmetrics and slow definitions."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given
from sklearn.metrics import average_precision_score, roc_auc_score

from tasks.metrics.average_precision import AVERAGE_PRECISIONS, average_precisions, roc_auc
from tasks.metrics.ranking import rank
from tests.metrics.test_ranking import cases

ALL = np.ones((4, 1), bool)
SCORES = np.float32([[0.9], [0.8], [0.7], [0.6]])
TARGETS = np.array([[1], [0], [1], [0]], np.uint8)  # hits at ranks 1 and 3: precision 1/1 and 2/3


def test_all_ranks_sums_precision_at_each_positive():
    assert average_precisions(rank(SCORES, TARGETS, ALL).points) == pytest.approx([(1 + 2 / 3) / 2])


def test_the_envelope_lifts_precision_to_the_best_at_a_higher_recall():
    targets = np.array([[0], [1], [1], [0]], np.uint8)  # precision 1/2 at rank 2, 2/3 at rank 3; envelope 2/3 for both
    points = rank(SCORES, targets, ALL).points
    assert average_precisions(points, "all_ranks") == pytest.approx([(1 / 2 + 2 / 3) / 2])
    assert average_precisions(points, "envelope") == pytest.approx([2 / 3])


def test_eleven_points_average_the_envelope_at_tenths_of_recall():
    # Recall 1/2 reached with precision 1: points 0..0.5 (six) give 1; the other five the envelope at recall 1, 2/3.
    points = rank(SCORES, TARGETS, ALL).points
    assert average_precisions(points, "eleven_point") == pytest.approx([(6 + 5 * 2 / 3) / 11])


def test_ties_are_one_point_when_grouped_and_ranked_otherwise():
    scores, targets = np.float32([[0.5], [0.5], [0.1], [0.1]]), np.array([[1], [0], [0], [1]], np.uint8)
    first, last = rank(scores, targets, ALL), rank(scores, targets, ALL, later_first=True)
    assert average_precisions(first.points) == pytest.approx([(1 / 2 + 2 / 4) / 2])
    assert average_precisions(first.ranked_points) == pytest.approx([(1 / 1 + 2 / 4) / 2])
    assert average_precisions(last.ranked_points) == pytest.approx([(1 / 2 + 2 / 3) / 2])


@pytest.mark.parametrize("form", AVERAGE_PRECISIONS)
def test_a_label_without_positives_is_undefined(form):
    points = rank(SCORES, np.zeros((4, 1), np.uint8), ALL).points
    assert np.isnan(average_precisions(points, form)).all()
    assert np.isnan(roc_auc(points)).all()


@pytest.mark.parametrize("form", AVERAGE_PRECISIONS)
def test_a_perfect_ranking_scores_one(form):
    targets = np.array([[1], [1], [0], [0]], np.uint8)
    assert average_precisions(rank(SCORES, targets, ALL).points, form) == pytest.approx([1.0])


@given(cases())
def test_grouped_average_precision_and_roc_auc_equal_scikit_learn_on_the_known_entries(case):
    scores, targets, known = case
    points = rank(scores, targets, known).points
    ap, auc = average_precisions(points), roc_auc(points)
    for c in range(scores.shape[1]):
        s, t = scores[known[:, c], c], targets[known[:, c], c]
        if t.any():
            assert ap[c] == pytest.approx(average_precision_score(t, s), abs=1e-12)
        if 0 < t.sum() < len(t):
            assert auc[c] == pytest.approx(roc_auc_score(t, s), abs=1e-12)
        else:
            assert np.isnan(auc[c])


@given(cases())
def test_every_form_equals_its_slow_definition(case):
    scores, targets, known = case
    points = rank(scores, targets, known).points
    envelope, eleven = average_precisions(points, "envelope"), average_precisions(points, "eleven_point")
    for c in range(scores.shape[1]):
        s, t = scores[known[:, c], c], targets[known[:, c], c]
        if not t.any():
            continue
        points = [((t[s >= v]).sum(), t[s >= v].mean()) for v in sorted(set(s.tolist()), reverse=True)]
        best = {hits: max(p for h, p in points if h >= hits) for hits in range(t.sum() + 1)}
        assert envelope[c] == pytest.approx(sum(best[h] for h in range(1, t.sum() + 1)) / t.sum())
        tenths = [max(p for h, p in points if 10 * h >= k * t.sum()) for k in range(11)]
        assert eleven[c] == pytest.approx(sum(tenths) / 11)


@given(cases())
def test_the_envelope_is_never_below_all_ranks(case):
    points = rank(*case).points
    below, above = average_precisions(points), average_precisions(points, "envelope")
    assert (np.isnan(below) | (above >= below - 1e-12)).all()


def test_torchmetrics_agrees():
    torch = pytest.importorskip("torch")
    functional = pytest.importorskip("torchmetrics.functional.classification")
    rng = np.random.default_rng(0)
    scores = rng.random((300, 7)).round(2).astype(np.float32)
    targets = (rng.random((300, 7)) < 0.3).astype(np.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = functional.multilabel_average_precision(
            torch.from_numpy(scores), torch.from_numpy(targets).long(), 7, average=None
        )
    ours = average_precisions(rank(scores, targets, np.ones(scores.shape, bool)).points)
    np.testing.assert_allclose(ours, theirs.numpy(), atol=1e-5)
