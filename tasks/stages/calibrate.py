"""Fit one decision threshold a label, with support, interval and the reason of a fallback."""

from __future__ import annotations

from functools import partial

from tasks.core.workspace import Workspace
from tasks.evaluation.scored_set import scored_partition
from tasks.params import Params, cross_fits
from tasks.taxonomy.reading import read_taxonomy
from tasks.taxonomy.relations import apply_implications, relations_of
from tasks.thresholds import RULES
from tasks.thresholds.document import Fused, write_thresholds
from tasks.thresholds.fit import fit
from tasks.thresholds.fusion import detector_scores, fit_blends, fuse
from tasks.thresholds.probability_calibration import calibrate


def run(params: Params) -> None:
    """Scores and cleaned labels of the calibration partition (or of train, as the paper does) -> thresholds.json.

    Where calibration images are few, train images join, with their out-of-fold scores and their labels as annotated:
    cleaned ones follow from these very scores.
    """
    workspace, section, taxonomy = Workspace(params.paths), params.calibrate, read_taxonomy(params.paths.taxonomy)
    predictions, states_of = workspace.predictions(), partial(workspace.states, "cleaned")
    scored = scored_partition(predictions, section.fit_on, states_of, workspace.vocabulary().labels)
    num_own, note = len(scored.image_ids), ""
    if cross_fits(section, num_images := predictions.partitions.count("calibration")):
        out_of_fold = workspace.predictions("out_of_fold", with_embeddings=False)
        as_annotated = partial(workspace.states, "deduplicated")
        how = "cross-fitted, train images join" if out_of_fold.image_ids else "of these alone, out_of_fold is off"
        note = f"{num_images} calibration images, fewer than {section.cross_fit_below}: thresholds {how}"
        scored = scored.joined(scored_partition(out_of_fold, "train", as_annotated, workspace.vocabulary().labels))

    # probability calibration, then the taxonomy's implications
    calibration = calibrate(scored.scores_NC, *scored.truth, section.probabilities)
    scores_NC = calibration(scored.scores_NC)
    if section.apply_relations:
        scores_NC = apply_implications(scores_NC, relations_of(taxonomy, scored.labels))

    # thresholds of the model alone
    targets = {label.id: label.deliver for label in taxonomy.labels if label.deliver and label.id in scored.labels}
    rule = section.rule.build(
        RULES, where="params.yaml: calibrate.rule", delivery_targets=[targets.get(label) for label in scored.labels]
    )
    settings = section.model_dump(include={"min_support", "shrinkage", "bootstrap"})
    fit_thresholds = partial(fit, rule, **settings, seed=params.seed)
    fitted = fit_thresholds(scores_NC, *scored.truth)

    # thresholds of the labels that the taxonomy fuses with a detector
    fusion = {}
    column = {label: c for c, label in enumerate(scored.labels)}
    origins = {column[label.id]: label.fuse for label in taxonomy.labels if label.fuse and label.id in column}
    if origins:
        detector_NC = detector_scores(workspace.read("mapped.proposals"), scored.image_ids, scored.labels, origins)
        blends = fit_blends(scores_NC, detector_NC, *scored.truth, list(origins))
        fused = fit_thresholds(fuse(scores_NC, detector_NC, blends), *scored.truth)
        fusion = {c: Fused(origins[c], blend, float(fused.values_C[c])) for c, blend in blends.items()}

    write_thresholds(
        workspace.path("thresholds"),
        fitted,
        scored.labels,
        rule=section.rule.name,
        fit_on=section.fit_on,
        num_out_of_fold=len(scored.image_ids) - num_own,
        calibration=calibration,
        fusion=fusion,
        targets=targets,
    )
    ledger = scored.ledger("calibrate")
    ledger.warn(note)
    workspace.book(ledger)
