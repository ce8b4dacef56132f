from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.decomposition import PCA
from sklearn.metrics import pairwise_distances

from tasks.review.mining import CANDIDATES_PER_QUESTION, farthest_first, mine, mined_questions, plane
from tests.review.tables_of import labels_of, predictions_of

POINTS = arrays(np.float64, st.tuples(st.integers(1, 12), st.just(3)), elements=st.floats(-5, 5, width=16))


def test_the_nearest_come_first_and_strangers_not_at_all():
    positives = np.asarray([[1.0, 0.0]])
    pool = np.asarray([[0.0, 1.0], [2.0, 0.1], [3.0, 0.0], [1.0, 1.0], [-1.0, 0.0], [1.0, 0.5]])
    chosen, similarity = mine(positives, pool, most=1)
    assert chosen.tolist() == [2]  # the same direction, whatever its length
    assert similarity.tolist() == [1.0]


def test_each_pool_image_is_measured_against_its_own_nearest_positive():
    chosen, similarity = mine(np.eye(2), np.asarray([[1.0, 0.0], [0.0, 1.0]]), most=2)
    assert sorted(chosen.tolist()) == [0, 1]
    assert similarity.tolist() == [1.0, 1.0]


def test_copies_give_way_to_something_new():
    # Nine copies of the nearest image and one other candidate: two questions are the image and the other one.
    pool = np.asarray([[1.0, 0.0]] * 9 + [[0.9, 0.3]])
    assert mine(np.asarray([[1.0, 0.0]]), pool, most=2)[0].tolist() == [0, 9]


def test_only_near_images_are_candidates():
    near = np.column_stack([np.ones(CANDIDATES_PER_QUESTION), np.linspace(0, 0.1, CANDIDATES_PER_QUESTION)])
    chosen, _ = mine(np.asarray([[1.0, 0.0]]), np.vstack([near, [[-1.0, 0.0]]]), most=1)
    assert chosen.tolist() == [0]


def test_a_pool_smaller_than_the_wish_is_taken_whole():
    assert sorted(mine(np.eye(3), np.eye(3)[:2], most=10)[0].tolist()) == [0, 1]


@pytest.mark.parametrize(("positives", "pool", "most"), [(0, 3, 2), (3, 0, 2), (3, 3, 0)])
def test_nothing_to_mine_gives_nothing(positives, pool, most):
    chosen, similarity = mine(np.ones((positives, 2)), np.ones((pool, 2)), most=most)
    assert len(chosen) == len(similarity) == 0


def test_the_order_of_work_does_not_change_the_answer(monkeypatch):
    rng = np.random.default_rng(0)
    positives, pool = rng.normal(size=(5, 8)), rng.normal(size=(101, 8))
    whole = mine(positives, pool, most=7)
    monkeypatch.setattr("tasks.review.mining.BATCH_ROWS", 10)
    for a, b in zip(mine(positives, pool, most=7), whole, strict=True):
        np.testing.assert_allclose(a, b)


LABELS = ["cat", "dog"]
PREDICTIONS = predictions_of(
    LABELS,
    {"known": [0.9, 0.1], "judged": [0.8, 0.2], "near": [0.7, 0.3], "stated": [0.6, 0.4], "far": [0.1, 0.5]},
    partitions=["train", "pool", "pool", "pool", "pool"],
    embeddings_ND=np.asarray([[1, 0], [1, 0], [1, 0.2], [1, 0], [-1, 0]], np.float32),
)


def test_mined_questions_are_about_pool_images_of_which_nothing_is_known():
    labels = labels_of(("known", "cat", 1), ("stated", "cat", 0), ("near", "dog", 1))
    questions = mined_questions(PREDICTIONS, "cat", labels, {"judged"}, most=2).to_pylist()
    assert [row["image_id"] for row in questions] == ["near", "far"]
    assert {(row["label"], row["given"], row["reason"]) for row in questions} == {("cat", -1, "mined")}
    assert questions[0]["score"] == pytest.approx(0.7)
    # cos of [1, 0] and [1, 0.2] is 1 / sqrt(1.04) = 0.9806; (0.9806 - 1) / 2 = -0.0097. Opposite: (-1 - 1) / 2.
    assert [row["priority"] for row in questions] == pytest.approx([-0.0097, -1.0], abs=1e-4)


def test_a_label_without_positives_has_nothing_to_mine():
    assert mined_questions(PREDICTIONS, "dog", labels_of(("known", "dog", 0)), set(), most=2).num_rows == 0


@given(POINTS, st.integers(0, 12))
def test_farthest_first_takes_each_point_at_most_once_and_the_farthest_next(points, most):
    chosen = farthest_first(points, most=most)
    assert len(chosen) == len(set(chosen.tolist())) == min(most, len(points))
    distances = pairwise_distances(points)
    for step in range(1, len(chosen)):
        to_chosen = distances[:, chosen[:step]].min(axis=1)
        left = np.setdiff1d(np.arange(len(points)), chosen[:step])
        assert to_chosen[chosen[step]] >= to_chosen[left].max() - 1e-9


def test_the_plane_is_the_first_two_principal_components():
    rows = np.random.default_rng(1).normal(size=(40, 6)) * [5, 3, 1, 1, 1, 1]
    ours, oracle = plane(rows), PCA(2).fit_transform(rows)
    np.testing.assert_allclose(np.abs(ours), np.abs(oracle), atol=1e-9)


@pytest.mark.parametrize("shape", [(1, 4), (2, 4), (5, 1)])
def test_too_few_rows_or_features_still_give_a_plane(shape):
    points = plane(np.random.default_rng(2).normal(size=shape))
    assert points.shape == (shape[0], 2)
    assert np.isfinite(points).all()
