"""One ONNX file with labels, thresholds, implications and preprocessing; parity with torch proven."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from tasks import tracking
from tasks.core.tables import sha256_of
from tasks.core.workspace import Workspace
from tasks.evaluation.headline import measured
from tasks.evaluation.measure import metrics_of
from tasks.evaluation.scored_run import read_scored_run
from tasks.export.detector_files import ship_detector
from tasks.export.export_report import export_ledger, export_report
from tasks.export.manifest import Manifest, Preprocessing
from tasks.export.onnx_file import export_onnx, refuse_unlike_scores
from tasks.export.variant_costs import empty_folder, evenly, network_images, write_variants
from tasks.images.shards import ShardReader
from tasks.nn.model import load_config, load_model, model_sha256
from tasks.params import Params
from tasks.taxonomy.reading import read_taxonomy, refuse_missing_labels
from tasks.taxonomy.relations import relations_of
from tasks.thresholds.document import read_thresholds


def run(params: Params) -> None:
    """Model folder, thresholds and taxonomy -> one file; refused where it scores otherwise than torch."""
    workspace, section, paths = Workspace(params.paths), params.export, params.paths
    model = load_model(paths.finetuned)
    manifest = manifest_of(params, model.labels)
    empty_folder(paths.variants)
    if section.detector:
        rules = read_thresholds(paths.thresholds, model.labels).fusion_rules(model.labels)
        where, asked = (paths.detector, paths.variants, paths.exported), section.detector.model_dump()
        manifest = replace(manifest, detector=ship_detector(asked, *where, labels=model.labels, rules=rules))
    export_onnx(model, paths.exported, manifest, opset=section.opset)
    reader = ShardReader(paths.shards)
    images_of = partial(network_images, reader=reader, preprocessing=manifest.preprocessing)
    parity_BHWC = images_of(evenly(reader.image_ids, section.parity_images))
    parity = refuse_unlike_scores(paths.exported, model, parity_BHWC, tolerance=section.tolerance)

    variants = {}
    if section.variants:
        evaluated = read_scored_run(paths.evaluation / "scored_run.parquet")
        others = sorted(set(reader.index) - set(evaluated.image_ids))
        variants = write_variants(
            section.variants,
            paths.exported,
            paths.variants,
            images_of=images_of,
            quantisation_ids=evenly(others, section.quantisation_images),
            evaluated_ids=evaluated.image_ids,
            measure=partial(metrics_of, run=evaluated),
        )
    options = {"tolerance": section.tolerance, "opset": section.opset}
    workspace.write("export_report", export_report(paths.exported, parity, variants, manifest.detector, **options))
    workspace.book(export_ledger(len(model.labels), parity, variants, manifest.detector))
    tracking.register_model(paths.exported, measured(paths.metrics, paths.finetuned))


def manifest_of(params: Params, labels: list[str]) -> Manifest:
    """What the file says of itself. Raises ModelError when the taxonomy lacks a label, TableError thresholds.json."""
    taxonomy, config = read_taxonomy(params.paths.taxonomy), load_config(params.paths.finetuned)
    refuse_missing_labels(taxonomy, labels, where=params.paths.taxonomy, model=params.paths.finetuned)
    thresholds = read_thresholds(params.paths.thresholds, labels)
    return Manifest(
        labels=labels,
        display_names=[taxonomy[label].display_name for label in labels],
        thresholds=thresholds.values_C.tolist(),
        implications=relations_of(taxonomy, labels).implications if params.calibrate.apply_relations else (),
        probabilities=thresholds.calibration.as_dicts(),
        preprocessing=Preprocessing.of(config),
        provenance={
            "model_sha256": model_sha256(params.paths.finetuned),
            "taxonomy_sha256": sha256_of(params.paths.taxonomy),
            "thresholds_sha256": sha256_of(params.paths.thresholds),
            "weights_kind": config["weights_kind"],
        },
    )
