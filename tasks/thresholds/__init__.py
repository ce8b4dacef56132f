"""Decision thresholds: one number a label, fitted on scores of images the model did not train on. A label is predicted
when its score >= threshold.

RULES maps a name to a class made with options and called as `rule(points, pooled) -> Thresholds`, where `points` are
the operating points of each label and `pooled` those of all labels taken as one (tasks.metrics.ranking).
`fitting.fit` adds what every rule needs: minimum support, shrinkage, intervals.

To add one: write the class in `rules.py`, set `keeps_target=True` in its result if moving a threshold would
miss the target that it was fitted for, and add one line here.
"""

from __future__ import annotations

from collections.abc import Callable

from tasks.thresholds.rules import (
    ExpectedCost,
    FBeta,
    Fixed,
    GlobalF1,
    PerLabelF1,
    PrecisionRecallTarget,
    Rule,
    TargetPrecision,
    TargetRecall,
)

RULES: dict[str, Callable[..., Rule]] = {
    "fixed": Fixed,
    "global_f1": GlobalF1,
    "per_label_f1": PerLabelF1,
    "f_beta": FBeta,
    "target_precision": TargetPrecision,
    "target_recall": TargetRecall,
    "precision_recall_target": PrecisionRecallTarget,
    "expected_cost": ExpectedCost,
}
