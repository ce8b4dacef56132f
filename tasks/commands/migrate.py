"""The last run's model under today's taxonomy, before anything is trained again.

    model.safetensors, model.json   the network with one output for each of today's labels (tasks/nn/migration.py)
    thresholds.json                 those that could be carried over; a label that is new is never predicted
    model.onnx                      both as one file, ready for `predict` and `serve`
    look_again.csv                  image and label of what a split has left open, for a person to look at

The same questions are asked from the next `review push` on.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import pyarrow as pa
import typer

from tasks.commands import print_json
from tasks.core import tables
from tasks.core.errors import ModelError
from tasks.core.workspace import Workspace
from tasks.export.onnx_file import export_onnx
from tasks.nn.migration import migrated_model
from tasks.nn.model import CONFIG_FILE, load_config, model_sha256, save_model
from tasks.params import Params, load_params
from tasks.review.last_run import LastRun
from tasks.stages.export import manifest_of
from tasks.taxonomy.migrations import migrate_labels, migrate_thresholds, origins_of
from tasks.taxonomy.reading import read_taxonomy
from tasks.taxonomy.taxonomy import Migration, Taxonomy

UNFITTED = {"threshold": None, "support": 0, "shrinkage_weight": 0.0, "low": None, "high": None}


def migrate(params: Params, folder: Path) -> dict:
    """Write `folder` and queue what a split has left open. Returns, JSON-ready: the labels under another name and what
    they come from, the new ones, the lost ones, whose thresholds need fitting, and how many pairs are open.

    Reads paths.finetuned and paths.thresholds as the last run left them, in the vocabulary of then.
    Raises ModelError for a head that cannot be carried over, when there is no model, or when `folder` holds anything
    but an earlier migrated model.
    """
    refuse_foreign(folder)
    taxonomy, config = read_taxonomy(params.paths.taxonomy), load_config(params.paths.finetuned)
    document, olds = tables.read_json(params.paths.thresholds), config["labels"]
    origins = with_support(origins_of(olds, taxonomy.ids, taxonomy.migrations), olds, document["labels"])
    model, carried = migrated_model(
        params.paths.finetuned, taxonomy.ids, origins, groups=taxonomy.exclusive_groups, seed=params.seed
    )
    mark = {"migrated_from": model_sha256(params.paths.finetuned)}
    tables.write_json(folder / CONFIG_FILE, mark)  # first: what is killed from here on knows its folder again
    save_model(folder, model, config | mark)
    parts = {
        label: [olds[c] for c in sorted(columns, key=columns.get, reverse=True)]
        for label, columns in zip(taxonomy.ids, origins, strict=True)
    }
    document, to_fit = carried_thresholds(document, parts, set(carried), taxonomy.migrations)
    text = json.dumps(document, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)
    tables.write_text(folder / "thresholds.json", text + "\n")  # not write_json: it rounds
    paths = params.paths.model_copy(update={"finetuned": folder, "thresholds": folder / "thresholds.json"})
    manifest = manifest_of(params.model_copy(update={"paths": paths}), taxonomy.ids)
    export_onnx(model, folder / "model.onnx", manifest, opset=params.export.opset)
    open_pairs = look_again(params, taxonomy)
    LastRun(Workspace(params.paths)).ask_again(open_pairs)
    tables.write_text(folder / "look_again.csv", as_csv(open_pairs))
    return {
        "from": {label: olds for label, olds in parts.items() if label in carried and olds != [label]},
        "new": [label for label in taxonomy.ids if label not in carried],
        "lost": sorted(set(olds) - {old for olds in parts.values() for old in olds}),
        "fit_thresholds": to_fit,
        "look_again": open_pairs.num_rows,
        "written": str(folder),
    }


def refuse_foreign(folder: Path) -> None:
    """Raise ModelError where writing the migrated model would overwrite something else."""
    if not folder.exists() or all(path.name.startswith(".") for path in folder.iterdir()):  # locks, temporary files
        return
    if not (folder / CONFIG_FILE).exists() or "migrated_from" not in load_config(folder):
        raise ModelError(f"{folder}: holds something else than a migrated model. Name a new folder.")


def with_support(
    origins: Sequence[Sequence[int]], labels: Sequence[str], entries: Mapping[str, Mapping]
) -> list[dict[int, float]]:
    """Each label's old columns with the support (known positives, at least 1) of their thresholds."""
    support = {label: max(1.0, entry.get("support", 0)) for label, entry in entries.items()}
    return [{c: support.get(labels[c], 1.0) for c in columns} for columns in origins]


def carried_thresholds(
    document: Mapping, parts: Mapping[str, Sequence[str]], carried: set[str], migrations: Sequence[Migration]
) -> tuple[dict, list[str]]:
    """thresholds.json of the migrated model, and the labels whose thresholds must be fitted.

    parts: new label -> old ones, the most frequent first.  carried: new labels that brought weights along; the others
    are never predicted until they are fitted. Probability calibration comes from the first part; fusion with a detector
    stays behind.
    """
    entries, to_fit = migrate_thresholds(document["labels"], list(parts), migrations)
    never = UNFITTED | {"reason": "new to the model: never predicted until it is fitted"}
    labels = {label: entries[label] if label in carried and label in entries else never for label in parts}
    carried_document = {"rule": document.get("rule", ""), "fit_on": document.get("fit_on", ""), "labels": labels}
    if maps := document.get("probabilities"):
        first = {label: maps["labels"].get(olds[0]) if olds else None for label, olds in parts.items()}
        carried_document["probabilities"] = {**maps, "labels": first}
    return carried_document, [label for label in parts if label in to_fit or labels[label] is never]


def look_again(params: Params, taxonomy: Taxonomy) -> pa.Table:
    """image_id, label, was: pairs that a split has left open, by the last run's labels; empty where it left none."""
    workspace = Workspace(params.paths)
    if not workspace.exists("cleaned.labels"):
        return pa.table({"image_id": [], "label": [], "was": []})
    labels, unknown = workspace.read("cleaned.labels"), workspace.read("cleaned.unknown")
    return migrate_labels(labels, unknown, workspace.read("mapped.coverage"), taxonomy.migrations).look_again


def as_csv(table: pa.Table) -> str:
    """The table as text, with a header."""
    text = io.StringIO()
    writer = csv.DictWriter(text, table.column_names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(table.to_pylist())
    return text.getvalue()


def command(folder: Annotated[Path, typer.Argument(help="folder to write the migrated model to")]) -> None:
    """The last run's model under today's taxonomy: labels renamed, merged, split and added without training.

    Example: python -m tasks migrate data/models/migrated
    """
    print_json(migrate(load_params(), folder))
