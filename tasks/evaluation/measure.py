"""`evaluate`: every number of one model on one set of images, under one protocol, as one JSON-ready dict."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from tasks.metrics import METRICS, f1
from tasks.metrics.protocols import PROTOCOLS, protocol_named
from tasks.metrics.ranking import OperatingPoints
from tasks.metrics.scored import Scored, group_accuracies


def evaluate(
    scores_NC: np.ndarray,
    targets_NC: np.ndarray,
    known_NC: np.ndarray,
    labels: Sequence[str],
    image_ids: Sequence[str],
    thresholds_C: np.ndarray | None = None,
    *,
    protocol: str = "tagwright",
    threshold_rule: str = "",
    weights_kind: str = "unknown",
    groups: Mapping[str, Sequence[str]] | None = None,
    bootstrap: int = 0,
    resample_by: Sequence[str] | None = None,
    seed: int = 0,
) -> dict:
    """Metrics, per-label table, intervals and the stamp that says how they were measured.

    scores_NC: float32 (N, C), finite.  targets_NC: uint8 {0, 1}.  known_NC: bool.  labels: C names.  image_ids: N ids.
    thresholds_C: float64 (C,); the protocol's own threshold for every label when None.
    threshold_rule: where thresholds_C came from, for the stamp.  weights_kind: raw or ema, for the stamp.
    groups: exclusive group -> its labels.
    bootstrap: resamples for the 95 % intervals, 0 for none.  resample_by: group_id of each image, so that duplicates
    are drawn together; images are drawn singly when None.  seed: of the resampling.
    Returns {"metrics": {name: value}, "labels": {label: {...}}, "intervals": {...}, "protocol": stamp}, and with groups
    "groups": {name: accuracy}; undefined numbers are None.
    Raises ProtocolError for an unknown protocol.
    """
    rules = protocol_named(protocol)
    index_of = {label: c for c, label in enumerate(labels)}
    if thresholds_C is None:
        thresholds_C = np.full(len(labels), rules.threshold)
        threshold_rule = threshold_rule or f"fixed {rules.threshold:g}"
    scored = Scored(
        scores_NC,
        targets_NC,
        known_NC,
        np.asarray(thresholds_C, np.float64),
        rules,
        {name: [index_of[label] for label in members] for name, members in (groups or {}).items()},
        keep_order=bootstrap > 0,
    )
    result = {
        "metrics": {name: _number(metric(scored)) for name, metric in METRICS.items()},
        "labels": label_table(scored, labels),
        "protocol": rules.stamp(
            image_ids=image_ids,
            labels=labels,
            absent_labels=[label for label, ap in zip(labels, scored.ap_C, strict=True) if math.isnan(ap)],
            threshold_rule=threshold_rule or "given",
            weights_kind=weights_kind,
        ),
    }
    if groups:
        result["groups"] = {name: _number(share) for name, share in group_accuracies(scored).items()}
    if bootstrap:
        from tasks.metrics.bootstrap import intervals  # scipy.sparse: only where it is asked for

        result["intervals"] = intervals(scored, labels, bootstrap, resample_by=resample_by, seed=seed)
    return result


SIDE_BY_SIDE = (
    "mAP", "OP", "OR", "OF1", "CP", "CR", "CF1", "image_F1", "exact_match", "hamming_accuracy", "top3_OF1", "top3_CF1"
)  # fmt: skip


def under_protocols(
    scores_NC: np.ndarray, targets_NC: np.ndarray, known_NC: np.ndarray, thresholds_C: np.ndarray
) -> dict[str, dict]:
    """{protocol: {metric: value}}: the same scores and thresholds as each published protocol would count them."""
    found = {}
    for name, protocol in PROTOCOLS.items():
        scored = Scored(scores_NC, targets_NC, known_NC, thresholds_C, protocol)
        found[name] = {metric: _number(METRICS[metric](scored)) for metric in SIDE_BY_SIDE}
    return found


def label_table(scored: Scored, labels: Sequence[str]) -> dict[str, dict]:
    """{label: AP, ROC-AUC, precision, recall, F1, threshold, supports, calibration error}."""
    prf = f1.per_label(scored.label_counts)
    brier_C, ece_C = scored.brier_ece_C
    columns = {
        "AP": scored.ap_C,
        "ROC_AUC": scored.roc_auc_C,
        "precision": prf.precision,
        "recall": prf.recall,
        "F1": prf.f1,
        "threshold": scored.thresholds_C,
        "positives": np.count_nonzero(scored.known_NC & scored.targets_NC.view(bool), axis=0),
        "known": np.count_nonzero(scored.known_NC, axis=0),
        "predicted": scored.label_counts.predicted,
        "true_positives": scored.label_counts.tp,
        "brier": brier_C,
        "ECE": ece_C,
    }
    return {label: {name: _number(v[c]) for name, v in columns.items()} for c, label in enumerate(labels)}


def precision_recall_curves(
    points: OperatingPoints, labels: Sequence[str], *, max_points: int = 200
) -> dict[str, dict]:
    """{label: {"threshold", "precision", "recall"}} from the strictest operating point to the loosest, at most `max_points` each.

    Every operating point where the recall changes is exact; a longer curve is thinned evenly, keeping both ends.
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


def _number(value: float) -> float | int | None:
    """A plain Python number, None where undefined, so that the result is valid JSON."""
    value = value.item() if isinstance(value, (np.generic, np.ndarray)) else value
    return None if isinstance(value, float) and not math.isfinite(value) else value
