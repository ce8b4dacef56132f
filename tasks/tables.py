"""The schema of every table that crosses a stage, validated reading, atomic writing.

Axes: N images, C labels.

    images       one row an image that a source lists, quarantined ones included
    labels       long: one row a statement "label h is present / verified absent on image i"; NO ROW MEANS UNKNOWN
    coverage     (source, label) pairs annotated exhaustively: there, no row means absent
    unknown      (image, label) cells that stay unknown in spite of coverage (difficult objects, unresolved conflicts)
    look_again   (image, label) cells that a split of the vocabulary has left open: a person must look
    objects      area of the largest object of a label on an image, where known; for slices only
    groups       image_id -> group_id of exact and near duplicates
    splits       image_id -> partition and fold
    predictions  scores of a model: fixed_size_list<float32>[C], label order in the schema's metadata
    replication  r(I) per training image
    queue        (image, label) questions for a person, best first

Everything is written to a temporary name in the same folder and moved into place, so a killed stage leaves either the
old file or the new one.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks.errors import TableError

PRESENT, ABSENT = 1, 0
UNKNOWN_STATE = -1  # only where a table must say "before" or "given"; in `labels`, unknown is the absence of a row

PARTITIONS = ("train", "calibration", "test", "pretrain", "pool")
"""Where an image may stand: `pretrain` for sources listed under pretrain, `pool` for images without labels."""

IMAGES = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),  # <source>/<native id>
        pa.field("source", pa.string(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),  # path from the repository root, or any fsspec URI
        pa.field("sha256", pa.string()),  # hex; null where the file could not be read
        pa.field("phash", pa.uint64()),  # 64-bit perceptual hash; null where it could not be decoded
        pa.field("width", pa.int32()),  # px, after EXIF rotation
        pa.field("height", pa.int32()),
        pa.field("licence", pa.string()),
        pa.field("attribution", pa.string()),
        pa.field("official_split", pa.string()),  # the source's own: train, val, test; null when it has none
        pa.field("status", pa.string(), nullable=False),  # ok | quarantined
        pa.field("reason", pa.string()),  # why quarantined, or what was converted (e.g. "cmyk -> rgb")
    ]
)
LABELS = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("label", pa.string(), nullable=False),
        pa.field("state", pa.int8(), nullable=False),  # 1 present, 0 verified absent
        pa.field("confidence", pa.float32(), nullable=False),  # [0, 1]
        # annotation | box | verified | keyword | model:<run> | vendor:<name> | detector:<name> | rule:<name> |
        # review:<who>
        pa.field("origin", pa.string(), nullable=False),
    ]
)
COVERAGE = pa.schema([pa.field("source", pa.string(), nullable=False), pa.field("label", pa.string(), nullable=False)])
UNKNOWN = pa.schema([pa.field("image_id", pa.string(), nullable=False), pa.field("label", pa.string(), nullable=False)])
LOOK_AGAIN = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("label", pa.string(), nullable=False),
        pa.field("was", pa.string(), nullable=False),  # the label that was split
    ]
)
OBJECTS = pa.schema(  # the largest object of a label on an image, where the source tells sizes
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("label", pa.string(), nullable=False),
        pa.field("area_px", pa.float32(), nullable=False),  # of the original image
    ]
)
GROUPS = pa.schema(
    [pa.field("image_id", pa.string(), nullable=False), pa.field("group_id", pa.string(), nullable=False)]
)
SPLITS = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("partition", pa.string(), nullable=False),  # one of PARTITIONS
        pa.field("fold", pa.int16(), nullable=False),  # [0, num_folds); -1 for official test, pretrain and pool images
    ]
)
TRUTH = pa.schema(  # planted label errors of the embedded data; read only where cleaning is scored
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("label", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),  # missing | wrong
        pa.field("given", pa.int8(), nullable=False),
        pa.field("true", pa.int8(), nullable=False),
    ]
)
REPLICATION = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("replication", pa.float64(), nullable=False),  # r(I) >= 1
    ]
)
CHANGES = pa.schema(  # what `clean` did to the annotations; metadata `image_ids`: JSON list of the images it looked at
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("label", pa.string(), nullable=False),
        pa.field("before", pa.int8(), nullable=False),  # 1, 0, or -1 unknown
        pa.field("after", pa.int8(), nullable=False),
        pa.field("rule", pa.string(), nullable=False),  # rule:<policy> | rule:implies | review:<who>
        pa.field("present", pa.float32(), nullable=False),  # probability that the label is present, [0, 1]
    ]
)
QUEUE = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("label", pa.string(), nullable=False),
        pa.field("given", pa.int8(), nullable=False),  # 1, 0, or -1 unknown
        pa.field("score", pa.float32(), nullable=False),  # probability that the label is present, [0, 1]
        pa.field("priority", pa.float32(), nullable=False),  # higher is asked earlier
        pa.field("reason", pa.string(), nullable=False),  # missing? | mistaken? | unknown | audit
    ]
)


# ---------------------------------------------------------------- atomic writing


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that replaces it when the block ends well, and is removed when it does not.

    Of several processes of one torchrun only the first one's file is kept.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        if os.environ.get("RANK", "0") == "0":
            os.chmod(temporary, 0o666 & ~_umask())
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_table(path: Path, table: pa.Table, schema: pa.Schema | None = None) -> None:
    """Write Parquet (zstd) atomically after casting to `schema`; the table's own metadata is kept.

    Raises TableError when a column is missing, has the wrong type, or is null where that is not allowed.
    """
    if schema is not None:
        table = conform(table, schema, where=str(path))
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def write_json(path: Path, value: object) -> None:
    """Write JSON with sorted keys, 2-space indent and floats rounded to 6 decimals, so that git diffs it."""
    with atomic_path(path) as temporary:
        temporary.write_text(
            json.dumps(_stable(value), sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False) + "\n",
            encoding="utf-8",
        )


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _stable(value: object) -> object:
    """JSON-ready copy: numpy scalars unwrapped, floats rounded to 6 decimals, NaN and infinities as null."""
    if isinstance(value, dict):
        return {str(k): _stable(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_stable(v) for v in value]
    if isinstance(value, np.ndarray):
        return _stable(value.tolist())
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    return value


# ---------------------------------------------------------------- validated reading


def read_table(path: Path, schema: pa.Schema | None = None, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a Parquet table and hold it against `schema`.

    Raises TableError naming the file and the command that makes it when it is missing or does not fit.
    """
    path = Path(path)
    if not path.exists():
        raise TableError(f"{path}: no such table. Run `dvc repro`, or the stage that writes it, first.")
    try:
        table = pq.read_table(path, columns=list(columns) if columns else None, memory_map=True)
    except (pa.ArrowInvalid, OSError) as error:
        raise TableError(
            f"{path}: not a readable Parquet file ({error}). Delete it and run its stage again."
        ) from error
    if schema is None:
        return table
    wanted = schema if columns is None else pa.schema([schema.field(c) for c in columns])
    return conform(table, wanted, where=str(path))


def read_json(path: Path) -> dict:
    """Read a JSON file that a stage wrote. Raises TableError when it is missing or truncated."""
    path = Path(path)
    if not path.exists():
        raise TableError(f"{path}: no such file. Run `dvc repro`, or the stage that writes it, first.")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise TableError(f"{path}: not valid JSON ({error}). Delete it and run its stage again.") from error


def conform(table: pa.Table, schema: pa.Schema, *, where: str) -> pa.Table:
    """`table` with exactly the columns of `schema`, cast, in its order; metadata kept.

    Raises TableError that names the column and what was expected.
    """
    columns = []
    for field in schema:
        if field.name not in table.column_names:
            raise TableError(
                f"{where}: column '{field.name}' is missing; found {', '.join(table.column_names) or 'none'}."
            )
        column = table.column(field.name)
        if column.type != field.type:
            try:
                column = column.cast(field.type)
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
                raise TableError(
                    f"{where}: column '{field.name}' is {column.type}, expected {field.type} ({error})."
                ) from error
        if not field.nullable and column.null_count:
            raise TableError(f"{where}: column '{field.name}' has {column.null_count} empty values; none is allowed.")
        columns.append(column)
    return pa.table(columns, schema=schema.with_metadata(table.schema.metadata))


def check_unique(table: pa.Table, keys: Sequence[str], *, where: str) -> None:
    """Raise TableError naming one duplicate when two rows share `keys`."""
    counts = table.group_by(list(keys)).aggregate([([], "count_all")])
    twice = counts.filter(pc.greater(counts["count_all"], 1))
    if twice.num_rows:
        row = {k: twice[k][0].as_py() for k in keys}
        raise TableError(f"{where}: {twice.num_rows} keys occur more than once, e.g. {row}. Keys must be unique.")


def sort_table(table: pa.Table, keys: Sequence[str]) -> pa.Table:
    """Rows in ascending order of `keys`, so that equal content gives equal bytes."""
    return table.sort_by([(k, "ascending") for k in keys])


def empty(schema: pa.Schema) -> pa.Table:
    """A table of `schema` without rows."""
    return schema.empty_table()


# ---------------------------------------------------------------- dense labels, in memory only


@dataclass(frozen=True)
class DenseLabels:
    """Long labels as matrices: targets_NC uint8 {0, 1}, known_NC bool. Where not known, the target means nothing."""

    image_ids: list[str]
    labels: list[str]
    targets_NC: np.ndarray
    known_NC: np.ndarray


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
