"""Fit thresholds: a rule, a fallback for rare labels, shrinkage towards a common threshold, and an interval.

Axes: N images, C labels, K points, B refits on resampled images.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from tasks.metrics.arithmetic import ratio
from tasks.metrics.ranking import Ranking, rank, rank_pooled
from tasks.thresholds.rules import Rule, Thresholds, six_digits

_REFITS = 64  # at least, where shrinkage needs the spread of each threshold


@dataclass(frozen=True)
class FittedThresholds:
    """One threshold a label, and the spread that refitting on resampled images gives it.

    values_C: float64 (C,); a label is predicted when score >= value; +inf = never.
    support_C: int64, known positives.  reasons: why a value is not what the rule asked for, '' where it is.
    shrinkage_weight_C: float64 in [0, 1], how much of the value is the label's own; the rest is the common threshold.
    low_C, high_C: float64 (C,), central 95 % of refits; NaN where not resampled.
    """

    values_C: np.ndarray
    support_C: np.ndarray
    reasons: list[str]
    shrinkage_weight_C: np.ndarray
    low_C: np.ndarray
    high_C: np.ndarray


def fit(
    rule: Rule,
    scores_NC: np.ndarray,
    targets_NC: np.ndarray,
    known_NC: np.ndarray,
    *,
    min_support: int = 5,
    shrinkage: float = 1.0,
    bootstrap: int = 0,
    seed: int = 0,
) -> FittedThresholds:
    """One threshold a label by `rule`, steadied where a label has few known positives.

    rule: made from RULES.
    scores_NC: float32 (N, C), finite, from a model that did not train on these images.  targets_NC: uint8 {0, 1}.
    known_NC: bool; unknown entries do not count.
    min_support: a label with fewer known positives takes the rule's threshold for all labels together, and says so.
    shrinkage: >= 0, factor on the empirical-Bayes estimate of how far each label's threshold is to be moved towards the
    common one (`shrinkage_weights`); 1 is the estimate, 0 turns it off. Thresholds with a delivery target (precision,
    recall) are never moved.
    bootstrap: refits on resampled images for the interval, 0 for none.  seed: of the resampling.
    """
    ranking = rank(scores_NC, targets_NC, known_NC, keep_order=True)
    pooled = rank_pooled(scores_NC, targets_NC, known_NC, keep_order=True)
    own, common = rule(ranking.points, pooled.points), rule(pooled.points, pooled.points)
    fewest = max(min_support, 1)
    rare_C = own.support_C < fewest
    shrinkage_weight_C = np.where(rare_C, 0.0, 1.0)
    low_C = high_C = np.full(len(rare_C), np.nan)
    shrinks = shrinkage > 0 and not own.keeps_target and np.isfinite(common.values_C[0])
    if bootstrap or shrinks:
        num_refits = max(bootstrap, _REFITS) if shrinks else bootstrap
        own_BC, common_B1 = _refits(rule, ranking, pooled, len(scores_NC), num_refits, seed)
        if shrinks:
            spread_C = np.where(np.isfinite(own_BC), own_BC, common.values_C[0]).var(axis=0)
            distance_C = own.values_C - common.values_C[0]
            shrinkage_weight_C = shrinkage_weights(distance_C, spread_C, rare_C, factor=shrinkage)
        if bootstrap:
            low_C, high_C = _interval(_mixed(own_BC, common_B1, shrinkage_weight_C))
    values_C = _mixed(own.values_C, common.values_C[0], shrinkage_weight_C)
    return FittedThresholds(
        np.array([six_digits(v) if 0 < w < 1 else v for v, w in zip(values_C, shrinkage_weight_C, strict=True)]),
        own.support_C,
        [_reason(own, common, c, fewest) for c in range(len(rare_C))],
        shrinkage_weight_C,
        low_C,
        high_C,
    )


def shrinkage_weights(
    distance_C: np.ndarray, variance_C: np.ndarray, rare_C: np.ndarray, *, factor: float
) -> np.ndarray:
    """How much of each threshold is the label's own: tau^2 / (tau^2 + factor x sigma_c^2), float64 (C,) in [0, 1].

    distance_C: own minus common threshold.  variance_C: sigma_c^2, of the own threshold over refits; it falls with
    support.  rare_C: labels that get weight 0 and do not count in tau^2.
    tau^2 estimates how far labels truly differ: the mean of distance^2 - sigma_c^2, at least 0. Where labels share a
    scale of scores tau^2 is small and all lean on the common threshold; where each has its own, all keep theirs.
    Source: Efron and Morris, JASA 1973, "Stein's Estimation Rule and Its Competitors: An Empirical Bayes Approach".
    """
    counted_C = ~rare_C & np.isfinite(distance_C)
    if not counted_C.any():
        return np.where(rare_C, 0.0, 1.0)
    tau2 = max(0.0, float(np.mean(distance_C[counted_C] ** 2 - variance_C[counted_C])))
    return np.where(rare_C, 0.0, ratio(tau2, tau2 + factor * variance_C, otherwise=1.0))


def _mixed(own: np.ndarray, common: np.ndarray, shrinkage_weight_C: np.ndarray) -> np.ndarray:
    """shrinkage_weight x own + the rest x common; a threshold of +inf (never) is not mixed with a finite one."""
    own, common, weight = np.broadcast_arrays(own, common, shrinkage_weight_C)
    mixes = (weight > 0) & (weight < 1) & np.isfinite(own) & np.isfinite(common)
    mixed = np.where(weight == 0, common, own).astype(np.float64)
    mixed[mixes] = weight[mixes] * own[mixes] + (1 - weight[mixes]) * common[mixes]
    return mixed


def _reason(own: Thresholds, common: Thresholds, c: int, fewest: int) -> str:
    """The rule's own reason, or why the label takes the common threshold."""
    if own.support_C[c] >= fewest or (own.values_C[c] == common.values_C[0] < np.inf):
        return own.reasons[c]
    if np.isinf(common.values_C[0]):
        return "never predicted: " + (common.reasons[0] if common.support_C[0] else "no label has a known positive")
    because = f"{own.support_C[c]} known positives, fewer than {fewest}: threshold of all labels together"
    return because + (f" ({common.reasons[0]})" if common.reasons[0] else "")


def _refits(
    rule: Rule, ranking: Ranking, pooled: Ranking, num_images: int, num_refits: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """The rule on one resample of the images after another: each label's threshold (B, C), the common one (B, 1)."""
    from tasks.metrics.bootstrap import WeightedCounts, weight_batches  # scipy.sparse: only where it is needed

    weighted = [WeightedCounts(r, r.points, num_images) for r in (ranking, pooled)]
    own_BC, common_B = [], []
    for weights_NB in weight_batches(num_images, num_refits, resample_by=None, seed=seed):
        drawn = [(counts.points, counts(weights_NB)) for counts in weighted]
        for b in range(weights_NB.shape[1]):
            points, pooled_points = (
                replace(points, tp_K=tp_KB[:, b], predicted_K=predicted_KB[:, b], num_positives_C=positives_CB[:, b])
                for points, (tp_KB, predicted_KB, positives_CB) in drawn
            )
            own_BC.append(rule(points, pooled_points).values_C)
            common_B.append(rule(pooled_points, pooled_points).values_C)
    return np.array(own_BC), np.array(common_B)


def _interval(values_BC: np.ndarray) -> np.ndarray:
    """Central 95 % of refits, (2, C)."""
    from tasks.metrics.bootstrap import percentile_interval

    return percentile_interval(values_BC)
