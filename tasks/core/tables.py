"""The schema of every table that crosses a stage, validated reading, atomic writing.

Axes: N images, C labels.

    images       one row an image that a source lists, quarantined ones included
    labels       long: one row a statement "label h is present / verified absent on image i"; NO ROW MEANS UNKNOWN
    coverage     (source, label) pairs annotated exhaustively: there, no row means absent
    unknown      (image, label) pairs that stay unknown in spite of coverage (difficult objects, unresolved conflicts)
    look_again   (image, label) pairs that a split of the vocabulary has left open: a person must look
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

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks.core.atomic_files import atomic_path
from tasks.core.errors import TableError
from tasks.core.seals import SEAL, seal

PRESENT, ABSENT = 1, 0
UNKNOWN_STATE = -1  # only where a table must say "before" or "given"; in `labels`, unknown is the absence of a row

PAIR = ("image_id", "label")
"""The key of every long table: one (image, label) pair."""

PARTITIONS = ("train", "calibration", "test", "pretrain", "pool")
"""Where an image may stand: `pretrain` for sources listed under pretrain, `pool` for images without labels."""

IMAGES = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),  # <source>/<native id>
        pa.field("source", pa.string(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),  # path from the repository root, or any fsspec URI
        pa.field("sha256", pa.string()),  # hex; null where the file could not be read
        pa.field("phash", pa.uint64()),  # 64-bit perceptual hash; null where it could not be decoded
        pa.field("width", pa.int64()),  # px, after EXIF rotation; of a quarantined image, what its header claims
        pa.field("height", pa.int64()),
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

ORIGIN_RANK = ("review", "verified", "annotation", "box")
"""Kinds of origin, most trusted first: whose row stays when several say the same. Others come after."""

PROPOSALS = ("model", "vendor", "detector", "keyword")
"""Kinds of origin of weak label sources: their rows never make a label known by themselves."""

RULES = ("rule:implies", "rule:exhaustive_children")
"""Origins that follow from other rows by the taxonomy, and are derived anew from them."""


def origin_kind(origin: str) -> str:
    """`vendor` of `vendor:acme`."""
    return origin.partition(":")[0]


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
FOLDS = pa.schema(  # the fold of every picture that was ever drawn, those that are away at present included
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("sha256", pa.string()),  # by which it is known again; null: by its image id
        pa.field("fold", pa.int16(), nullable=False),  # [0, num_folds)
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
ASSERTIONS = pa.schema(  # what a policy or people say about pairs, before it is applied to the labels
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("label", pa.string(), nullable=False),
        pa.field("state", pa.int8(), nullable=False),  # 1, 0, or -1 unknown
        pa.field("present", pa.float32(), nullable=False),  # probability that the label is present, [0, 1]
        pa.field("origin", pa.string(), nullable=False),  # rule:<policy> | review:<who>
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


# ---------------------------------------------------------------- writing


def write_table(
    path: Path,
    table: pa.Table,
    schema: pa.Schema | None = None,
    *,
    sealed: bool = False,
    rows_per_group: int | None = None,
) -> None:
    """Write Parquet (zstd) atomically after casting to `schema`; the table's own metadata is kept.

    Each page has a checksum. sealed: the whole file too, metadata included (tasks/core/seals.py).
    rows_per_group: that can be read at once; pyarrow's million when None.
    Raises TableError when a column is missing, has the wrong type, or is null where that is not allowed.
    """
    if schema is not None:
        table = conform(table, schema, where=str(path))
    with atomic_path(path) as temporary:
        if sealed:
            table = table.replace_schema_metadata({**(table.schema.metadata or {}), "seal": SEAL})
        pq.write_table(table, temporary, compression="zstd", write_page_checksum=True, row_group_size=rows_per_group)
        if sealed:
            seal(temporary)


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
    with open_table(path) as file:
        table = file.read(list(columns) if columns else None)
    if schema is None:
        return table
    wanted = schema if columns is None else pa.schema([schema.field(c) for c in columns])
    return conform(table, wanted, where=str(path))


@contextmanager
def open_table(path: Path) -> Iterator[pq.ParquetFile]:
    """A Parquet file, to be read in parts. Raises TableError where it is missing or, also within the block, damaged."""
    path = Path(path)
    if not path.exists():
        raise TableError(f"{path}: no such table. Run `dvc repro`, or the stage that writes it, first.")
    try:
        with pq.ParquetFile(path, memory_map=True, page_checksum_verification=True) as file:
            yield file
    except (pa.ArrowInvalid, OSError) as error:
        if getattr(error, "errno", None):  # the machine refuses, not the file
            raise
        raise TableError(
            f"{path}: not a readable Parquet file ({str(error).splitlines()[0]}). If a stage wrote it, delete it and "
            "run that stage again."
        ) from error


def read_json(path: Path) -> dict:
    """Read a JSON file that a stage wrote. Raises TableError when it is missing or truncated."""
    path = Path(path)
    if not path.exists():
        raise TableError(f"{path}: no such file. Run `dvc repro`, or the stage that writes it, first.")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
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


def sha256_of(path: Path) -> str:
    """Hex digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
