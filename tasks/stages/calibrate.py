"""Fit one decision threshold a label, with support, interval and the reason of a fallback."""

from __future__ import annotations

from functools import partial

from tasks.evaluation.scored_set import consistent, detected, fused_labels, read_scores, scored_partition
from tasks.params import Params
from tasks.taxonomy.taxonomy import read_taxonomy
from tasks.thresholds import RULES
from tasks.thresholds.document import Fused, write_thresholds
from tasks.thresholds.fitting import fit
from tasks.thresholds.fusion import fit_blends, fuse
from tasks.thresholds.probability_calibration import calibrate


def run(params: Params) -> None:
    """Scores and cleaned labels of the calibration partition (or of train, as the paper does) -> thresholds.json."""
    section = params.calibrate
    judged = scored_partition(params, read_scores(params), section.fit_on)
    labels, truth = judged.labels, (judged.targets_NC, judged.known_NC)
    calibration = calibrate(judged.scores_NC, *truth, section.probabilities)
    scores_NC = consistent(params, calibration(judged.scores_NC), labels)
    targets = {label.id: label.deliver for label in read_taxonomy(params.paths.taxonomy).labels if label.deliver}
    rule = section.rule.build(
        RULES, where="params.yaml: calibrate.rule", delivery_targets=[targets.get(h) for h in labels]
    )
    settings = section.model_dump(include={"min_support", "shrinkage", "bootstrap"})
    fit_thresholds = partial(fit, rule, **settings, seed=params.seed)

    fusion = {}
    if origins := fused_labels(params, labels):
        detected_NC = detected(params, judged.image_ids, labels, origins)
        blends = fit_blends(scores_NC, detected_NC, *truth, list(origins))
        fitted = fit_thresholds(fuse(scores_NC, detected_NC, blends), *truth)
        fusion = {c: Fused(origins[c], blend, float(fitted.values_C[c])) for c, blend in blends.items()}
    write_thresholds(
        params.paths.thresholds,
        fit_thresholds(scores_NC, *truth),
        labels,
        rule=section.rule.name,
        fit_on=section.fit_on,
        calibration=calibration,
        fusion=fusion,
    )
    judged.enter("calibrate", params)
