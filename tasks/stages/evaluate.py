"""Metrics with their protocol, a per-label table, curves and mistakes; scores cleaning against planted errors."""

from __future__ import annotations

from functools import partial

from tasks import tracking
from tasks.core import tables
from tasks.core.workspace import Workspace
from tasks.evaluation.accepted import compare_with_accepted, read_accepted
from tasks.evaluation.cleaning_score import score_cleaning
from tasks.evaluation.curves import as_csv, curves_of
from tasks.evaluation.diagnosis import mistakes_of
from tasks.evaluation.drift import score_drift
from tasks.evaluation.findings import find, fusion_effect, slices_of
from tasks.evaluation.headline import FEW, TRACKED, figures, headline
from tasks.evaluation.measure import measure_run, per_label_table
from tasks.evaluation.scored_run import write_scored_run
from tasks.evaluation.scored_set import Postprocessing, scored_partition
from tasks.params import Params
from tasks.taxonomy.migrations import renamed
from tasks.taxonomy.reading import read_taxonomy
from tasks.taxonomy.relations import apply_implications, apply_relations, relations_of
from tasks.thresholds.document import read_thresholds
from tasks.thresholds.fusion import detector_scores


def run(params: Params) -> None:
    """Compare the predictions of one partition with its labels, at the fitted thresholds and at 0.5."""
    workspace, section, taxonomy = Workspace(params.paths), params.evaluate, read_taxonomy(params.paths.taxonomy)
    # Read scores beside labels, thresholds, and what is done to scores before they are compared with thresholds.
    predictions, states_of = workspace.predictions(), partial(workspace.states, "cleaned")
    tested = scored_partition(predictions, section.partition, states_of, workspace.vocabulary().labels)
    labels, relations = tested.labels, relations_of(taxonomy, tested.labels)
    thresholds = read_thresholds(params.paths.thresholds, labels)
    implies_scores = params.calibrate.apply_relations
    post = Postprocessing(thresholds.calibration, relations, apply_implications, apply_relations, implies_scores)
    # Measure.
    stamp = {
        "threshold_rule": thresholds.rule,
        "weights_kind": predictions.weights_kind,
        "relations": implies_scores,
        "probabilities": thresholds.calibration.method,
        "model_sha256": predictions.model_sha256,
        "taxonomy_sha256": tables.sha256_of(params.paths.taxonomy),
        "labels_table_sha256": tables.sha256_of(workspace.path("cleaned.labels")),
    }
    settings = {"section": section, "seed": params.seed, "stamp": stamp}
    groups = {"exclusive_groups": taxonomy.groups, "duplicate_groups": workspace.groups(tested.image_ids)}
    result, scored_run = measure_run(tested, post(tested.scores_NC), thresholds.values_C, **settings, **groups)
    # Find where it is better or worse, and what each component changes.
    train_ids, read = predictions.ids_of("train"), workspace.read
    slices = slices_of(tested, train_ids, *map(read, ("mapped.images", "mapped.objects", "cleaned.labels")))
    detector_NC = detector_scores(read("mapped.proposals"), tested.image_ids, labels, thresholds.fusion_origins)
    fused = thresholds.fused(scored_run.scores_NC, detector_NC)
    findings = find(scored_run, tested.scores_NC, post, slices=slices)
    findings["fusion"] = fusion_effect(scored_run, *fused, thresholds.fusion_origins)
    fitted_on, now = (post(predictions.select(name).scores_NC) for name in (thresholds.fit_on, section.partition))
    findings |= {"drift": score_drift(fitted_on, now, thresholds.values_C, labels), "drift_from": thresholds.fit_on}
    # Compare with the accepted run.
    cleaning = score_cleaning(*map(read, ("truth", "cleaned.changes", "cleaned.queue")), labels)
    metrics = headline(result, findings, cleaning)
    accepted = read_accepted(params.paths.accepted, rename=partial(renamed, migrations=taxonomy.migrations))
    change = compare_with_accepted(*accepted, metrics, scored_run, bootstrap=section.bootstrap, seed=params.seed)
    # Write, book, record.
    curves, mistakes = curves_of(scored_run), mistakes_of(scored_run, relations.implications)
    documents = {"result": result, "findings": findings, "change": change, "curves": curves, "mistakes": mistakes}
    for name, document in documents.items():
        workspace.write(f"evaluation.{name}", document)
    workspace.write("metrics", metrics)
    workspace.write("headline", figures(metrics, FEW))
    per_label, folder = per_label_table(result), params.paths.evaluation
    write_scored_run(folder / "scored_run.parquet", scored_run)
    tables.write_table(folder / "per_label.parquet", per_label)
    tables.write_text(folder / "precision_recall.csv", as_csv(curves["overall"]))
    workspace.book(tested.ledger("evaluate"))
    tracking.log_headline(figures(workspace.read("metrics"), TRACKED))  # as rounded in the file
    tracking.log_table("per_label", per_label)
