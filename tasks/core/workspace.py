"""What several stages read in the same way: the joined tables, and where the ledger goes."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.core import matrices, tables
from tasks.core.errors import TableError
from tasks.core.ledger import Ledger
from tasks.params import Params


@dataclass(frozen=True)
class Vocabulary:
    """What training must know of the taxonomy, and no more: editing the rest of it trains nothing again.

    labels: ids in column order.  groups: column positions of each exclusive group.  display_names: one a label.
    """

    labels: list[str]
    groups: list[list[int]]
    display_names: list[str]


def _nowhere(metrics: dict[str, float], step: int) -> None:
    pass


metrics_sink: Callable[[dict[str, float], int], None] = _nowhere
"""Where live numbers go. `python -m tasks` points it at MLflow; a stage that imported the recorder would be run again
whenever the recorder is edited."""


def write_ledger(ledger: Ledger, params: Params) -> None:
    """Write the stage's entry; raises LedgerError when it does not balance."""
    ledger.write(params.paths.ledger / f"{ledger.stage}.json")


def num_workers() -> int:
    """Processes for decoding and hashing: TAGWRIGHT_WORKERS, or every core. Never changes a result."""
    return int(os.environ.get("TAGWRIGHT_WORKERS", "0")) or len(os.sched_getaffinity(0))


def image_cache(source: str) -> Path:
    """What is known of the image files seen before; speed only, outside the graph."""
    return Path(os.environ.get("TAGWRIGHT_CACHE", ".cache")) / "images" / f"{quote(source, safe='')}.parquet"


def images_of(params: Params, *, columns: list[str] | None = None) -> pa.Table:
    """The mapped images table."""
    return tables.read_table(params.paths.mapped / "images.parquet", tables.IMAGES, columns)


def read_splits(params: Params) -> pa.Table:
    """Partition and fold of every usable image."""
    return tables.read_table(params.paths.splits, tables.SPLITS)


def partition_ids(splits: pa.Table, *partitions: str) -> list[str]:
    """Image ids of the partitions, sorted."""
    rows = splits.filter(pc.is_in(splits["partition"], pa.array(partitions)))
    return sorted(rows["image_id"].to_pylist())


def labels_of(params: Params, folder: Path, image_ids: list[str], labels: list[str]) -> matrices.DenseLabels:
    """Targets and known mask of `image_ids`, from the labels of `folder` and the sources' coverage.

    folder: paths.deduplicated (as annotated) or paths.cleaned. Cells listed in its `unknown.parquet` stay unknown
    even where the source is exhaustive.
    """
    images = images_of(params, columns=["image_id", "source"])
    source_of = dict(zip(images["image_id"].to_pylist(), images["source"].to_pylist(), strict=True))
    missing = [i for i in image_ids if i not in source_of]
    if missing:
        raise TableError(
            f"{params.paths.splits}: image '{missing[0]}' is not in the images table. Run `dvc repro split`."
        )
    return matrices.dense_labels(
        tables.read_table(folder / "labels.parquet", tables.LABELS),
        image_ids,
        labels,
        coverage=tables.read_table(params.paths.mapped / "coverage.parquet", tables.COVERAGE),
        sources=[source_of[i] for i in image_ids],
        unknown=tables.read_table(folder / "unknown.parquet", tables.UNKNOWN),
    )


def image_groups(params: Params, image_ids: list[str]) -> list[str]:
    """Duplicate group of each image, its own id where it has none."""
    groups = tables.read_table(params.paths.deduplicated / "groups.parquet", tables.GROUPS)
    group_of = dict(zip(groups["image_id"].to_pylist(), groups["group_id"].to_pylist(), strict=True))
    return [group_of.get(i, i) for i in image_ids]


def vocabulary(params: Params) -> Vocabulary:
    """Label order, exclusive groups and display names, as `map_labels` froze them."""
    raw = tables.read_json(params.paths.mapped / "vocabulary.json")
    return Vocabulary(raw["labels"], raw["groups"], raw["display_names"])


def has_known_labels(dense: matrices.DenseLabels) -> np.ndarray:
    """Positions of the images with at least one known label; int64 (M,)."""
    return np.flatnonzero(dense.known_NC.any(axis=1))
