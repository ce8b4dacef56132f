"""Scores of a model as a table: one row an image, fixed_size_list<float32>[C], label order in the schema's metadata.

Axes: N images, C labels, D features.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from tasks.core.errors import TableError
from tasks.core.seals import seal_of
from tasks.core.tables import read_table, write_table


@dataclass(frozen=True)
class Predictions:
    """Scores of one model. scores_NC: float32 (N, C) in [0, 1]; columns follow `labels`."""

    image_ids: list[str]
    partitions: list[str]
    labels: list[str]
    scores_NC: np.ndarray
    model_sha256: str
    weights_kind: str  # raw | ema
    embeddings_ND: np.ndarray | None = None

    def select(self, partition: str) -> Predictions:
        """Only the rows of one partition."""
        keep = np.flatnonzero(np.asarray(self.partitions, dtype=object) == partition)
        return Predictions(
            [self.image_ids[i] for i in keep],
            [partition] * len(keep),
            self.labels,
            self.scores_NC[keep],
            self.model_sha256,
            self.weights_kind,
            None if self.embeddings_ND is None else self.embeddings_ND[keep],
        )


def write_predictions(path: Path, predictions: Predictions) -> None:
    """Write scores (and embeddings, when there are any) with label order, model hash and weights kind as metadata."""
    num_labels = len(predictions.labels)
    scores = np.ascontiguousarray(predictions.scores_NC, np.float32)
    assert scores.shape == (len(predictions.image_ids), num_labels), scores.shape
    columns = {
        "image_id": pa.array(predictions.image_ids, pa.string()),
        "split": pa.array(predictions.partitions, pa.string()),
        "scores": pa.FixedSizeListArray.from_arrays(pa.array(scores.ravel()), num_labels),
    }
    if predictions.embeddings_ND is not None:
        embeddings = np.ascontiguousarray(predictions.embeddings_ND, np.float32)
        columns["embedding"] = pa.FixedSizeListArray.from_arrays(pa.array(embeddings.ravel()), embeddings.shape[1])
    table = pa.table(columns).replace_schema_metadata(
        {
            "labels": json.dumps(predictions.labels, ensure_ascii=False),
            "model_sha256": predictions.model_sha256,
            "weights_kind": predictions.weights_kind,
        }
    )
    write_table(path, table, sealed=True)


def read_predictions(path: Path) -> Predictions:
    """Read what `write_predictions` wrote. Raises TableError when the file, its metadata or the width do not fit."""
    table = read_table(path)
    if (state := seal_of(path)) == "broken":
        raise TableError(f"{path}: not as it was written (its checksum is broken). Delete it and run its stage again.")
    metadata = {k.decode(): v.decode() for k, v in (table.schema.metadata or {}).items()}
    if "labels" not in metadata or "scores" not in table.column_names:
        raise TableError(f"{path}: not a predictions table (no 'labels' metadata or no 'scores' column).")
    if state == "missing":
        raise TableError(f"{path}: has no checksum: an older version wrote it. Run its stage again.")
    labels = json.loads(metadata["labels"])
    scores = _matrix(table["scores"], len(labels), where=f"{path}: scores")
    embeddings = None
    if "embedding" in table.column_names:
        embeddings = _matrix(table["embedding"], table.schema.field("embedding").type.list_size, where=str(path))
    return Predictions(
        table["image_id"].to_pylist(),
        table["split"].to_pylist(),
        labels,
        scores,
        metadata.get("model_sha256", ""),
        metadata.get("weights_kind", "raw"),
        embeddings,
    )


def _matrix(column: pa.ChunkedArray, width: int, *, where: str) -> np.ndarray:
    if not pa.types.is_fixed_size_list(column.type) or column.type.list_size != width:
        raise TableError(f"{where}: expected fixed_size_list<float>[{width}], found {column.type}.")
    flat = [chunk.flatten().to_numpy(zero_copy_only=False) for chunk in column.chunks]
    values = np.concatenate(flat) if flat else np.zeros(0, np.float32)
    return values.astype(np.float32, copy=False).reshape(len(column), width)
