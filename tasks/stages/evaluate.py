"""Metrics with their protocol, a per-label table, curves and mistakes; scores cleaning against planted errors."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pyarrow as pa

from tasks.core import tables
from tasks.core.errors import TableError
from tasks.core.prediction_table import Predictions
from tasks.core.workspace import Workspace
from tasks.evaluation.accepted import compare_with_accepted, read_accepted
from tasks.evaluation.diagnosis import confusions, cooccurrence_gaps, reliability, worst_mistakes
from tasks.evaluation.drift import score_drift
from tasks.evaluation.findings import fusion_effect, probabilities_effect, relations_effect, slices_of
from tasks.evaluation.measure import evaluate, precision_recall_curves, under_protocols
from tasks.evaluation.scored_run import ScoredRun, write_scored_run
from tasks.evaluation.scored_set import ScoredSet, consistent, detected, read_scores, relations, scored_partition
from tasks.evaluation.slices import measure_slices
from tasks.metrics.f1 import decide
from tasks.metrics.protocols import protocol_named
from tasks.metrics.ranking import rank
from tasks.metrics.scored import Scored
from tasks.params import Params
from tasks.taxonomy.taxonomy import read_taxonomy
from tasks.thresholds.document import SavedThresholds, read_thresholds


def run(params: Params) -> None:
    """Hold the predictions of one partition against its labels, with the fitted thresholds and with 0.5."""
    predictions = read_scores(params)
    judged = scored_partition(params, predictions, params.evaluate.partition)
    if not judged.image_ids:
        raise TableError(
            f"{params.paths.splits}: no image of partition '{params.evaluate.partition}' has a known label, so "
            "there is nothing to measure. See split.test_folds and split.official_test in params.yaml."
        )
    thresholds = read_thresholds(params.paths.thresholds, judged.labels)
    result, scored_run = judge(params, predictions, judged, thresholds)
    write_scored_run(params.paths.evaluation / "scored_run.parquet", scored_run)
    findings = find(params, predictions, judged, thresholds, scored_run)
    metrics = headline(result, findings, score_cleaning(params, judged.labels))
    accepted = read_accepted(params.paths.accepted, read_taxonomy(params.paths.taxonomy).migrations)
    options = {"bootstrap": params.evaluate.bootstrap, "seed": params.seed}
    change = compare_with_accepted(*accepted, metrics, scored_run, **options)

    tables.write_json(params.paths.metrics, metrics)
    tables.write_json(params.paths.evaluation / "result.json", result)
    tables.write_json(params.paths.evaluation / "findings.json", findings)
    tables.write_json(params.paths.evaluation / "change.json", change)
    per_label = pa.Table.from_pylist([{"label": label, **row} for label, row in result["labels"].items()])
    tables.write_table(params.paths.evaluation / "per_label.parquet", per_label)
    cells = (scored_run.scores_NC, judged.targets_NC, judged.known_NC)
    write_curves(params, judged.labels, *cells)
    write_mistakes(params, judged.labels, judged.image_ids, *cells, thresholds.values_C)
    judged.enter("evaluate", params)


def judge(
    params: Params, predictions: Predictions, judged: ScoredSet, thresholds: SavedThresholds
) -> tuple[dict, ScoredRun]:
    """The result with its stamp, and the run that a later one is compared with."""
    section, labels, ids = params.evaluate, judged.labels, judged.image_ids
    scores_NC = consistent(params, thresholds.calibration(judged.scores_NC), labels)
    cells = (scores_NC, judged.targets_NC, judged.known_NC)
    groups = Workspace(params.paths).groups(ids)
    common = {"protocol": section.protocol, "weights_kind": predictions.weights_kind, "seed": params.seed}
    common["groups"] = read_taxonomy(params.paths.taxonomy).groups
    result = evaluate(
        *cells,
        labels,
        ids,
        thresholds.values_C,
        threshold_rule=thresholds.rule,
        bootstrap=section.bootstrap,
        resample_by=groups,
        **common,
    )
    half_C = np.full(len(labels), 0.5)  # not the protocol's own threshold, which may be another
    result["untuned_metrics"] = evaluate(*cells, labels, ids, half_C, **common)["metrics"]
    result["protocol"] |= {
        "partition": section.partition,
        "relations": params.calibrate.apply_relations,
        "probabilities": thresholds.calibration.method,
        "model_sha256": predictions.model_sha256,
        "taxonomy_sha256": tables.sha256_of(params.paths.taxonomy),
        "labels_table_sha256": tables.sha256_of(params.paths.cleaned / "labels.parquet"),
        "truth_sha256": truth_sha256(judged),
    }
    return result, ScoredRun(ids, labels, *cells, thresholds.values_C, groups, result["protocol"])


def truth_sha256(judged: ScoredSet) -> str:
    """Of the tested cells alone: labels of other images do not move it."""
    states_NC = np.where(judged.known_NC, judged.targets_NC.astype(np.int8), np.int8(tables.UNKNOWN_STATE))
    return hashlib.sha256(states_NC.tobytes()).hexdigest()


def find(
    params: Params,
    predictions: Predictions,
    judged: ScoredSet,
    thresholds: SavedThresholds,
    scored_run: ScoredRun,
) -> dict:
    """Slices, drift, relations, probabilities and the other protocols."""
    labels, truth = judged.labels, (judged.targets_NC, judged.known_NC)
    protocol = protocol_named(params.evaluate.protocol)
    scored = Scored(scored_run.scores_NC, *truth, thresholds.values_C, protocol)
    calibrated_NC = thresholds.calibration(judged.scores_NC)
    parts = {
        name: consistent(params, thresholds.calibration(predictions.select(name).scores_NC), labels)
        for name in (thresholds.fit_on, params.evaluate.partition)
    }
    origins = {c: fused.origin for c, fused in thresholds.fusion.items()}
    detected_NC = detected(params, judged.image_ids, labels, origins)
    train_ids = predictions.select("train").image_ids
    slices = slices_of(params, judged.image_ids, labels, judged.targets_NC, train_ids)
    calibrates = thresholds.calibration.method != "none"
    return {
        "slices": measure_slices(scored, slices),
        "drift": score_drift(parts[thresholds.fit_on], parts[params.evaluate.partition], thresholds.values_C, labels),
        "drift_from": thresholds.fit_on,
        "relations": relations_effect(calibrated_NC, *truth, thresholds.values_C, relations(params, labels), protocol),
        "probabilities": probabilities_effect(judged.scores_NC, calibrated_NC, *truth, protocol) if calibrates else {},
        "fusion": fusion_effect(scored, detected_NC, thresholds.fusion, labels),
        "under_protocols": under_protocols(scored_run.scores_NC, *truth, thresholds.values_C),
    }


KEPT_MISTAKES = 200  # generously, so that the report may show more without evaluating again
HEADLINE = ("mAP", "OP", "OR", "OF1", "CP", "CR", "CF1", "image_F1", "exact_match", "ROC_AUC", "ECE")


def headline(result: dict, findings: dict, cleaning: dict) -> dict:
    """metrics.json: what `dvc metrics diff` should show."""
    groups = result.get("groups", {})
    return {
        "test": {name: result["metrics"][name] for name in HEADLINE},
        "group_accuracy": groups and {**groups, "all": result["metrics"]["all_groups_accuracy"]},
        "at_threshold_0.5": {name: result["untuned_metrics"][name] for name in ("OF1", "CF1", "image_F1")},
        "interval_95": result.get("intervals", {}).get("metrics", {}),
        "cleaning": cleaning,
        "relations": findings["relations"],
        "fusion": {name: findings["fusion"][name] for name in ("off", "on") if findings["fusion"]},
        "probabilities": findings["probabilities"],
        "labels_that_drift": sum(row["notable"] for row in findings["drift"].values()),
        "protocol": result["protocol"],
    }


def write_curves(params: Params, labels: list[str], scores_NC, targets_NC, known_NC) -> None:
    """Precision-recall curves per label (JSON, for the report) and over all labels (CSV, for `dvc plots`)."""
    points = rank(scores_NC, targets_NC, known_NC).points
    pooled = rank(scores_NC.reshape(-1, 1), targets_NC.reshape(-1, 1), known_NC.reshape(-1, 1)).points
    overall = precision_recall_curves(pooled, ["all labels"])["all labels"]
    rows = zip(overall["recall"], overall["precision"], overall["threshold"], strict=True)
    lines = ["recall,precision,threshold", *(f"{r:.6f},{p:.6f},{t:.6f}" for r, p, t in rows)]
    tables.write_text(params.paths.evaluation / "precision_recall.csv", "\n".join(lines) + "\n")
    curves = {
        "labels": precision_recall_curves(points, labels),
        "overall": overall,
        "reliability": reliability(scores_NC, targets_NC, known_NC),
    }
    tables.write_json(params.paths.evaluation / "curves.json", curves)


def write_mistakes(params: Params, labels, ids, scores_NC, targets_NC, known_NC, thresholds_C) -> None:
    """The hardest false positives and negatives, and which labels are taken for which."""
    mistakes = worst_mistakes(scores_NC, targets_NC, known_NC, thresholds_C, most=KEPT_MISTAKES)
    named = [{**m, "image_id": ids[m.pop("row")], "label": labels[m.pop("column")]} for m in mistakes]
    pairs = confusions(scores_NC, targets_NC, known_NC, thresholds_C)
    implied = relations(params, labels).implications
    together = cooccurrence_gaps(decide(scores_NC, thresholds_C), targets_NC, known_NC, implications=implied)
    tables.write_json(
        params.paths.evaluation / "mistakes.json",
        {
            "worst": named,
            "confused": [{**p, "missed": labels[p["missed"]], "taken_for": labels[p["taken_for"]]} for p in pairs],
            "together": [{**p, "a": labels[p["a"]], "b": labels[p["b"]]} for p in together],
        },
    )


def score_cleaning(params: Params, labels: list[str]) -> dict:
    """Precision and recall of the changes that `clean` made by itself, against the planted errors; {} without any.

    An error counts as recovered when the cell now has its true state, and as found when it is at least no longer
    wrong (unknown, or waiting in the review queue).
    """
    truth = tables.read_table(params.paths.truth, tables.TRUTH)
    index_of = {label: c for c, label in enumerate(labels)}
    truth = truth.filter(pa.array([label in index_of for label in truth["label"].to_pylist()], pa.bool_()))
    changes = tables.read_table(params.paths.cleaned / "changes.parquet", tables.CHANGES)
    seen = set(json.loads(changes.schema.metadata[b"image_ids"]))
    planted = {
        (i, h): true
        for i, h, true in zip(*(truth[c].to_pylist() for c in ("image_id", "label", "true")), strict=True)
        if i in seen
    }
    if not planted:
        return {}
    changed = {
        (i, h): after
        for i, h, after, rule in zip(
            *(changes[c].to_pylist() for c in ("image_id", "label", "after", "rule")), strict=True
        )
        if not rule.startswith(("rule:implies", "review:"))
    }
    queue = tables.read_table(params.paths.cleaned / "queue.parquet", tables.QUEUE)
    asked = set(zip(queue["image_id"].to_pylist(), queue["label"].to_pylist(), strict=True))
    decided = {cell: after for cell, after in changed.items() if after != tables.UNKNOWN_STATE}
    right = sum(planted.get(cell) == after for cell, after in decided.items())
    found = {cell for cell in planted if cell in asked or cell in changed}
    return {
        "planted": len(planted),
        "changed": len(decided),
        "recovered": right,
        "precision": right / max(len(decided), 1),
        "recall": right / len(planted),
        "found_with_queue": len(found) / len(planted),
        "queue_precision": float(np.mean([cell in planted for cell in asked])) if asked else None,
    }
