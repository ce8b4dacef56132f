"""Read one source and open each of its images once."""

from __future__ import annotations

import pyarrow as pa

from tasks.core import tables
from tasks.core.environment import image_cache, num_workers
from tasks.core.errors import SourceError
from tasks.core.ledger import Ledger
from tasks.core.registry import call
from tasks.core.workspace import Workspace
from tasks.images.checks import check_images
from tasks.params import Params
from tasks.sources import SOURCES


def run(params: Params, name: str) -> None:
    """Raw files of `sources.<name>` -> images, labels, coverage and unknown tables in the source's own vocabulary.

    Raises SourceError where not one of the listed images is usable: then the folder is wrong, not the images.
    """
    source = params.sources[name]
    where = f"params.yaml: sources.{name}"
    raw = call(SOURCES, source.kind, source.options, where=where, name=name, root=source.path)
    images = check_images(
        raw.images,
        max_pixels=params.ingest.max_pixels,
        animated=params.ingest.animated,
        workers=num_workers(),
        cache_path=image_cache(name),
    )
    reasons = quarantine_reasons(images)
    if images.num_rows and sum(reasons.values()) == images.num_rows:
        raise SourceError(
            f"{source.path}: none of the {images.num_rows} images of sources.{name} is usable (the first: "
            f"{images['uri'][0]}, {images['reason'][0]}). Correct the folder in params.yaml."
        )
    images = images.append_column("source", pa.repeat(pa.scalar(name), images.num_rows))
    coverage = pa.table({"source": [name] * len(raw.coverage), "label": raw.coverage}, schema=tables.COVERAGE)

    ledger = Ledger(f"ingest@{name}")
    raw.record(ledger)
    ledger.num_out("images", images.num_rows)
    ledger.num_out("labels", raw.labels.num_rows)
    for reason, count in reasons.items():
        ledger.note(f"{count} images quarantined: {reason}")

    out = params.paths.ingested / name
    tables.write_table(out / "images.parquet", tables.sort_table(images, ["image_id"]), tables.IMAGES)
    tables.write_table(
        out / "labels.parquet", tables.sort_table(raw.labels, ["image_id", "label", "origin"]), tables.LABELS
    )
    tables.write_table(out / "coverage.parquet", tables.sort_table(coverage, ["label"]), tables.COVERAGE)
    tables.write_table(out / "unknown.parquet", tables.sort_table(raw.unknown, ["image_id", "label"]), tables.UNKNOWN)
    tables.write_table(out / "objects.parquet", tables.sort_table(raw.objects, ["image_id", "label"]), tables.OBJECTS)
    tables.write_json(out / "vocabulary.json", raw.vocabulary)
    Workspace(params.paths).book(ledger)


def quarantine_reasons(images: pa.Table) -> dict[str, int]:
    """How many images are quarantined, by reason."""
    rows = zip(images["status"].to_pylist(), images["reason"].to_pylist(), strict=True)
    reasons = [reason for status, reason in rows if status == "quarantined"]
    return {reason: reasons.count(reason) for reason in sorted(set(reasons))}
