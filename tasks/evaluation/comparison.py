"""`python -m tasks compare A B`: is run B better than run A, or do they differ only by the chance of the test images?

Axes: C labels, B resamples. Both runs are measured on the same resamples of the same images, so what both
find hard cancels out; the interval is that of the difference.
"""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np

from tasks.core.errors import ProtocolError
from tasks.evaluation.scored_run import ScoredRun
from tasks.metrics import METRICS
from tasks.metrics.bootstrap import LEAST_POSITIVES, ends, normal_interval, resample, without_interval
from tasks.metrics.f1 import per_label
from tasks.metrics.protocols import Protocol

MUST_AGREE = (
    *(field.name for field in fields(Protocol) if field.name != "source"),
    "threshold_rule",
    "weights_kind",
    "relations",
    "absent_if_missing",
)
"""Entries of the stamp that move numbers. One that a run does not state, or states as "unknown", is passed over."""


def compare(a: ScoredRun, b: ScoredRun, *, bootstrap: int = 1000, seed: int = 0) -> dict:
    """Metrics of both runs and the paired 95 % interval of b - a, overall and for each label; JSON-ready.

    bootstrap: resamples, at least 1; drawn by duplicate group where the runs hold one.  seed: of the resampling.
    Returns {"metrics": {name: row}, "labels": {label: {"AP": row, "F1": row}}, "without_interval": {metric: why},
    "bootstrap": how, "protocol": stamp of
    a}, a row being {"a", "b", "difference", "low", "high", "better"}: better is "a" or "b" where the interval leaves
    out 0, else None. Of many labels some 5 % leave it out by chance.
    Raises ProtocolError when protocols, test images, labels or the truth differ, and says which.
    """
    assert bootstrap > 0, "an interval needs resamples"
    b = _aligned(a, b)
    _refuse_unlike_stamps(a.stamp, b.stamp)
    _refuse_other_truth(a, b)
    scored = [replace(run, stamp=a.stamp).scored(keep_order=True) for run in (a, b)]
    drawn_a, drawn_b = (resample(s, bootstrap, resample_by=a.group_ids, seed=seed) for s in scored)
    ap_2C = [s.ap_C for s in scored]
    f1_2C = [per_label(s.label_counts).f1 for s in scored]
    lacking = without_interval(scored[0])
    few_C = scored[0].ranking.num_positives_C < LEAST_POSITIVES
    ap_BC = np.where(few_C, np.nan, drawn_b.ap_BC - drawn_a.ap_BC)
    f1_BC = np.where(few_C, np.nan, drawn_b.f1_BC - drawn_a.f1_BC)
    drawn = {name: drawn_b.headline[name] - drawn_a.headline[name] for name in drawn_a.headline}
    return {
        "metrics": {
            name: difference_row(
                *(METRICS[name](s) for s in scored), np.full(bootstrap, np.nan) if name in lacking else differences_B
            )
            for name, differences_B in drawn.items()
        },
        "labels": {
            label: {
                "AP": difference_row(ap_2C[0][c], ap_2C[1][c], ap_BC[:, c]),
                "F1": difference_row(f1_2C[0][c], f1_2C[1][c], f1_BC[:, c]),
            }
            for c, label in enumerate(a.labels)
        },
        "without_interval": lacking,
        "bootstrap": {"resamples": bootstrap, "seed": seed, "drawn_by": "group" if a.group_ids else "image"},
        "protocol": a.stamp,
    }


def difference_row(a: float, b: float, differences_B: np.ndarray) -> dict:
    """One line of a comparison: values of two runs, interval of the resampled b - a; None where undefined."""
    interval = ends(normal_interval(differences_B))
    low, high = interval or (None, None)
    better = None if interval is None else "b" if low > 0 else "a" if high < 0 else None
    row = {"a": float(a), "b": float(b), "difference": float(b - a)}
    row = {name: None if np.isnan(value) else value for name, value in row.items()}
    return {**row, "low": low, "high": high, "better": better}


def _aligned(a: ScoredRun, b: ScoredRun) -> ScoredRun:
    """b with its images and labels in the order of a. Raises ProtocolError when the sets differ."""
    order = []
    for what, of_a, of_b in (("images", a.image_ids, b.image_ids), ("labels", a.labels, b.labels)):
        only_a, only_b = sorted(set(of_a) - set(of_b)), sorted(set(of_b) - set(of_a))
        if only_a or only_b:
            example = f"'{only_a[0]}' only in A" if only_a else f"'{only_b[0]}' only in B"
            raise ProtocolError(
                f"the test {what} differ: A has {len(of_a)}, B has {len(of_b)}, {len(only_a) + len(only_b)} stand in "
                f"one run only, e.g. {example}. Score both runs on the same {what}."
            )
        index_in_b = {name: i for i, name in enumerate(of_b)}
        order.append(np.array([index_in_b[name] for name in of_a]))
    rows, columns = order
    scores, targets, known = (m[np.ix_(rows, columns)] for m in (b.scores_NC, b.targets_NC, b.known_NC))
    return ScoredRun(a.image_ids, a.labels, scores, targets, known, b.thresholds_C[columns], b.group_ids, b.stamp)


def _refuse_unlike_stamps(a: dict, b: dict) -> None:
    stated = [key for key in MUST_AGREE if key in a and key in b and "unknown" not in (a[key], b[key])]
    unlike = [key for key in stated if a[key] != b[key]]
    if unlike:
        shown = "; ".join(f"{key} is {a[key]!r} in A and {b[key]!r} in B" for key in unlike)
        raise ProtocolError(f"the runs were measured differently: {shown}. Score both under one protocol.")


def _refuse_other_truth(a: ScoredRun, b: ScoredRun) -> None:
    unlike = (a.known_NC != b.known_NC) | (a.known_NC & (a.targets_NC != b.targets_NC))
    if unlike.any():
        n, c = (int(i) for i in np.argwhere(unlike)[0])
        raise ProtocolError(
            f"the labels disagree on {int(unlike.sum())} (image, label) pairs, e.g. image '{a.image_ids[n]}', label "
            f"'{a.labels[c]}'. Score both runs against the same version of the labels."
        )
