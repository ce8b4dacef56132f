"""Do the images a model is tested on look to it like those its thresholds were fitted on?

Axes: N images, C labels, B bins. Scores of all images count, labelled or not: drift is a matter of what comes in.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

NUM_BINS = 10
NOTABLE_PSI = 0.1
"""Below it a shift changes little. Source: Siddiqi 2006, "Credit Risk Scorecards"."""
FALSE_ALARMS = 0.05
"""Chance that any label at all is called notable although nothing drifted."""


def score_drift(
    reference_NC: np.ndarray, current_MC: np.ndarray, thresholds_C: np.ndarray, labels: Sequence[str]
) -> dict[str, dict]:
    """How far scores moved: {label: {"PSI", "PSI_by_chance", "KS", "predicted_before", "predicted", "notable"}}.

    reference_NC: float (N, C), scores of the images that thresholds were fitted on.  current_MC: of the tested ones.
    thresholds_C: float64 (C,).
    PSI = sum over bins of (q - p) x ln(q / p), bins being the deciles of the reference, p and q the shares of reference
    and current scores in them, half an image added to each bin. Without drift it is about (1/N + 1/M) times a
    chi-squared of B - 1 degrees of freedom; PSI_by_chance is what it exceeds in 5 % of sets of C labels (Bonferroni),
    and a label is notable where PSI exceeds both that and 0.1.
    KS: largest distance of the two cumulative distributions, [0, 1].
    predicted_before, predicted: share of images that reach the threshold.
    Source: Yurdakul 2018, "Statistical Properties of Population Stability Index"; Kolmogorov-Smirnov's two-sample D.
    """
    from scipy.stats import chi2, ks_2samp

    num_images = len(reference_NC), len(current_MC)
    if 0 in num_images:
        return {}
    rows = {}
    for c, label in enumerate(labels):
        before, now = np.sort(reference_NC[:, c]), np.sort(current_MC[:, c])
        psi, num_bins = population_stability(before, now)
        quantile = chi2.ppf(1 - FALSE_ALARMS / len(labels), num_bins - 1) if num_bins > 1 else 0.0
        chance = quantile * sum(1 / n for n in num_images)
        rows[label] = {
            "PSI": psi,
            "PSI_by_chance": float(chance),
            "KS": float(ks_2samp(before, now, method="asymp").statistic),
            "predicted_before": float(np.mean(before >= thresholds_C[c])),
            "predicted": float(np.mean(now >= thresholds_C[c])),
            "notable": bool(psi > max(chance, NOTABLE_PSI)),
        }
    return rows


def population_stability(before: np.ndarray, now: np.ndarray) -> tuple[float, int]:
    """PSI of two sorted samples over the deciles of the first, and the bins that tied scores left of the ten."""
    edges = np.unique(np.quantile(before, np.linspace(0, 1, NUM_BINS + 1)[1:-1], method="lower"))
    shares = []
    for scores in (before, now):
        below = np.searchsorted(scores, edges, side="right")
        counts = np.diff(np.concatenate([[0], below, [len(scores)]])) + 0.5
        shares.append(counts / counts.sum())
    p, q = shares
    return float(np.sum((q - p) * np.log(q / p))), len(edges) + 1
