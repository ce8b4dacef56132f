"""One ONNX file with labels, thresholds, implications and preprocessing; parity with torch proven."""

from __future__ import annotations

import math

from tasks.core import tables
from tasks.core.errors import ModelError, did_you_mean
from tasks.core.ledger import Ledger
from tasks.core.workspace import Workspace
from tasks.export.manifest import Manifest, Preprocessing
from tasks.export.onnx_file import Parity, export_onnx, parity
from tasks.export.variant_costs import evenly, network_images, write_variants
from tasks.images.shards import ShardReader
from tasks.nn.model import load_config, load_model, model_sha256
from tasks.params import Params
from tasks.taxonomy.relations import relations_of
from tasks.taxonomy.taxonomy import read_taxonomy


def run(params: Params) -> None:
    """Model folder, thresholds and taxonomy -> one file; refused where it scores otherwise than torch."""
    section, paths = params.export, params.paths
    model = load_model(paths.finetuned)
    manifest = manifest_of(params, model.labels)
    export_onnx(model, paths.exported, manifest, opset=section.opset)
    reader = ShardReader(paths.shards)
    images_BHWC = network_images(reader, evenly(reader.image_ids, section.parity_images), manifest.preprocessing)
    found = parity(paths.exported, model, images_BHWC)
    if found.max_score_difference > section.tolerance:
        paths.exported.unlink()
        raise ModelError(
            f"export: scores of the ONNX file differ from torch's by up to {found.max_score_difference:.2g} on "
            f"{found.num_images} images, export.tolerance is {section.tolerance:g}. Change export.opset or the head."
        )
    variants = write_variants(params, manifest.preprocessing)
    write_report(params, found, variants)

    ledger = Ledger("export")
    ledger.num_in("labels", len(model.labels))
    ledger.num_out("labels", len(manifest.labels))
    ledger.note(
        f"scores as torch's up to {found.max_score_difference:.1e}, {found.unlike_decisions} unlike decisions, on "
        f"{found.num_images} images"
    )
    for name, cost in variants.items():
        ledger.note(f"{name}: {cost['unlike_decisions']} unlike decisions on {cost['images']} evaluated images")
    Workspace(params.paths).book(ledger)


def manifest_of(params: Params, labels: list[str]) -> Manifest:
    """What the file says of itself. Raises ModelError when the taxonomy or the thresholds lack a label."""
    taxonomy, config = read_taxonomy(params.paths.taxonomy), load_config(params.paths.finetuned)
    if missing := [label for label in labels if label not in taxonomy.index]:
        raise ModelError(
            f"{params.paths.taxonomy}: no label '{missing[0]}', which {params.paths.finetuned} was trained on. "
            f"{did_you_mean(missing[0], taxonomy.ids)} Run `dvc repro`, which trains on the new labels."
        )
    return Manifest(
        labels=labels,
        display_names=[taxonomy[label].display_name for label in labels],
        thresholds=read_thresholds(params, labels),
        implications=relations_of(taxonomy, labels).implications if params.calibrate.apply_relations else (),
        probabilities=read_probabilities(params, labels),
        preprocessing=Preprocessing(config["short_side_px"], tuple(config["image_px"]), config["resize"]),
        provenance={
            "model_sha256": model_sha256(params.paths.finetuned),
            "taxonomy_sha256": tables.sha256_of(params.paths.taxonomy),
            "thresholds_sha256": tables.sha256_of(params.paths.thresholds),
            "weights_kind": config["weights_kind"],
        },
    )


def read_thresholds(params: Params, labels: list[str]) -> list[float]:
    """Threshold of each label, inf where thresholds.json has null: never predicted."""
    entries = tables.read_json(params.paths.thresholds)["labels"]
    if missing := [label for label in labels if label not in entries]:
        raise ModelError(
            f"{params.paths.thresholds}: no threshold for label '{missing[0]}' of {params.paths.finetuned}. "
            "Run `dvc repro calibrate`."
        )
    found = [entries[label]["threshold"] for label in labels]
    return [math.inf if threshold is None else threshold for threshold in found]


def read_probabilities(params: Params, labels: list[str]) -> list[dict | None]:
    """Calibration map of each label, [] where `calibrate` calibrated no scores."""
    saved = tables.read_json(params.paths.thresholds).get("probabilities", {"labels": {}})["labels"]
    return [saved[label] for label in labels] if saved else []


def write_report(params: Params, found: Parity, variants: dict[str, dict]) -> None:
    """export.json: how near the file is to torch, which file it is, and what its variants cost."""
    tables.write_json(
        params.paths.export_report,
        {
            "max_score_difference": f"{found.max_score_difference:.1e}",  # text: numbers are rounded to 6 decimals
            "unlike_decisions": found.unlike_decisions,
            "images": found.num_images,
            "tolerance": params.export.tolerance,
            "opset": params.export.opset,
            "sha256": tables.sha256_of(params.paths.exported),
            "size_bytes": params.paths.exported.stat().st_size,
            **({"variants": variants} if variants else {}),
        },
    )
