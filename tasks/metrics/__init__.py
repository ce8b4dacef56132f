"""Metrics of multi-label scores: numpy in, numbers out, unknown labels never counted as negatives.

One sort a label (`ranking`) serves average precision, ROC-AUC, curves and threshold rules. A `Protocol` (`protocols`)
names every choice that moves a number; `evaluation.evaluate` puts all of it into one JSON-ready dict.

METRICS holds the headline numbers, each a function `Scored -> float` (NaN where undefined; JSON null).
To add one: write the function in `scored.py` and add one line here; it then stands in metrics.json and in the report.
"""

from __future__ import annotations

from collections.abc import Callable

from tasks.metrics import scored as _scored
from tasks.metrics.protocols import PROTOCOLS, Protocol
from tasks.metrics.scored import Scored

METRICS: dict[str, Callable[[Scored], float]] = {
    "mAP": _scored.mean_average_precision,
    "mAP_absent_as_zero": _scored.mean_average_precision_absent_as_zero,
    "mAP_present_only": _scored.mean_average_precision_present_only,
    "mAP_envelope": _scored.mean_envelope_ap,
    "mAP_11_point": _scored.mean_eleven_point_ap,
    "OP": _scored.overall_precision,
    "OR": _scored.overall_recall,
    "OF1": _scored.overall_f1,
    "CP": _scored.class_precision,
    "CR": _scored.class_recall,
    "CF1": _scored.class_f1,
    "CF1_harmonic": _scored.class_f1_harmonic,
    "CF1_mean": _scored.class_f1_mean,
    "image_precision": _scored.image_precision,
    "image_recall": _scored.image_recall,
    "image_F1": _scored.image_f1,
    "exact_match": _scored.exact_match,
    "hamming_accuracy": _scored.hamming_accuracy,
    "top3_OF1": _scored.top3_overall_f1,
    "top3_CF1": _scored.top3_class_f1,
    "group_accuracy": _scored.group_accuracy,
    "all_groups_accuracy": _scored.all_groups_accuracy,
    "ROC_AUC": _scored.mean_roc_auc,
    "brier": _scored.brier,
    "ECE": _scored.expected_calibration_error,
}

__all__ = ["METRICS", "PROTOCOLS", "Protocol", "Scored"]
