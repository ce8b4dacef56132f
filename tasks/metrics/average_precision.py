"""Average precision in the three published forms, and ROC-AUC.

Axes: C labels, K operating points of one label or of all. Each form takes the confusion counts of ONE label along
axis 0, so that a further axis may hold resamples: tp (K, …), predicted (K, …), num_positives (…). NaN where
num_positives is 0.

AP of few positives is too high: each counts among those ranked as high as itself. With left_out=True the precision at
a positive is that of what stands above it, whose mean over test sets is the population's precision at its score.
Nothing stands above the best one; it takes the highest precision of the others, or 1 where there is no other.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tasks.metrics.arithmetic import ratio
from tasks.metrics.ranking import OperatingPoints


def all_ranks(
    tp: np.ndarray, predicted: np.ndarray, num_positives: np.ndarray, *, left_out: bool = False
) -> np.ndarray:
    """Sum of (recall step) x precision: non-interpolated, every rank counts (ASL, ML-GCN, scikit-learn)."""
    gained = np.diff(tp, axis=0, prepend=0)
    return ratio((gained * _precision(tp, predicted, left_out=left_out)).sum(axis=0), num_positives, otherwise=np.nan)


def envelope(tp: np.ndarray, predicted: np.ndarray, num_positives: np.ndarray, *, left_out: bool = False) -> np.ndarray:
    """Area under the precision envelope, max precision at that recall or a higher one (VOC 2010 on, Query2Label)."""
    gained = np.diff(tp, axis=0, prepend=0)
    return ratio(
        (gained * _falling(_precision(tp, predicted, left_out=left_out))).sum(axis=0), num_positives, otherwise=np.nan
    )


def eleven_point(
    tp: np.ndarray, predicted: np.ndarray, num_positives: np.ndarray, *, left_out: bool = False
) -> np.ndarray:
    """Mean of the precision envelope at recall 0, 0.1, …, 1 (VOC 2007).

    "Recall >= t/10" is decided in whole counts, 10 tp >= t positives, so no rounding error moves a point.
    """
    precision = _falling(_precision(tp, predicted, left_out=left_out))
    total = 0.0
    for tenth in range(11):
        reached = 10 * tp >= tenth * num_positives
        total = total + np.where(reached, precision, 0.0).max(axis=0, initial=0.0)
    return np.where(np.asarray(num_positives) > 0, total / 11, np.nan)


AVERAGE_PRECISIONS: dict[str, Callable[..., np.ndarray]] = {
    "all_ranks": all_ranks,
    "envelope": envelope,
    "eleven_point": eleven_point,
}


def average_precisions(points: OperatingPoints, form: str = "all_ranks") -> np.ndarray:
    """AP of each label, float64 (C,) in [0, 1]; NaN for a label without a known positive. form: AVERAGE_PRECISIONS."""
    one_label = AVERAGE_PRECISIONS[form]
    return np.array(
        [
            one_label(points.tp_K[own], points.predicted_K[own], num_positives)
            for own, num_positives in zip(points.per_label(), points.num_positives_C, strict=True)
        ],
        np.float64,
    )


def roc_auc(points: OperatingPoints) -> np.ndarray:
    """Probability that a positive outscores a negative, ties half; float64 (C,), NaN without positives or negatives.

    Needs grouped points. Equals the area under the ROC curve (Mann-Whitney).
    """
    first = np.zeros(len(points.tp_K), bool)
    first[points.start_C1[:-1][np.diff(points.start_C1) > 0]] = True
    tp_above = np.where(first, 0, np.roll(points.tp_K, 1))
    negatives_C = points.num_known_C - points.num_positives_C
    # Negatives above, plus half of the tied ones: the mean of the false positives before and after the tied group.
    outscoring = 0.5 * ((points.above_K - tp_above) + (points.predicted_K - points.tp_K))
    lost_C = np.bincount(points.label_K, (points.tp_K - tp_above) * outscoring, minlength=points.num_labels)
    return 1 - ratio(lost_C, points.num_positives_C * negatives_C, otherwise=np.nan)


def _precision(tp: np.ndarray, predicted: np.ndarray, *, left_out: bool) -> np.ndarray:
    """Precision at each operating point, axis 0; left_out: without the positive that stands there."""
    if not left_out:
        return ratio(tp, predicted)
    above = ratio(tp - 1, predicted - 1)
    alone = predicted <= 1
    informative = (np.diff(tp, axis=0, prepend=0) > 0) & ~alone
    best = np.where(informative.any(axis=0), np.where(informative, above, 0.0).max(axis=0, initial=0.0), 1.0)
    return np.where(alone, np.where(tp > 0, best, 0.0), np.maximum(above, 0.0))


def _falling(precision: np.ndarray) -> np.ndarray:
    """The largest value at this operating point or a looser one."""
    return np.maximum.accumulate(precision[::-1], axis=0)[::-1]
