"""Average precision in the three published forms, and ROC-AUC.

Axes: C labels, K operating points of one label or of all. Each form takes the confusion counts of ONE label along
axis 0, so that a further axis may hold resamples: tp (K, …), predicted (K, …), num_positives (…). NaN where
num_positives is 0.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tasks.metrics.arithmetic import ratio
from tasks.metrics.ranking import OperatingPoints


def all_ranks(tp: np.ndarray, predicted: np.ndarray, num_positives: np.ndarray) -> np.ndarray:
    """Sum of (recall step) x precision: non-interpolated, every rank counts (ASL, ML-GCN, scikit-learn)."""
    gained = np.diff(tp, axis=0, prepend=0)
    return ratio((gained * ratio(tp, predicted)).sum(axis=0), num_positives, otherwise=np.nan)


def envelope(tp: np.ndarray, predicted: np.ndarray, num_positives: np.ndarray) -> np.ndarray:
    """Area under the precision envelope, max precision at that recall or a higher one (VOC 2010 on, Query2Label)."""
    gained = np.diff(tp, axis=0, prepend=0)
    return ratio((gained * _falling(ratio(tp, predicted))).sum(axis=0), num_positives, otherwise=np.nan)


def eleven_point(tp: np.ndarray, predicted: np.ndarray, num_positives: np.ndarray) -> np.ndarray:
    """Mean of the precision envelope at recall 0, 0.1, …, 1 (VOC 2007).

    "Recall >= t/10" is decided in whole counts, 10 tp >= t positives, so no rounding error moves a point.
    """
    precision = _falling(ratio(tp, predicted))
    total = 0.0
    for tenth in range(11):
        reached = 10 * tp >= tenth * num_positives
        total = total + np.where(reached, precision, 0.0).max(axis=0, initial=0.0)
    return np.where(np.asarray(num_positives) > 0, total / 11, np.nan)


AVERAGE_PRECISIONS: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]] = {
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


def _falling(precision: np.ndarray) -> np.ndarray:
    """The largest value at this operating point or a looser one."""
    return np.maximum.accumulate(precision[::-1], axis=0)[::-1]
