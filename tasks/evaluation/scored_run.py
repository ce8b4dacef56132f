"""One scored run on disk: scores, truth, thresholds and stamp in one Parquet file, so that it can be compared later.

Axes: N images, C labels.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from tasks.core import tables
from tasks.core.errors import TableError
from tasks.metrics.protocols import protocol_named
from tasks.metrics.scored import Scored


@dataclass(frozen=True)
class ScoredRun:
    """What a paired comparison needs of one model on one set of images.

    scores_NC: float32 (N, C).  targets_NC: uint8 {0, 1}.  known_NC: bool.  thresholds_C: float64 (C,).
    group_ids: duplicate group of each image, drawn together when resampled; None = every image by itself.
    stamp: how it was measured (Protocol.stamp), at least.
    """

    image_ids: list[str]
    labels: list[str]
    scores_NC: np.ndarray
    targets_NC: np.ndarray
    known_NC: np.ndarray
    thresholds_C: np.ndarray
    group_ids: list[str] | None
    stamp: dict

    def scored(self, *, keep_order: bool = False) -> Scored:
        """The arrays under the protocol that the stamp names. keep_order: for the bootstrap."""
        arrays = self.scores_NC, self.targets_NC, self.known_NC, self.thresholds_C
        return Scored(*arrays, protocol_named(self.stamp["name"]), keep_order=keep_order)


def write_scored_run(path: Path, run: ScoredRun) -> None:
    """Write columns image_id, group_id, scores, states (1, 0, -1 unknown); labels, thresholds, stamp as metadata."""
    states_NC = np.where(run.known_NC, run.targets_NC.astype(np.int8), np.int8(tables.UNKNOWN_STATE))
    width = len(run.labels)
    columns = {
        "image_id": pa.array(run.image_ids, pa.string()),
        "group_id": pa.array(run.group_ids or [None] * len(run.image_ids), pa.string()),
        "scores": pa.FixedSizeListArray.from_arrays(pa.array(np.ravel(run.scores_NC)), width),
        "states": pa.FixedSizeListArray.from_arrays(pa.array(np.ravel(states_NC)), width),
    }
    thresholds = [float(t) if np.isfinite(t) else None for t in run.thresholds_C]
    metadata = {
        "labels": json.dumps(run.labels, ensure_ascii=False),
        "thresholds": json.dumps(thresholds),
        "stamp": json.dumps(run.stamp, sort_keys=True, ensure_ascii=False),
    }
    tables.write_table(path, pa.table(columns).replace_schema_metadata(metadata))


def read_scored_run(path: Path) -> ScoredRun:
    """Read what `write_scored_run` wrote. Raises TableError for any other file."""
    table = tables.read_table(path)
    metadata = {k.decode(): json.loads(v) for k, v in (table.schema.metadata or {}).items() if k in _METADATA}
    if len(metadata) < len(_METADATA) or not {"image_id", "group_id", "scores", "states"} <= set(table.column_names):
        raise TableError(
            f"{path}: not a scored run. Make one with the `evaluate` stage or `python -m tasks score --save`."
        )
    labels, shape = metadata["labels"], (len(table), len(metadata["labels"]))
    scores, states = (table[name].combine_chunks().flatten().to_numpy().reshape(shape) for name in ("scores", "states"))
    group_ids = table["group_id"].to_pylist()
    return ScoredRun(
        table["image_id"].to_pylist(),
        labels,
        scores.astype(np.float32, copy=False),
        (states == tables.PRESENT).astype(np.uint8),
        states != tables.UNKNOWN_STATE,
        np.array([np.inf if t is None else t for t in metadata["thresholds"]], np.float64),
        None if None in group_ids else group_ids,
        metadata["stamp"],
    )


_METADATA = (b"labels", b"thresholds", b"stamp")
