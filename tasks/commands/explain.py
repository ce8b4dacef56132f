"""`python -m tasks explain ID`: read what the stages wrote about one image and tell its story."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pyarrow as pa
import pyarrow.compute as pc
import typer
from rich.console import Console, RenderableType

from tasks.commands.label_history import explain_image, render
from tasks.core import tables
from tasks.core.errors import TableError, did_you_mean
from tasks.params import Params, load_params
from tasks.review.agreement import match
from tasks.review.verdicts import read_verdicts
from tasks.taxonomy.reading import read_taxonomy


def explain(params: Params, image_id: str) -> RenderableType:
    """For a terminal: each label's state and the chain of rows, rules and verdicts that made it.

    Raises TableError when no source lists the image, with the nearest ids.
    """
    paths = params.paths
    columns = ["image_id", "source", "sha256", "status"]
    images = tables.read_table(paths.mapped / "images.parquet", tables.IMAGES, columns)
    found = images.filter(pc.equal(images["image_id"], image_id))
    if not found.num_rows:
        raise TableError(f"explain: no image '{image_id}'. {did_you_mean(image_id, images['image_id'].to_pylist())}")
    name = found["source"][0].as_py()
    if name not in params.sources:
        raise TableError(f"explain: source '{name}' is not under `sources:` of params.yaml any more. Run `map_labels`.")
    source, ingested = params.sources[name], paths.ingested / name
    files = {
        "raw_labels": ingested / "labels.parquet",
        "raw_unknown": ingested / "unknown.parquet",
        "mapped_labels": paths.mapped / "labels.parquet",
        "mapped_unknown": paths.mapped / "unknown.parquet",
        "proposals": paths.mapped / "proposals.parquet",
        "coverage": paths.mapped / "coverage.parquet",
        "groups": paths.deduplicated / "groups.parquet",
        "deduplicated_labels": paths.deduplicated / "labels.parquet",
        "deduplicated_unknown": paths.deduplicated / "unknown.parquet",
        "changes": paths.cleaned / "changes.parquet",
        "cleaned_labels": paths.cleaned / "labels.parquet",
        "cleaned_unknown": paths.cleaned / "unknown.parquet",
    }
    taxonomy = read_taxonomy(paths.taxonomy)
    verdicts, _ = match(read_verdicts(paths.verdicts, taxonomy), found)
    steps = explain_image(
        image_id,
        {what: read_if_there(path) for what, path in files.items()},
        taxonomy,
        source=name,
        vocabulary=source.vocabulary,
        verdicts=verdicts,
    )
    return render(steps)


def read_if_there(path: Path) -> pa.Table | None:
    """The table, or None where its stage has not run."""
    return tables.read_table(path) if path.exists() else None


def command(image_id: Annotated[str, typer.Argument(help="as in the images table, e.g. digits_coco/12")]) -> None:
    """Where each label of an image came from."""
    Console().print(explain(load_params(), image_id))
