"""Iterative stratification: a partition, even, whole groups, frozen."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from iterstrat.ml_stratifiers import IterativeStratification
from scipy.sparse import csr_array

from tasks.sampling.stratification import stratified_folds


def folds_of(present, groups=None, *, num_folds=3, seed=0, fixed=None):
    return stratified_folds(present, groups, num_folds=num_folds, rng=np.random.default_rng(seed), fixed=fixed)


def counts(present: np.ndarray, fold: np.ndarray, num_folds: int) -> np.ndarray:
    """(F, C): images of each label in each fold."""
    return np.stack([present[fold == f].sum(axis=0) for f in range(num_folds)])


@st.composite
def label_matrices(draw, max_images=60):
    num_images, num_labels = draw(st.integers(1, max_images)), draw(st.integers(1, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    return rng.random((num_images, num_labels)) < rng.uniform(0.05, 0.7, num_labels)


@settings(max_examples=60)
@given(present=label_matrices(), num_folds=st.integers(2, 7), seed=st.integers(0, 9))
def test_every_image_gets_one_fold_that_exists(present, num_folds, seed):
    fold = folds_of(present, num_folds=num_folds, seed=seed)
    assert fold.dtype == np.int16
    assert fold.shape == (len(present),)
    assert fold.min() >= 0
    assert fold.max() < num_folds


@settings(max_examples=60)
@given(present=label_matrices(), num_groups=st.integers(1, 30), seed=st.integers(0, 9))
def test_a_group_is_never_divided(present, num_groups, seed):
    groups = np.random.default_rng(seed).integers(0, num_groups, len(present))
    fold = folds_of(present, groups, seed=seed)
    assert all(len(set(fold[groups == g])) == 1 for g in set(groups))


@settings(max_examples=60)
@given(present=label_matrices(), seed=st.integers(0, 9), share=st.floats(0, 1))
def test_adding_images_never_moves_an_old_one(present, seed, share):
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, len(present), len(present))
    old = rng.random(len(present)) < share
    fixed = np.full(len(present), -1)
    fixed[old] = folds_of(present[old], groups[old], seed=seed)
    grown = folds_of(present, groups, seed=seed + 1, fixed=fixed)
    assert np.array_equal(grown[old], fixed[old])
    assert all(len(set(grown[groups == g])) == 1 for g in set(groups))


def test_labels_are_spread_evenly():
    # 12 images of a, 6 of b, 3 of c, 3 of nothing: 4 + 2 + 1 + 1 in each of three folds
    present = np.zeros((24, 3), bool)
    present[:12, 0] = present[12:18, 1] = present[18:21, 2] = True
    fold = folds_of(present)
    assert np.array_equal(counts(present, fold, 3), [[4, 2, 1]] * 3)
    assert np.array_equal(np.bincount(fold), [8, 8, 8])


def test_a_label_on_as_many_images_as_folds_stands_in_each_fold():
    rng = np.random.default_rng(3)
    present = rng.random((500, 4)) < 0.3
    present[:, 3] = False
    present[rng.choice(500, 10, replace=False), 3] = True
    fold = folds_of(present, num_folds=10)
    assert np.array_equal(counts(present, fold, 10)[:, 3], np.ones(10))


def test_new_images_even_out_what_the_fixed_ones_left_uneven():
    # the six fixed images with the label all stand in fold 0: the next six go to the others
    present = np.ones((12, 1), bool)
    fixed = np.array([0] * 6 + [-1] * 6)
    fold = folds_of(present, num_folds=3, fixed=fixed)
    assert np.array_equal(np.bincount(fold[6:], minlength=3), [0, 3, 3])


def test_a_new_member_of_a_divided_group_joins_most_of_it():
    fold = folds_of(np.ones((4, 1), bool), np.zeros(4, int), fixed=np.array([2, 1, 2, -1]))
    assert fold.tolist() == [2, 1, 2, 2]


def test_a_large_group_counts_with_all_its_images():
    # one group of 4 with the label and 8 single images with it: 12 / 3 folds = 4 each
    present = np.ones((12, 1), bool)
    fold = folds_of(present, np.array([0] * 4 + list(range(1, 9))))
    assert np.array_equal(np.bincount(fold), [4, 4, 4])


def test_the_same_seed_gives_the_same_folds_and_sparse_input_the_same_as_dense():
    present = np.random.default_rng(0).random((200, 20)) < 0.1
    assert np.array_equal(folds_of(present, seed=5), folds_of(csr_array(present), seed=5))
    assert not np.array_equal(folds_of(present, seed=5), folds_of(present, seed=6))


def test_no_image_is_no_error():
    assert folds_of(np.zeros((0, 3), bool)).shape == (0,)


def test_deviation_is_no_worse_than_that_of_iterative_stratification():
    def deviations(seed: int) -> list[float]:
        rng = np.random.default_rng(seed)
        present = rng.random((2000, 60)) < np.minimum(0.5, 3 / np.arange(1, 61) ** 1.2)
        present = present[:, present.sum(axis=0) >= 10]
        ours = folds_of(present, num_folds=10, seed=seed)
        peer = IterativeStratification(present, np.full(10, 0.1), np.random.RandomState(seed))
        ideal = present.sum(axis=0) / 10
        return [(np.abs(counts(present, fold, 10) - ideal) / ideal).mean() for fold in (ours, peer)]

    ours, peer = np.mean([deviations(seed) for seed in range(8)], axis=0)
    assert ours <= peer * 1.05  # equal on average; one draw of either differs by a few per cent from the next
