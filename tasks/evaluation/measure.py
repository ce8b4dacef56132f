"""`evaluate`: every number of one model on one set of images, under one protocol, as one JSON-ready dict."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from tasks.core.errors import TableError
from tasks.evaluation.scored_run import ScoredRun
from tasks.evaluation.scored_set import ScoredSet
from tasks.metrics import METRICS, f1
from tasks.metrics.protocols import PROTOCOLS, protocol_named
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


def measure_run(
    tested: ScoredSet,
    scores_NC: np.ndarray,
    thresholds_C: np.ndarray,
    *,
    section: Any,
    exclusive_groups: Mapping[str, Sequence[str]],
    duplicate_groups: list[str],
    seed: int,
    stamp: Mapping[str, Any],
) -> tuple[dict, ScoredRun]:
    """The result at the fitted thresholds and, as "untuned_metrics", at 0.5; and the run for later comparisons.

    scores_NC: float32 (N, C), as they are compared with thresholds_C, float64 (C,).
    section: `evaluate` of params.yaml; its protocol, partition and bootstrap.
    exclusive_groups: name -> its labels.  duplicate_groups: of each image.
    stamp: threshold_rule and weights_kind, and whatever else the result follows from.
    Raises TableError where there is no image to measure.
    """
    if not tested.image_ids:
        raise TableError(
            f"splits: no image of partition '{section.partition}' has a known label, so there is nothing to measure. "
            "See split.test_folds and split.official_test in params.yaml."
        )
    arrays = scores_NC, *tested.truth, tested.labels, tested.image_ids
    options = {"protocol": section.protocol, "groups": exclusive_groups, "seed": seed}
    options["weights_kind"] = stamp["weights_kind"]
    result = evaluate(
        *arrays,
        thresholds_C,
        threshold_rule=stamp["threshold_rule"],
        bootstrap=section.bootstrap,
        resample_by=duplicate_groups,
        **options,
    )
    half_C = np.full(len(tested.labels), 0.5)  # not the protocol's own threshold, which may be another
    result["untuned_metrics"] = evaluate(*arrays, half_C, **options)["metrics"]
    added = {name: value for name, value in stamp.items() if name not in result["protocol"]}
    result["protocol"] |= {"partition": section.partition, **added, "truth_sha256": tested.states_sha256}
    run = ScoredRun(
        tested.image_ids, tested.labels, scores_NC, *tested.truth, thresholds_C, duplicate_groups, result["protocol"]
    )
    return result, run


def metrics_of(scores_NC: np.ndarray, run: ScoredRun) -> dict:
    """Metrics of other scores on the images, labels, thresholds and protocol of `run`."""
    arrays = run.targets_NC, run.known_NC, run.labels, run.image_ids, run.thresholds_C
    return evaluate(scores_NC, *arrays, protocol=run.stamp["name"])["metrics"]


def per_label_table(result: Mapping[str, Any]) -> pa.Table:
    """The labels of a result, one row each."""
    return pa.Table.from_pylist([{"label": label, **row} for label, row in result["labels"].items()])


SIDE_BY_SIDE = (
    "mAP", "OP", "OR", "OF1", "CP", "CR", "CF1", "image_F1", "exact_match", "hamming_accuracy", "top3_OF1", "top3_CF1"
)  # fmt: skip


def under_protocols(scored: Scored) -> dict[str, dict]:
    """{protocol: {metric: value}}: the same scores and thresholds as each published protocol would count them."""
    metrics = {}
    for name, protocol in PROTOCOLS.items():
        counted = replace(scored, protocol=protocol)
        metrics[name] = {metric: _number(METRICS[metric](counted)) for metric in SIDE_BY_SIDE}
    return metrics


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


def _number(value: float) -> float | int | None:
    """A plain Python number, None where undefined, so that the result is valid JSON."""
    value = value.item() if isinstance(value, (np.generic, np.ndarray)) else value
    return None if isinstance(value, float) and not math.isfinite(value) else value
