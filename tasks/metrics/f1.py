"""Precision, recall and F1 of decisions, in each of the published definitions.

Axes: N images, C labels. Counts may carry a leading axis of resamples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from tasks.metrics.arithmetic import AbsentLabels, harmonic, mean_over_labels, ratio
from tasks.metrics.batches import map_batches

_BATCH_SIZE = 512  # images at a time, where rows are ranked


class PRF(NamedTuple):
    """Precision, recall, F1; each in [0, 1], NaN where undefined."""

    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray


@dataclass(frozen=True)
class Counts:
    """True positives, predictions and positives along one axis: per label (…, C) or per image (N,)."""

    tp: np.ndarray
    predicted: np.ndarray
    positives: np.ndarray

    def with_one_false_prediction(self) -> Counts:
        """A label predicted nowhere gets one false prediction (ML-GCN's guard against 0 / 0)."""
        return Counts(self.tp, np.maximum(self.predicted, 1), self.positives)


def decide(scores_NC: np.ndarray, thresholds_C: np.ndarray, *, strict: bool = False) -> np.ndarray:
    """bool (N, C): score >= threshold, or score > threshold when strict. thresholds_C: float64 (C,)."""
    compare = np.greater if strict else np.greater_equal
    return compare(scores_NC, _as_float32_bound(thresholds_C, strict=strict))


def _as_float32_bound(thresholds_C: np.ndarray, *, strict: bool) -> np.ndarray:
    """The float32 bound that decides every float32 score as the float64 threshold does; halves the time."""
    exact = np.asarray(thresholds_C, np.float64)
    bound = exact.astype(np.float32)
    if strict:  # score > exact  <=>  score > largest float32 <= exact
        return np.where(bound > exact, np.nextafter(bound, np.float32(-np.inf)), bound)
    return np.where(bound < exact, np.nextafter(bound, np.float32(np.inf)), bound)


def count(decided_NC: np.ndarray, targets_NC: np.ndarray, known_NC: np.ndarray, *, axis: Literal[0, 1]) -> Counts:
    """Counts over known entries, summed over images (axis 0 -> per label) or over labels (axis 1 -> per image)."""
    return counts_along(counted_entries(decided_NC, targets_NC, known_NC), axis=axis)


def counted_entries(decided_NC: np.ndarray, targets_NC: np.ndarray, known_NC: np.ndarray) -> tuple[np.ndarray, ...]:
    """Which known entries are true positives, predictions, positives; three bool (N, C)."""
    if known_NC.all():
        return decided_NC & targets_NC.view(bool), decided_NC, targets_NC.view(bool)
    positive_NC = known_NC & targets_NC.view(bool)
    return decided_NC & positive_NC, decided_NC & known_NC, positive_NC


def counts_along(entries: tuple[np.ndarray, ...], *, axis: Literal[0, 1]) -> Counts:
    """Counts of `counted_entries`."""
    return Counts(*(np.count_nonzero(entries_NC, axis=axis) for entries_NC in entries))


# ---------------------------------------------------------------- definitions


def overall(counts: Counts) -> PRF:
    """OP, OR, OF1: all entries together (micro)."""
    tp, predicted, positives = (v.sum(axis=-1) for v in (counts.tp, counts.predicted, counts.positives))
    precision, recall = ratio(tp, predicted), ratio(tp, positives)
    return PRF(precision, recall, harmonic(precision, recall))


def per_label(counts: Counts) -> PRF:
    """Precision, recall and F1 of each label; all NaN where the label has no known positive."""
    absent = np.asarray(counts.positives) == 0
    precision, recall = ratio(counts.tp, counts.predicted), ratio(counts.tp, counts.positives)
    return PRF(*(np.where(absent, np.nan, v) for v in (precision, recall, harmonic(precision, recall))))


def class_harmonic(counts: Counts, absent: AbsentLabels) -> PRF:
    """CP, CR = means over labels; CF1 = harmonic mean of CP and CR (ML-GCN, mmcls / OTX 1)."""
    precision, recall = (mean_over_labels(v, absent) for v in per_label(counts)[:2])
    return PRF(precision, recall, harmonic(precision, recall))


def class_mean(counts: Counts, absent: AbsentLabels) -> PRF:
    """CP, CR, CF1 = means over labels of precision, recall and F1 (ASL validate, scikit-learn's macro)."""
    return PRF(*(mean_over_labels(v, absent) for v in per_label(counts)))


CLASS_F1: dict[str, Callable[[Counts, AbsentLabels], PRF]] = {"harmonic": class_harmonic, "mean": class_mean}


def f1_of_images(counts_of_images: Counts) -> np.ndarray:
    """F1 of each image, float64 (N,); 0 where an image has no true positive, even if there was nothing to predict."""
    return ratio(2 * counts_of_images.tp, counts_of_images.predicted + counts_of_images.positives)


def per_image(counts_of_images: Counts) -> PRF:
    """Means over images of each image's precision, recall and F1.

    deep-object-reid prints these as its "class" scores, which is very likely why the CF1 of Prokofiev and Sovrasov,
    table 10, exceeds their OF1; scikit-learn calls it the samples average.
    """
    precision = ratio(counts_of_images.tp, counts_of_images.predicted)
    recall = ratio(counts_of_images.tp, counts_of_images.positives)
    return PRF(*(ratio(v.sum(), len(v), otherwise=np.nan) for v in (precision, recall, f1_of_images(counts_of_images))))


def exact_match(decided_NC: np.ndarray, targets_NC: np.ndarray, known_NC: np.ndarray) -> float:
    """Share of images whose every known label is decided right; images without a known label are left out."""
    wrong_N = ((decided_NC != targets_NC.view(bool)) & known_NC).any(axis=1)
    counted_N = known_NC.any(axis=1)
    return float(ratio(np.count_nonzero(counted_N & ~wrong_N), np.count_nonzero(counted_N), otherwise=np.nan))


def top_k(scores_NC: np.ndarray, known_NC: np.ndarray, k: int = 3) -> np.ndarray:
    """Columns of the k best known labels of each image, int64 (N, k), -1 where fewer are known; ties to the first."""
    k = min(k, scores_NC.shape[1])

    def best_of(rows: slice) -> np.ndarray:
        left = np.where(known_NC[rows], scores_NC[rows], np.float32(-np.inf))
        index, best = np.arange(len(left)), np.empty((len(left), k), np.int64)
        for nth in range(k):
            best[:, nth] = left.argmax(axis=1)
            best[left[index, best[:, nth]] == -np.inf, nth] = -1
            left[index, best[:, nth]] = -np.inf
        return best

    return np.concatenate(map_batches(best_of, len(scores_NC), _BATCH_SIZE))


def count_chosen(columns_Nk: np.ndarray, targets_NC: np.ndarray, positives_C: np.ndarray) -> Counts:
    """Counts of each label when each image is given the labels of its `columns_Nk` (-1 = none)."""
    rows, nth = np.nonzero(columns_Nk >= 0)
    columns = columns_Nk[rows, nth]
    num_labels = targets_NC.shape[1]
    right = columns[targets_NC[rows, columns] == 1]
    return Counts(np.bincount(right, minlength=num_labels), np.bincount(columns, minlength=num_labels), positives_C)


def group_accuracy(
    scores_NC: np.ndarray, targets_NC: np.ndarray, known_NC: np.ndarray, *groups: Sequence[int]
) -> float:
    """Share of images on which the best-scored label of each exclusive group is the present one.

    groups: the columns of each. Counted are images with exactly one present label of every group; unknown labels do not
    compete. NaN when there is none, or no group.
    """
    right_N = counted_N = np.ones(len(scores_NC), bool)
    for columns in map(list, groups):
        known = known_NC[:, columns]
        present = known & targets_NC[:, columns].view(bool)
        best_N = np.where(known, scores_NC[:, columns], -np.inf).argmax(axis=1)
        counted_N = counted_N & (present.sum(axis=1) == 1)
        right_N = right_N & present[np.arange(len(present)), best_N]
    counted = np.count_nonzero(counted_N) if groups else 0
    return float(ratio(np.count_nonzero(right_N & counted_N), counted, otherwise=np.nan))
