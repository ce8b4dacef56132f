"""Scores of a model as a table: one row an image, fixed_size_list<float32>[C], label order in the schema's metadata.

Axes: N images, C labels, D features, T tones.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow.parquet import ParquetFile

from tasks.core import scratch
from tasks.core.errors import TableError
from tasks.core.seals import seal_of
from tasks.core.tables import open_table, write_table

GROUP_BYTES = 1 << 26
"""Of scores and embeddings read at once."""


@dataclass(frozen=True)
class Predictions:
    """Scores of one model. scores_NC: float32 (N, C) in [0, 1]; columns follow `labels`."""

    image_ids: list[str]
    partitions: list[str]
    labels: list[str]
    scores_NC: np.ndarray
    model_sha256: str
    weights_kind: str  # raw | ema
    embeddings_ND: np.ndarray | None = None  # float16 (N, D): only directions are used of them
    tones_NT: np.ndarray | None = None  # float32, brightness, colour and saturation, in [0, 255]

    def ids_of(self, partition: str) -> list[str]:
        """Image ids of one partition."""
        return [i for i, p in zip(self.image_ids, self.partitions, strict=True) if p == partition]

    def rows_of(self, image_ids: Sequence[str]) -> np.ndarray:
        """Row of each image, int64 (N,); -1 of one that has none."""
        row_of = {image_id: row for row, image_id in enumerate(self.image_ids)}
        return np.asarray([row_of.get(image_id, -1) for image_id in image_ids], np.int64)

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
            None if self.tones_NT is None else self.tones_NT[keep],
        )


def write_predictions(path: Path, predictions: Predictions) -> None:
    """Write scores, and embeddings and tones if any, with label order, model hash and weights kind as metadata."""
    num_labels = len(predictions.labels)
    scores = np.ascontiguousarray(predictions.scores_NC, np.float32)
    assert scores.shape == (len(predictions.image_ids), num_labels), scores.shape
    columns = {
        "image_id": pa.array(predictions.image_ids, pa.string()),
        "split": pa.array(predictions.partitions, pa.string()),
        "scores": pa.FixedSizeListArray.from_arrays(pa.array(scores.ravel()), num_labels),
    }
    if predictions.embeddings_ND is not None:
        embeddings = np.ascontiguousarray(predictions.embeddings_ND, np.float16)
        columns["embedding"] = pa.FixedSizeListArray.from_arrays(pa.array(embeddings.ravel()), embeddings.shape[1])
    if predictions.tones_NT is not None:
        tones = np.ascontiguousarray(predictions.tones_NT, np.float32)
        columns["tones"] = pa.FixedSizeListArray.from_arrays(pa.array(tones.ravel()), tones.shape[1])
    table = pa.table(columns).replace_schema_metadata(
        {
            "labels": json.dumps(predictions.labels, ensure_ascii=False),
            "model_sha256": predictions.model_sha256,
            "weights_kind": predictions.weights_kind,
        }
    )
    bytes_a_row = max(1, table.nbytes // max(1, table.num_rows))
    write_table(path, table, sealed=True, rows_per_group=max(1, GROUP_BYTES // bytes_a_row))


def read_predictions(path: Path, *, with_embeddings: bool = True) -> Predictions:
    """Read what `write_predictions` wrote. Raises TableError when the file, its metadata or the width do not fit.

    with_embeddings: false where nobody asks for them, the larger half of the file, nor for tones.
    """
    with open_table(path) as file:
        if (state := seal_of(path)) == "broken":
            raise TableError(
                f"{path}: not as it was written (its checksum is broken). Delete it and run its stage again."
            )
        schema = file.schema_arrow
        metadata = {k.decode(): v.decode() for k, v in (schema.metadata or {}).items()}
        if "labels" not in metadata or "scores" not in schema.names:
            raise TableError(f"{path}: not a predictions table (no 'labels' metadata or no 'scores' column).")
        if state == "missing":
            raise TableError(f"{path}: has no checksum: an older version wrote it. Run its stage again.")
        labels = json.loads(metadata["labels"])
        ids = file.read(["image_id", "split"])
        embedded, toned = (with_embeddings and column in schema.names for column in ("embedding", "tones"))
        return Predictions(
            ids["image_id"].to_pylist(),
            ids["split"].to_pylist(),
            labels,
            _matrix(file, "scores", np.float32, len(labels), where=path),
            metadata.get("model_sha256", ""),
            metadata.get("weights_kind", "raw"),
            _matrix(file, "embedding", np.float16, None, where=path) if embedded else None,
            _matrix(file, "tones", np.float32, None, where=path) if toned else None,
        )


def _matrix(file: ParquetFile, column: str, dtype: type, width: int | None, *, where: Path) -> np.ndarray:
    """(N, width), a row group at a time.  width: None takes the file's."""
    of = file.schema_arrow.field(column).type
    if not pa.types.is_fixed_size_list(of) or of.list_size != (of.list_size if width is None else width):
        raise TableError(f"{where}: {column}: expected fixed_size_list<float>[{width}], found {of}.")
    matrix, start = scratch.zeros((file.metadata.num_rows, of.list_size), dtype), 0
    for group in range(file.num_row_groups):
        for chunk in file.read_row_group(group, [column])[column].chunks:
            values = chunk.flatten().to_numpy(zero_copy_only=False).reshape(len(chunk), of.list_size)
            matrix[start : start + len(chunk)] = values
            start += len(chunk)
    return matrix
