"""Read one source and open each of its images once."""

from __future__ import annotations

import pyarrow as pa

from tasks.core import tables
from tasks.core.environment import image_cache, num_workers
from tasks.core.isolation import RowLimits
from tasks.core.ledger import Ledger
from tasks.core.registry import call
from tasks.core.workspace import Workspace
from tasks.images.checks import check_images, quarantine_lines, require_usable
from tasks.params import Params
from tasks.sources import SOURCES


def run(params: Params, name: str) -> None:
    """Raw files of `sources.<name>` -> images, labels, coverage and unknown tables in the source's own classes.

    Raises SourceError where no listed image, or a smaller share than stated, is usable: then the folder is wrong, not
    the images. What is left out is said at the terminal as well.
    """
    workspace = Workspace(params.paths)
    source = params.sources[name]
    raw = call(SOURCES, source.kind, source.options, where=f"params.yaml: sources.{name}", name=name, root=source.path)
    images = check_images(
        raw.images,
        max_pixels=params.ingest.max_pixels,
        animated=params.ingest.animated,
        workers=num_workers(),
        cache_path=image_cache(name),
        limits=RowLimits(params.ingest.max_seconds, params.ingest.max_memory_mb),
    )
    require_usable(images, min_share=params.ingest.min_usable_share, where=f"{source.path}: sources.{name}")
    images = images.append_column("source", pa.repeat(pa.scalar(name), images.num_rows))
    coverage = pa.table({"source": [name] * len(raw.coverage), "label": raw.coverage}, schema=tables.COVERAGE)

    workspace.write("ingested.images", images, source=name)
    workspace.write("ingested.labels", raw.labels, source=name)
    workspace.write("ingested.coverage", coverage, source=name)
    workspace.write("ingested.unknown", raw.unknown, source=name)
    workspace.write("ingested.objects", raw.objects, source=name)
    workspace.write("ingested.vocabulary", raw.vocabulary, source=name)

    ledger = Ledger(f"ingest@{name}")
    raw.record(ledger)
    ledger.num_out("images", images.num_rows)
    ledger.num_out("labels", raw.labels.num_rows)
    for line in [*quarantine_lines(images), *raw.doubts()]:
        ledger.warn(line)
    workspace.book(ledger)
