"""Iterative stratification (Sechidis, Tsoumakas and Vlahavas, ECML PKDD 2011), with groups kept whole.

The rarest label goes first: each of its images joins the fold that still wants most of that label, then the fold that
still wants most images, then a drawn one. Here the unit is a group of duplicates, which counts with all its images, and
units that already stand in a fold stay there and count towards what their fold has.

Axes: N images, C labels, U groups (units), F folds.
"""

from __future__ import annotations

import numba
import numpy as np
from scipy.sparse import csr_array

from tasks.core.compiled import njit


def stratified_folds(
    present: csr_array | np.ndarray,
    groups: np.ndarray | None = None,
    *,
    num_folds: int,
    rng: np.random.Generator,
    fixed: np.ndarray | None = None,
) -> np.ndarray:
    """int16 (N,): a fold in [0, num_folds) for each image, labels spread as evenly as whole groups allow.

    present: (N, C), non-zero where a label is KNOWN to be present. Unknown and absent alike do not count; to spread
    verified absences too, append their columns.
    groups: int (N,), equal for images that must share a fold; None when all are on their own.
    fixed: int (N,), the fold of images that must not move, -1 for the others. New members of a fixed group join the
    fold of most of its fixed members (the lowest of equals).
    """
    present = csr_array(present).astype(np.int32)
    num_images = present.shape[0]
    groups = np.arange(num_images) if groups is None else np.asarray(groups)
    _, unit_of = np.unique(groups, return_inverse=True)
    num_units = int(unit_of.max()) + 1 if num_images else 0
    membership = csr_array((np.ones(num_images, np.int32), (unit_of, np.arange(num_images))), (num_units, num_images))
    counts_UC = csr_array(membership @ present)
    size_U = np.bincount(unit_of, minlength=num_units)

    fixed = np.full(num_images, -1) if fixed is None else np.asarray(fixed)
    fold_U = _majority_fold(unit_of, fixed, num_units, num_folds)
    # Large groups first: they are the hardest to place. Equal ones in drawn order, so that no file order shows.
    shuffled = rng.permutation(num_units)
    order_U = shuffled[np.argsort(-size_U[shuffled], kind="stable")]
    labels_of_units = (a.astype(np.int64) for a in (counts_UC.indptr, counts_UC.indices, counts_UC.data))
    units_of_labels = _units_of_labels(counts_UC, order_U)
    _place(*labels_of_units, *units_of_labels, size_U, order_U, rng.random(num_units), fold_U, num_folds)
    fold_N = np.where(fixed >= 0, fixed, fold_U[unit_of])
    return fold_N.astype(np.int16)


def _majority_fold(unit_of: np.ndarray, fixed: np.ndarray, num_units: int, num_folds: int) -> np.ndarray:
    """int64 (U,): the fold of most fixed images of each unit, -1 where none is fixed."""
    fold_U = np.full(num_units, -1, np.int64)
    is_fixed = np.flatnonzero(fixed >= 0)
    assert not is_fixed.size or fixed[is_fixed].max() < num_folds, "a fixed fold does not exist"
    pairs, votes = np.unique(unit_of[is_fixed] * num_folds + fixed[is_fixed], return_counts=True)
    # Ascending votes, then descending fold: the last write is the one that stays.
    order = np.lexsort((-(pairs % num_folds), votes))
    fold_U[pairs[order] // num_folds] = pairs[order] % num_folds
    return fold_U


def _units_of_labels(counts_UC: csr_array, order_U: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """CSC index of the matrix with each label's units in placing order: starts int (C + 1,), units int64."""
    ordered = csr_array(counts_UC[order_U]).tocsc()
    ordered.sort_indices()
    return ordered.indptr.astype(np.int64), order_U[ordered.indices]


@njit()
def _place(
    unit_starts, unit_labels, unit_counts, label_starts, label_units, size_U, order_U, draw_U, fold_U, num_folds
):
    """Fill the -1 entries of fold_U (int64, (U,)) in place. draw_U: float in [0, 1), breaks ties."""
    num_labels = len(label_starts) - 1
    total_C = np.zeros(num_labels)
    for at in range(len(unit_labels)):
        total_C[unit_labels[at]] += unit_counts[at]
    wanted_FC = np.empty((num_folds, num_labels))
    wanted_FC[:] = total_C / num_folds
    wanted_F = np.full(num_folds, size_U.sum() / num_folds)
    open_C = total_C.copy()  # images of each label that have no fold yet
    for unit in range(len(fold_U)):
        if fold_U[unit] >= 0:
            _count(unit, fold_U[unit], unit_starts, unit_labels, unit_counts, size_U, wanted_FC, wanted_F, open_C)

    while True:
        label = -1
        for candidate in range(num_labels):
            if open_C[candidate] > 0 and (label < 0 or open_C[candidate] < open_C[label]):
                label = candidate
        if label < 0:
            break
        for at in range(label_starts[label], label_starts[label + 1]):
            unit = label_units[at]
            if fold_U[unit] < 0:
                fold_U[unit] = _neediest(wanted_FC[:, label], wanted_F, draw_U[unit])
                _count(unit, fold_U[unit], unit_starts, unit_labels, unit_counts, size_U, wanted_FC, wanted_F, open_C)
    for unit in order_U:  # what carries no label only evens out the sizes
        if fold_U[unit] < 0:
            fold_U[unit] = _neediest(wanted_F, wanted_F, draw_U[unit])
            wanted_F[fold_U[unit]] -= size_U[unit]


@numba.njit
def _count(unit, fold, unit_starts, unit_labels, unit_counts, size_U, wanted_FC, wanted_F, open_C):
    wanted_F[fold] -= size_U[unit]
    for at in range(unit_starts[unit], unit_starts[unit + 1]):
        label = unit_labels[at]
        wanted_FC[fold, label] -= unit_counts[at]
        open_C[label] -= unit_counts[at]


@numba.njit
def _neediest(first_F, second_F, draw):
    """The fold with the largest first value, then the largest second, then the drawn one of equals."""
    num_tied, best = 0, 0
    tied = np.empty(len(first_F), np.int64)
    for fold in range(len(first_F)):
        better = first_F[fold] > first_F[best] or (first_F[fold] == first_F[best] and second_F[fold] > second_F[best])
        if num_tied == 0 or better:
            tied[0], num_tied, best = fold, 1, fold
        elif first_F[fold] == first_F[best] and second_F[fold] == second_F[best]:
            tied[num_tied] = fold
            num_tied += 1
    return tied[int(draw * num_tied)]
