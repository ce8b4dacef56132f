"""The headline figures of an evaluation: what metrics.json, DVC, MLflow and the model registry hold of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tasks.core.tables import read_json, sha256_of

HEADLINE = ("mAP", "OP", "OR", "OF1", "CP", "CR", "CF1", "image_F1", "exact_match", "ROC_AUC", "ECE")
TRACKED = ("mAP", "OF1", "CF1", "image_F1")
"""Logged as metrics of the run."""
FEW = TRACKED[:3]
"""headline.json, which DVC compares: beside an experiment's name and what it varies there is room for three."""


def headline(result: dict, findings: dict, cleaning: dict) -> dict:
    """metrics.json: all that is known of the result as a whole.

    result: of `measure.evaluate`, with "untuned_metrics" at 0.5.  findings: findings.json.
    cleaning: of `cleaning_score.score_cleaning`.
    """
    groups = result.get("groups", {})
    return {
        "test": {name: result["metrics"][name] for name in HEADLINE},
        "group_accuracy": groups and {**groups, "all": result["metrics"]["all_groups_accuracy"]},
        "at_threshold_0.5": {name: result["untuned_metrics"][name] for name in ("OF1", "CF1", "image_F1")},
        "interval_95": result.get("intervals", {}).get("metrics", {}),
        "interval_95_missing": result.get("intervals", {}).get("why", {}),
        "mAP_without_bias": result.get("intervals", {}).get("mAP_without_bias"),
        "cleaning": cleaning,
        "relations": findings["relations"],
        "fusion": {name: findings["fusion"][name] for name in ("off", "on") if findings["fusion"]},
        "probabilities": findings["probabilities"],
        "labels_that_drift": sum(row["notable"] for row in findings["drift"].values()),
        "protocol": result["protocol"],
    }


def figures(metrics: dict, names: Sequence[str]) -> dict[str, float]:
    """Those of `names` that are defined in metrics.json."""
    return {name: metrics["test"][name] for name in names if metrics["test"][name] is not None}


def measured(metrics_path: Path, model_folder: Path) -> dict[str, float | str | None]:
    """mAP, F1 and protocol of the model in `model_folder`; {} where metrics.json is of another model, or missing."""
    model = model_folder / "model.json"
    if not metrics_path.exists() or not model.exists():
        return {}
    metrics = read_json(metrics_path)
    if metrics["protocol"]["model_sha256"] != sha256_of(model):  # as nn.model.model_sha256, without torch
        return {}
    return {**{name: metrics["test"][name] for name in FEW}, "protocol": metrics["protocol"]["name"]}
