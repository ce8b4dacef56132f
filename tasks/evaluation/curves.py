"""Precision-recall curves of an evaluation. Axes: K operating points."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tasks.evaluation.diagnosis import reliability
from tasks.evaluation.scored_run import ScoredRun
from tasks.metrics.ranking import OperatingPoints, rank, rank_pooled


def precision_recall_curves(
    points: OperatingPoints, labels: Sequence[str], *, max_points: int = 200
) -> dict[str, dict]:
    """{label: {"threshold", "precision", "recall"}} from the strictest point to the loosest, at most `max_points` each.

    Every point where the recall changes is exact; a longer curve is thinned evenly, keeping both ends.
    """
    curves = {}
    for label, own in zip(labels, points.per_label(), strict=True):
        kept = np.arange(own.start, own.stop)
        if len(kept) > max_points:
            kept = kept[np.linspace(0, len(kept) - 1, max_points).round().astype(int)]
        curves[label] = {
            "threshold": points.score_K[kept].tolist(),
            "precision": points.precision_K[kept].tolist(),
            "recall": points.recall_K[kept].tolist(),
        }
    return curves


def curves_of(run: ScoredRun) -> dict:
    """curves.json: {"labels": a curve each, "overall": that of all labels taken as one, "reliability": its bins}."""
    arrays = run.scores_NC, run.targets_NC, run.known_NC
    return {
        "labels": precision_recall_curves(rank(*arrays).points, run.labels),
        "overall": precision_recall_curves(rank_pooled(*arrays).points, ["all labels"])["all labels"],
        "reliability": reliability(*arrays),
    }


def as_csv(curve: dict) -> str:
    """One curve as text, for `dvc plots`."""
    rows = zip(curve["recall"], curve["precision"], curve["threshold"], strict=True)
    return "\n".join(["recall,precision,threshold", *(f"{r:.6f},{p:.6f},{t:.6f}" for r, p, t in rows)]) + "\n"
