"""Tables as matrices in memory: labels and areas as (N, C), and a model's scores with what must be known of them.

Axes: N images, C labels, D features.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.core.errors import TableError
from tasks.core.tables import PRESENT, read_table, write_table


@dataclass(frozen=True)
class DenseLabels:
    """Long labels as matrices: targets_NC uint8 {0, 1}, known_NC bool. Where not known, the target means nothing."""

    image_ids: list[str]
    labels: list[str]
    targets_NC: np.ndarray
    known_NC: np.ndarray

    def rows(self, rows: np.ndarray) -> DenseLabels:
        """The images at these positions, int64 (M,)."""
        ids = [self.image_ids[n] for n in rows]
        return DenseLabels(ids, self.labels, self.targets_NC[rows], self.known_NC[rows])


def dense_labels(
    label_rows: pa.Table,
    image_ids: Sequence[str],
    labels: Sequence[str],
    *,
    coverage: pa.Table | None = None,
    sources: Sequence[str] | None = None,
    unknown: pa.Table | None = None,
) -> DenseLabels:
    """Targets and known mask of `image_ids` x `labels` from long rows.

    label_rows: LABELS schema, at most one row a (image, label); rows of other images or labels are ignored.
    coverage, sources: COVERAGE table and the source of each image id; a covered pair without a row is a known absence.
    unknown: UNKNOWN table; its cells are unknown in spite of coverage, unless a row says otherwise.
    Raises TableError when a pair has two rows that disagree.
    """
    index_of_image = {image_id: i for i, image_id in enumerate(image_ids)}
    index_of_label = {label: j for j, label in enumerate(labels)}
    targets = np.zeros((len(image_ids), len(labels)), np.uint8)
    known = np.zeros((len(image_ids), len(labels)), bool)
    if coverage is not None:
        assert sources is not None, "coverage needs the source of each image"
        assert len(sources) == len(image_ids), (len(sources), len(image_ids))
        covered: dict[str, list[int]] = {}
        for source, label in zip(coverage["source"].to_pylist(), coverage["label"].to_pylist(), strict=True):
            if label in index_of_label:
                covered.setdefault(source, []).append(index_of_label[label])
        source_array = np.asarray(sources, dtype=object)
        for source, columns in covered.items():
            known[np.ix_(source_array == source, columns)] = True
    if unknown is not None:
        rows, columns_ = _positions(unknown["image_id"], index_of_image), _positions(unknown["label"], index_of_label)
        wanted = (rows >= 0) & (columns_ >= 0)
        known[rows[wanted], columns_[wanted]] = False

    rows = _positions(label_rows["image_id"], index_of_image)
    columns_ = _positions(label_rows["label"], index_of_label)
    wanted = (rows >= 0) & (columns_ >= 0)
    rows, columns_ = rows[wanted], columns_[wanted]
    states = label_rows["state"].to_numpy()[wanted]
    flat = rows * len(labels) + columns_
    order = np.argsort(flat, kind="stable")
    repeated = np.flatnonzero(np.diff(flat[order]) == 0)
    clash = repeated[states[order][repeated] != states[order][repeated + 1]]
    if clash.size:
        i = order[clash[0]]
        raise TableError(
            f"labels: image '{image_ids[rows[i]]}' has label '{labels[columns_[i]]}' both present and absent. "
            "Run `clean` (or `map_labels`), which resolves contradictions, before making dense targets."
        )
    targets[rows, columns_] = states
    known[rows, columns_] = True
    return DenseLabels(list(image_ids), list(labels), targets, known)


def dense_scores(rows: pa.Table, image_ids: Sequence[str], labels: Sequence[str]) -> np.ndarray:
    """Confidence of each (image, label) row that says "present", 0 where there is none; float64 (N, C) in [0, 1]."""
    present = rows.filter(pc.equal(rows["state"], PRESENT))
    n = _positions(present["image_id"], {image_id: i for i, image_id in enumerate(image_ids)})
    c = _positions(present["label"], {label: j for j, label in enumerate(labels)})
    wanted = (n >= 0) & (c >= 0)
    scores_NC = np.zeros((len(image_ids), len(labels)))
    np.maximum.at(scores_NC, (n[wanted], c[wanted]), present["confidence"].to_numpy()[wanted])
    return scores_NC


def dense_areas(rows: pa.Table, image_ids: Sequence[str], labels: Sequence[str]) -> np.ndarray:
    """Area of each cell's largest object in px², NaN where not known; float64 (N, C). rows: OBJECTS."""
    n = _positions(rows["image_id"], {image_id: i for i, image_id in enumerate(image_ids)})
    c = _positions(rows["label"], {label: j for j, label in enumerate(labels)})
    wanted = (n >= 0) & (c >= 0)
    areas_NC = np.full((len(image_ids), len(labels)), np.nan)
    areas_NC[n[wanted], c[wanted]] = rows["area_px"].to_numpy()[wanted]
    return areas_NC


def _positions(column: pa.ChunkedArray, index: dict[str, int]) -> np.ndarray:
    """Position of each value in `index`, -1 where it is not there; int64 (rows,)."""
    encoded = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    encoded = pc.dictionary_encode(encoded)
    lookup = np.asarray([index.get(v, -1) for v in encoded.dictionary.to_pylist()], np.int64)
    if not len(lookup):
        return np.zeros(0, np.int64)
    return lookup[encoded.indices.to_numpy(zero_copy_only=False)]


# ---------------------------------------------------------------- predictions


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
    write_table(path, table)


def read_predictions(path: Path) -> Predictions:
    """Read what `write_predictions` wrote. Raises TableError when the metadata or the width does not fit."""
    table = read_table(path)
    metadata = {k.decode(): v.decode() for k, v in (table.schema.metadata or {}).items()}
    if "labels" not in metadata or "scores" not in table.column_names:
        raise TableError(f"{path}: not a predictions table (no 'labels' metadata or no 'scores' column).")
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
