"""The one sort: where positives stand, with ties and unknown entries."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tasks.metrics.ranking import rank, rank_pooled

FEW_SCORES = st.sampled_from([-2.0, -0.5, -0.0, 0.0, 0.25, 0.5, 0.75, 1.0, 3.0])


@st.composite
def cases(draw, max_images=12, max_labels=4):
    """Scores with many ties, targets, known; any shape."""
    shape = draw(st.tuples(st.integers(1, max_images), st.integers(1, max_labels)))
    scores = draw(hnp.arrays(np.float32, shape, elements=FEW_SCORES))
    targets = draw(hnp.arrays(np.uint8, shape, elements=st.integers(0, 1)))
    known = draw(hnp.arrays(bool, shape))
    return scores, targets, known


def matrix(*columns):
    return np.array(columns, np.float32).T


def test_points_of_a_small_label_can_be_counted_by_hand():
    scores = matrix([0.9, 0.8, 0.8, 0.3, 0.1])
    targets = np.array([[1], [0], [1], [0], [1]], np.uint8)
    points = rank(scores, targets, np.ones((5, 1), bool)).points
    # >= 0.9: 1 of 1; >= 0.8: 2 of 3 (two tied); >= 0.1: 3 of 5. The point at 0.3 gains no recall and is left out.
    np.testing.assert_array_equal(points.score_K, np.float32([0.9, 0.8, 0.1]))
    np.testing.assert_array_equal(points.lower_K, np.float32([0.8, 0.3, -np.inf]))
    np.testing.assert_array_equal(points.tp_K, [1, 2, 3])
    np.testing.assert_array_equal(points.predicted_K, [1, 3, 5])
    np.testing.assert_array_equal(points.above_K, [0, 1, 4])


def test_tied_images_rank_by_image_order_or_by_its_reverse():
    scores, known = matrix([0.5, 0.5, 0.5]), np.ones((3, 1), bool)
    targets = np.array([[1], [0], [0]], np.uint8)
    assert rank(scores, targets, known).rank_P.tolist() == [1]
    assert rank(scores, targets, known, later_first=True).rank_P.tolist() == [3]


def test_unknown_images_take_no_rank():
    scores = matrix([0.9, 0.8, 0.7])
    targets = np.array([[0], [0], [1]], np.uint8)
    ranking = rank(scores, targets, np.array([[False], [True], [True]]))
    assert (ranking.rank_P.tolist(), ranking.num_known_C.tolist()) == ([2], [2])


def test_minus_zero_ties_with_zero():
    scores, targets = matrix([0.0, -0.0]), np.array([[0], [1]], np.uint8)
    assert rank(scores, targets, np.ones((2, 1), bool)).points.predicted_K.tolist() == [2]


def test_a_label_without_known_positives_has_no_points():
    scores, targets = matrix([0.2, 0.4], [0.2, 0.4]), np.array([[0, 1], [0, 0]], np.uint8)
    points = rank(scores, targets, np.ones((2, 2), bool)).points
    assert points.start_C1.tolist() == [0, 0, 1]


@given(cases(), st.booleans())
def test_counts_equal_those_of_counting_every_image(case, later_first):
    scores, targets, known = case
    ranking = rank(scores, targets, known, later_first=later_first, keep_order=True)
    for c, own in enumerate(ranking.points.per_label()):
        s, t = scores[known[:, c], c], targets[known[:, c], c]
        expected = sorted({float(v) for v in s[t == 1]}, reverse=True)
        assert ranking.points.score_K[own].tolist() == expected
        assert ranking.points.predicted_K[own].tolist() == [int((s >= v).sum()) for v in expected]
        assert ranking.points.tp_K[own].tolist() == [int(((s >= v) & (t == 1)).sum()) for v in expected]
        assert ranking.points.above_K[own].tolist() == [int((s > v).sum()) for v in expected]
        lower = [max((float(x) for x in s if x < v), default=-np.inf) for v in expected]
        assert ranking.points.lower_K[own].tolist() == lower
        order = ranking.order_CN[c, : ranking.num_known_C[c]].astype(int)
        step = -1 if later_first else 1
        assert order.tolist() == sorted(np.flatnonzero(known[:, c]), key=lambda i: (-(scores[i, c] + 0.0), step * i))


@given(cases())
def test_pooled_points_are_those_of_all_known_entries_in_one_label(case):
    scores, targets, known = case
    pooled = rank_pooled(scores, targets, known, keep_order=True)
    s, t = scores[known], targets[known]
    expected = sorted({float(v) for v in s[t == 1]}, reverse=True)
    assert pooled.points.score_K.tolist() == expected
    assert pooled.points.predicted_K.tolist() == [int((s >= v).sum()) for v in expected]
    images = pooled.order_CN[0, : known.sum()]
    assert np.bincount(images, minlength=len(scores)).tolist() == known.sum(axis=1).tolist()


def test_more_labels_than_one_block_are_ranked_alike():
    rng = np.random.default_rng(0)
    scores = rng.random((50, 70), dtype=np.float32)
    targets = (rng.random((50, 70)) < 0.3).astype(np.uint8)
    known = rng.random((50, 70)) < 0.8
    whole = rank(scores, targets, known)
    for c in (0, 31, 32, 69):
        alone = rank(scores[:, [c]], targets[:, [c]], known[:, [c]])
        own = slice(whole.start_C1[c], whole.start_C1[c + 1])
        np.testing.assert_array_equal(whole.rank_P[own], alone.rank_P)
