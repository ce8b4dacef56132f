"""thresholds.json: {"rule", "fit_on", "labels": {label: entry}}.

An entry holds threshold (null = never predicted), support (known positives), shrinkage_weight (how much of the
threshold is the label's own), low and high (central 95 % of refits), reason (why the threshold is not what the rule
asked for), and target, {"precision", "recall"}, where the taxonomy has one under `deliver:`.

Where thresholds were cross-fitted, "out_of_fold_images" is the number of train images that joined those of `fit_on`.

Where scores were calibrated first, "probabilities" holds {"method", "labels": {label: map}}, a map being {"slope",
"intercept"} on the logit, or {"scores", "probabilities"} knots, or null. Thresholds are on the calibrated scores then.

Where a label is fused with a detector, "fusion" holds {label: {"origin", "model", "detector", "intercept",
"threshold"}}: how to blend the two scores, and the threshold of the blend. The label's own entry is without detector.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from tasks.core import tables
from tasks.core.errors import TableError, did_you_mean
from tasks.thresholds.fit import FittedThresholds
from tasks.thresholds.fusion import Blend, fuse
from tasks.thresholds.probability_calibration import Calibration, Map, map_from_dict, uncalibrated
from tasks.thresholds.rules import Target, six_digits


@dataclass(frozen=True)
class Fused:
    """One label with a detector. origin: of its proposals.  threshold: of the blend, +inf = never predicted."""

    origin: str
    blend: Blend
    threshold: float

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready, as in thresholds.json."""
        return {"origin": self.origin, **self.blend.as_dict(), "threshold": _finite(self.threshold)}


@dataclass(frozen=True)
class SavedThresholds:
    """values_C: float64 (C,) in the order asked for, +inf = never predicted.  rule, fit_on: where they came from.

    calibration: what to do to scores before they are compared with the thresholds.
    fusion: position of a label -> how it is fused with a detector, where the taxonomy asks for it.
    """

    values_C: np.ndarray
    rule: str
    fit_on: str
    calibration: Calibration
    fusion: Mapping[int, Fused]

    @property
    def fusion_origins(self) -> dict[int, str]:
        """Position of a fused label -> origin of the detector's proposals."""
        return {c: fused.origin for c, fused in self.fusion.items()}

    def fusion_rules(self, labels: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Fused label -> origin, model, detector, intercept, threshold (null = never predicted), JSON-ready."""
        return {labels[c]: fused.as_dict() for c, fused in self.fusion.items()}

    def fused(self, scores_NC: np.ndarray, detector_NC: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Scores (N, C) and thresholds (C,) with the detector where a label is fused, those given elsewhere."""
        thresholds_C = self.values_C.copy()
        thresholds_C[list(self.fusion)] = [fused.threshold for fused in self.fusion.values()]
        return fuse(scores_NC, detector_NC, {c: fused.blend for c, fused in self.fusion.items()}), thresholds_C


def thresholds_by_label(fitted: FittedThresholds, labels: Sequence[str]) -> dict[str, dict]:
    """The "labels" part of thresholds.json, JSON-ready."""
    return {
        label: {
            "threshold": _finite(fitted.values_C[c]),
            "support": int(fitted.support_C[c]),
            "shrinkage_weight": six_digits(fitted.shrinkage_weight_C[c]),
            "low": _finite(six_digits(fitted.low_C[c])),
            "high": _finite(six_digits(fitted.high_C[c])),
            "reason": fitted.reasons[c],
        }
        for c, label in enumerate(labels)
    }


def write_thresholds(
    path: Path,
    fitted: FittedThresholds,
    labels: Sequence[str],
    *,
    rule: str,
    fit_on: str,
    num_out_of_fold: int = 0,
    calibration: Calibration | None = None,
    fusion: Mapping[int, Fused] | None = None,
    targets: Mapping[str, Target] | None = None,
) -> None:
    """Write thresholds.json. rule: its name in RULES.  fit_on: the partition, or what else the images were.

    num_out_of_fold: train images beside them, with out-of-fold scores.
    calibration: applied to the scores before the thresholds were fitted; one map a label.
    fusion: position of a label -> how it is fused.
    targets: label -> the precision and recall that it must reach.
    Thresholds keep all their digits: rounding to a fixed number of decimals would move those of rare labels, whose
    scores crowd near 0, across scores.
    """
    document = {"rule": rule, "fit_on": fit_on, "labels": thresholds_by_label(fitted, labels)}
    for label, target in (targets or {}).items():
        document["labels"][label]["target"] = {"precision": target.precision, "recall": target.recall}
    if num_out_of_fold:
        document["out_of_fold_images"] = num_out_of_fold
    if calibration and calibration.method != "none":
        by_label = dict(zip(labels, calibration.as_dicts(), strict=True))
        document["probabilities"] = {"method": calibration.method, "labels": by_label}
    if fusion:
        document["fusion"] = {labels[c]: fused.as_dict() for c, fused in fusion.items()}
    text = json.dumps(document, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)
    tables.write_text(path, text + "\n")


class _Entry(msgspec.Struct):
    threshold: float | None


class _Map(msgspec.Struct):
    slope: float | None = None
    intercept: float = 0.0
    scores: list[float] = []
    probabilities: list[float] = []


class _Probabilities(msgspec.Struct):
    method: str
    labels: dict[str, _Map | None]


class _Fusion(msgspec.Struct):
    origin: str
    model: float
    detector: float
    intercept: float
    threshold: float | None


class _Document(msgspec.Struct):
    labels: dict[str, _Entry]
    rule: str = ""
    fit_on: str = ""
    probabilities: _Probabilities | None = None
    fusion: dict[str, _Fusion] = {}


def read_thresholds(path: Path, labels: Sequence[str]) -> SavedThresholds:
    """Thresholds in the order of `labels`. Raises TableError when the file is missing, damaged, or lacks a label."""
    try:
        saved = msgspec.convert(tables.read_json(path), _Document)
    except (msgspec.ValidationError, UnicodeEncodeError) as error:  # the second: half a character in a text
        raise TableError(f"{path}: not a thresholds.json ({error}). Run `calibrate` again.") from error
    for label in labels:
        if label not in saved.labels or (saved.probabilities and label not in saved.probabilities.labels):
            near = did_you_mean(label, saved.labels)
            raise TableError(f"{path}: no threshold for label '{label}'. {near} Run `dvc repro calibrate`.")
    calibration = uncalibrated(len(labels))
    if saved.probabilities:
        maps = [_map_of(saved.probabilities.labels[label], where=f"{path}: probabilities: {label}") for label in labels]
        calibration = Calibration(maps, saved.probabilities.method)
    fusion = {
        c: Fused(fused.origin, Blend(fused.model, fused.detector, fused.intercept), _infinite(fused.threshold))
        for c, label in enumerate(labels)
        if (fused := saved.fusion.get(label))
    }
    values_C = np.array([_infinite(saved.labels[label].threshold) for label in labels], np.float64)
    return SavedThresholds(values_C, saved.rule, saved.fit_on, calibration, fusion)


def _map_of(saved: _Map | None, *, where: str) -> Map | None:
    if saved is not None and saved.slope is None and not 0 < len(saved.scores) == len(saved.probabilities):
        raise TableError(f"{where}: neither a slope nor as many scores as probabilities. Run `dvc repro calibrate`.")
    # One of the two forms of map_from_dict.
    value = msgspec.to_builtins(saved)
    return map_from_dict({k: v for k, v in value.items() if k != "slope" or v is not None} if value else None)


def _infinite(threshold: float | None) -> float:
    return np.inf if threshold is None else threshold


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
