"""Threshold rules: from the confusion counts at each operating point to one threshold a label.

Axes: C labels, K operating points. A rule is made with its options and called as `rule(points, pooled)`: `points` are
those of each label, `pooled` those of all labels taken as one. Called as `rule(pooled, pooled)` it gives the common
threshold that rare labels fall back to. A decision is score >= threshold, and a chosen point becomes a threshold
half-way down to the next lower known score, so that it does not hang on one image's exact score.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, replace
from statistics import NormalDist
from typing import Protocol

import numpy as np

from tasks.metrics.arithmetic import ratio
from tasks.metrics.ranking import OperatingPoints


@dataclass(frozen=True)
class Thresholds:
    """One threshold a label.

    values_C: float64 (C,); +inf = never predicted.  support_C: known positives it was fitted on.
    reasons: why the value is not what the rule asked for, '' where it is.
    keeps_target: fitted to reach a delivery target (precision, recall), so values must not be moved towards others.
    """

    values_C: np.ndarray
    support_C: np.ndarray
    reasons: list[str]
    keeps_target: bool = False


class Rule(Protocol):
    """What RULES makes."""

    def __call__(self, points: OperatingPoints, pooled: OperatingPoints) -> Thresholds: ...


class Target(Protocol):
    """The delivery target of one label, `deliver:` in the taxonomy: precision and recall to be reached, in (0, 1]."""

    precision: float
    recall: float


@dataclass(frozen=True)
class Fixed:
    """The same given threshold for every label."""

    _: KW_ONLY
    threshold: float = 0.5

    def __call__(self, points: OperatingPoints, pooled: OperatingPoints) -> Thresholds:
        values_C = np.full(points.num_labels, float(self.threshold))
        return Thresholds(values_C, points.num_positives_C, [""] * points.num_labels, keeps_target=True)


@dataclass(frozen=True)
class FBeta:
    """Each label's best F-beta over every operating point; recall counts beta > 0 times as much as precision."""

    _: KW_ONLY
    beta: float = 1.0

    def __post_init__(self) -> None:
        _check("beta", self.beta, self.beta > 0, "above 0")

    def __call__(self, points: OperatingPoints, pooled: OperatingPoints) -> Thresholds:
        b2 = self.beta**2
        weighted = b2 * points.num_positives_C[points.label_K] + points.predicted_K
        return _at_best(points, ratio((1 + b2) * points.tp_K, weighted))


@dataclass(frozen=True)
class PerLabelF1:
    """Each label's best F1 over every point. (Prokofiev and Sovrasov's "grid" is every distinct score, too.)"""

    def __call__(self, points: OperatingPoints, pooled: OperatingPoints) -> Thresholds:
        return FBeta()(points, pooled)


@dataclass(frozen=True)
class GlobalF1:
    """One threshold for all labels, the best for OF1."""

    def __call__(self, points: OperatingPoints, pooled: OperatingPoints) -> Thresholds:
        values_C = np.full(points.num_labels, FBeta()(pooled, pooled).values_C[0])
        return Thresholds(values_C, points.num_positives_C, [""] * points.num_labels)


@dataclass(frozen=True)
class TargetPrecision:
    """The most recall with precision >= its target; where no point reaches it, the nearest one.

    delivery_targets: targets of single labels; `precision` holds for the others.
    precision: in (0, 1].
    confidence: in [0.5, 1). A point reaches the target when the one-sided lower bound of its precision does (Wilson).
    0.975 is the lower end of the usual 95 % interval, 0.5 takes the observed precision as it is; docs/thresholds.md
    has how often either reaches the target on new images.
    """

    delivery_targets: Sequence[Target | None] | None = None
    _: KW_ONLY
    precision: float = 0.9
    confidence: float = 0.975

    def __post_init__(self) -> None:
        _check("precision", self.precision, 0 < self.precision <= 1, "in (0, 1]")
        _check("confidence", self.confidence, 0.5 <= self.confidence < 1, "in [0.5, 1)")

    def __call__(self, points: OperatingPoints, pooled: OperatingPoints) -> Thresholds:
        target_C = _targets("precision", self.precision, self.delivery_targets, points, pooled)
        bound_K = precision_lower_bound(points.tp_K, points.predicted_K, confidence=self.confidence)
        reached_K = bound_K >= target_C[points.label_K]
        chosen = _at_best(points, np.where(reached_K, 1 + points.recall_K, bound_K))
        reasons = [f"precision {target:g} not reached; the nearest operating point" for target in target_C]
        return _because(replace(chosen, keeps_target=True), ~_any(points, reached_K), reasons)


@dataclass(frozen=True)
class TargetRecall:
    """The most precision with recall >= its target. delivery_targets, recall: as precision in TargetPrecision."""

    delivery_targets: Sequence[Target | None] | None = None
    _: KW_ONLY
    recall: float = 0.9

    def __post_init__(self) -> None:
        _check("recall", self.recall, 0 < self.recall <= 1, "in (0, 1]")

    def __call__(self, points: OperatingPoints, pooled: OperatingPoints) -> Thresholds:
        target_C = _targets("recall", self.recall, self.delivery_targets, points, pooled)
        reached_K = points.recall_K >= target_C[points.label_K]
        return replace(_at_best(points, np.where(reached_K, points.precision_K, -1.0)), keeps_target=True)


@dataclass(frozen=True)
class PrecisionRecallTarget:
    """The album pipeline's 90/50 rule: the most recall with precision >= its target, if that recall reaches its own.

    A label that cannot have both is "not deliverable"; it gets its best-F1 threshold, so that it can be looked at.
    delivery_targets, precision, recall: as in TargetPrecision.
    confidence: as there, but 0.5 unless asked: the published rule reads the curve as it is.
    """

    delivery_targets: Sequence[Target | None] | None = None
    _: KW_ONLY
    precision: float = 0.9
    recall: float = 0.5
    confidence: float = 0.5

    def __post_init__(self) -> None:
        TargetPrecision(precision=self.precision, confidence=self.confidence)
        TargetRecall(recall=self.recall)

    def __call__(self, points: OperatingPoints, pooled: OperatingPoints) -> Thresholds:
        precision_C = _targets("precision", self.precision, self.delivery_targets, points, pooled)
        recall_C = _targets("recall", self.recall, self.delivery_targets, points, pooled)
        bound_K = precision_lower_bound(points.tp_K, points.predicted_K, confidence=self.confidence)
        both_K = (bound_K >= precision_C[points.label_K]) & (points.recall_K >= recall_C[points.label_K])
        chosen = _at_best(points, np.where(both_K, points.recall_K, -1.0))
        missed_C = ~_any(points, both_K)
        values_C = np.where(missed_C, FBeta()(points, pooled).values_C, chosen.values_C)
        reasons = [
            f"not deliverable: no operating point has precision {p:g} and recall {r:g}; best F1 instead"
            for p, r in zip(precision_C, recall_C, strict=True)
        ]
        return _because(replace(chosen, values_C=values_C, keeps_target=True), missed_C, reasons)


@dataclass(frozen=True)
class ExpectedCost:
    """The least total cost of mistakes; a label may be cheapest never predicted.

    false_positive, false_negative: cost of one mistake, any unit, >= 0.
    """

    _: KW_ONLY
    false_positive: float = 1.0
    false_negative: float = 1.0

    def __post_init__(self) -> None:
        _check("false_positive", self.false_positive, self.false_positive >= 0, "0 or more")
        _check("false_negative", self.false_negative, self.false_negative >= 0, "0 or more")

    def __call__(self, points: OperatingPoints, pooled: OperatingPoints) -> Thresholds:
        saved_K = self.false_negative * points.tp_K - self.false_positive * (points.predicted_K - points.tp_K)
        chosen, never_C = _at_best(points, saved_K), ~_any(points, saved_K > 0)
        chosen = replace(chosen, values_C=np.where(never_C, np.inf, chosen.values_C))
        return _because(chosen, never_C, ["cheapest never predicted"] * points.num_labels)


def precision_lower_bound(tp: np.ndarray, predicted: np.ndarray, *, confidence: float) -> np.ndarray:
    """One-sided lower bound of the precision tp / predicted (Wilson score); the ratio itself at confidence 0.5.

    Source: Wilson, JASA 1927, "Probable Inference, the Law of Succession, and Statistical Inference".
    """
    z = NormalDist().inv_cdf(confidence)
    n = np.maximum(predicted, 1)
    p = tp / n
    return (p + z * z / (2 * n) - z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))) / (1 + z * z / n)


# ---------------------------------------------------------------- from an operating point to a threshold


def _at_best(points: OperatingPoints, value_K: np.ndarray) -> Thresholds:
    """The threshold at each label's point with the highest value, the strictest of equals; +inf without points."""
    values_C = np.full(points.num_labels, np.inf)
    for c, own in enumerate(points.per_label()):
        if own.stop > own.start:
            best = own.start + int(np.argmax(value_K[own]))
            values_C[c] = between(float(points.lower_K[best]), float(points.score_K[best]))
    return Thresholds(values_C, points.num_positives_C, [""] * points.num_labels)


def between(lower: float, score: float) -> float:
    """A threshold in (lower, score]: half-way (`score` above -inf), to six digits where that is enough."""
    middle = score if math.isinf(lower) else (lower + score) / 2
    short = six_digits(middle)
    return short if lower < short <= score else middle


def six_digits(value: float) -> float:
    """Rounded to six significant digits, so that thresholds.json reads and diffs well."""
    return float(f"{value:.6g}")


def _any(points: OperatingPoints, flag_K: np.ndarray) -> np.ndarray:
    return np.bincount(points.label_K, flag_K, minlength=points.num_labels) > 0


def _because(thresholds: Thresholds, where_C: np.ndarray, reasons_C: Sequence[str]) -> Thresholds:
    reasons = [reason if flagged else "" for reason, flagged in zip(reasons_C, where_C, strict=True)]
    return replace(thresholds, reasons=reasons)


def _targets(
    name: str,
    default: float,
    delivery_targets: Sequence[Target | None] | None,
    points: OperatingPoints,
    pooled: OperatingPoints,
) -> np.ndarray:
    """Target of each label, float64 (C,); the default for all labels pooled."""
    if delivery_targets is None or points is pooled:
        return np.full(points.num_labels, default)
    return np.array([default if target is None else getattr(target, name) for target in delivery_targets], np.float64)


def _check(name: str, value: float, holds: bool, range_: str) -> None:
    if not holds:
        raise ValueError(f"{name} must be {range_}, found {value}")
