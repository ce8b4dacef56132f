"""The CSV and JSON files of Open Images, one function a kind of file; `openimages.read` makes a source of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from tasks.core.errors import SourceError
from tasks.sources.files import csv_header, csv_rows, read_json

HUMAN, BOX, MACHINE = "verified", "box", "model:openimages"
"""Origins of label rows. The last is the classifier whose candidates people were asked to verify."""

ENTITY = "/m/0bl9f"  # root of the official hierarchy: it stands above everything and is no class


@dataclass(frozen=True)
class LabelFile:
    """The (image, label) rows of one CSV, in its order.

    image_ids, classes: dictionary-encoded strings (R,), distinct values in order of appearance.
    confidences: float32 (R,) in [0, 1].  num_rows: of the file; dropped: ledger rows for those left out here.
    """

    origin: str
    split: str | None
    image_ids: pa.DictionaryArray
    classes: pa.DictionaryArray
    confidences: np.ndarray
    num_rows: int
    dropped: list[tuple[str, int, str]]


@dataclass(frozen=True)
class ImageList:
    """Images and what is known of them: string columns of equal length, null where unknown."""

    ids: pa.Array
    splits: pa.Array
    licences: pa.Array
    attributions: pa.Array
    urls: pa.Array

    def filter(self, keep: np.ndarray) -> ImageList:
        mask = pa.array(keep)
        return ImageList(*(getattr(self, f.name).filter(mask) for f in fields(self)))

    @classmethod
    def concat(cls, lists: Sequence[ImageList]) -> ImageList:
        return cls(*(pa.concat_arrays([getattr(part, f.name) for part in lists]) for f in fields(cls)))


# ---------------------------------------------------------------- labels and boxes


def read_image_labels(path: Path, split: str | None, origin: str) -> LabelFile:
    """ImageID, LabelName, Confidence. Human labels are 0 or 1 ("1" and "1.0" both occur), candidates lie between.

    Raises SourceError naming the row of another value.
    """
    image_ids, classes, confidences = _read_label_columns(path)
    if origin == HUMAN:
        allowed = (confidences == 0) | (confidences == 1)
        expected = "human labels are 0 or 1. Are these `machine_labels`?"
    else:
        allowed = (confidences >= 0) & (confidences <= 1)
        expected = "confidences lie in [0, 1]. Correct the row."
    if not allowed.all():
        row = int(np.argmin(allowed))
        raise SourceError(f"{path}: row {row + 1} below the header: Confidence {confidences[row]:g}, but {expected}")
    return LabelFile(origin, split, image_ids, classes, confidences, len(confidences), [])


def _read_label_columns(path: Path) -> tuple[pa.DictionaryArray, pa.DictionaryArray, np.ndarray]:
    """ImageID and LabelName, encoded while they are read, and Confidence: there may be tens of millions of rows.

    Raises SourceError naming the first row that is malformed or lacks a value.
    """
    columns = {"ImageID": pl.String, "LabelName": pl.String, "Confidence": pl.Float32}
    header = csv_header(path, columns)
    text = pa.dictionary(pa.int32(), pa.string())
    try:
        table = pa.csv.read_csv(
            path,
            read_options=pa.csv.ReadOptions(column_names=header, skip_rows=1, block_size=32 << 20),
            convert_options=pa.csv.ConvertOptions(
                include_columns=list(columns),
                column_types={"ImageID": text, "LabelName": text, "Confidence": pa.float32()},
                null_values=[""],
                strings_can_be_null=True,
            ),
        )
    except pa.ArrowInvalid:
        table = None
    if table is None or not table.num_rows or any(column.null_count for column in table.columns):
        frame = _read(path, columns)  # names the row, or reads what only it can
        return _encoded(frame, "ImageID"), _encoded(frame, "LabelName"), frame["Confidence"].to_numpy()
    table = table.unify_dictionaries().combine_chunks()
    return table["ImageID"].chunk(0), table["LabelName"].chunk(0), table["Confidence"].to_numpy()


def read_boxes(path: Path, split: str | None, *, use_group_of: bool, use_depiction: bool) -> LabelFile:
    """ImageID and LabelName of each box that counts. Flags are 1 yes, 0 no, -1 not known."""
    left_out = {"IsGroupOf": not use_group_of, "IsDepiction": not use_depiction}
    flags = [flag for flag, out in left_out.items() if out]
    frame = _read(path, {"ImageID": pl.String, "LabelName": pl.String} | dict.fromkeys(flags, pl.Float32))
    num_rows, dropped = frame.height, []
    for flag in flags:
        kept = frame.filter(pl.col(flag) != 1)
        dropped.append(("labels", frame.height - kept.height, f"box marked {flag}"))
        frame = kept
    confidences = np.ones(frame.height, np.float32)
    return LabelFile(
        BOX, split, _encoded(frame, "ImageID"), _encoded(frame, "LabelName"), confidences, num_rows, dropped
    )


def _encoded(frame: pl.DataFrame, name: str) -> pa.DictionaryArray:
    """A column of strings, dictionary-encoded, and gone from the frame: there may be tens of millions."""
    return pc.dictionary_encode(_arrow(frame.drop_in_place(name)).cast(pa.string())).combine_chunks()


def _read(path: Path, columns: Mapping[str, type[pl.DataType]], optional: Collection[str] = ()) -> pl.DataFrame:
    """The named columns of a CSV file, and the optional ones that it has, as text.

    Raises SourceError naming the first row that is malformed or lacks a value in a named column.
    """
    header = csv_header(path, columns)
    chosen = [name for name in header if name in columns or name in optional]
    schema = {name: columns.get(name, pl.String) for name in header}
    # Not by the file's own header, which may hold a byte-order mark and blanks around names.
    scan = pl.scan_csv(path, has_header=False, skip_rows=1, schema=schema, raise_if_empty=False)
    try:
        frame = scan.select(chosen).collect(engine="streaming")
    except pl.exceptions.PolarsError as error:
        _explain(path, header, columns)
        raise SourceError(f"{path}: not readable as CSV ({str(error).splitlines()[0]}). Fetch it again.") from error
    if any(frame[column].null_count() for column in columns):
        _explain(path, header, columns)
    return frame


def _explain(path: Path, header: Sequence[str], columns: Mapping[str, type[pl.DataType]]) -> None:
    """Raise SourceError for the first row that cannot be read: the slow way, taken only after the fast one failed."""
    for line, values in csv_rows(path):
        if len(values) != len(header):
            raise SourceError(
                f"{path}:{line}: {len(values)} values under {len(header)} columns. Quote commas, or fetch it again."
            )
        for column, kind in columns.items() if line > 1 else ():
            value = values[header.index(column)]
            if not value or (kind == pl.Float32 and not _is_number(value)):
                fault = f"{value!r} is no number" if value else "empty"
                raise SourceError(f"{path}:{line}: {column}: {fault}. Correct or remove the row.")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _arrow(column: pl.Series) -> pa.ChunkedArray:
    """Strings in Arrow's plain layout, which all of its functions know (polars' own is string_view)."""
    return column.to_frame().to_arrow(compat_level=pl.CompatLevel.oldest()).column(0)


# ---------------------------------------------------------------- classes, images, hierarchy


def read_class_descriptions(path: Path) -> dict[str, str]:
    """Machine id -> display name, in the file's order; the header, which old files lack, is recognised.

    Raises SourceError for a row without two values, a header of another file, or an id with two names.
    """
    names: dict[str, str] = {}
    rows = [(line, [value.strip() for value in values]) for line, values in csv_rows(path)]
    if not rows:
        raise SourceError(f"{path}: empty file. Fetch it again.")
    header = [value.casefold() for value in rows[0][1]]
    if header[:2] == ["labelname", "displayname"]:
        rows = rows[1:]
    elif len(rows) > 1 and rows[1][1][0].startswith("/") and not header[0].startswith("/"):
        raise SourceError(f"{path}:1: header is {','.join(rows[0][1])!r}, expected LabelName,DisplayName or none.")
    for line, values in rows:
        if len(values) != 2 or not values[0]:
            raise SourceError(
                f"{path}:{line}: expected LabelName,DisplayName, found {len(values)} values. Quote names with commas."
            )
        mid, name = values
        if names.setdefault(mid, name) != name:
            raise SourceError(f"{path}:{line}: {mid!r} is named {names[mid]!r} and {name!r}. Keep one row.")
    return names


def read_image_list(path: Path, split: str | None) -> ImageList:
    """ImageID and, where the file has them, Subset, License, Author, OriginalLandingURL and OriginalURL.

    split: official split of all rows; None takes it from Subset.
    """
    optional = ("Subset", "License", "Author", "OriginalLandingURL", "OriginalURL")
    frame = _read(path, {"ImageID": pl.String}, optional=optional)

    def column(name: str) -> pa.Array:
        if name not in frame.columns:
            return pa.nulls(frame.height, pa.string())
        return _arrow(frame[name]).combine_chunks().cast(pa.string())

    author, landing_url = column("Author"), column("OriginalLandingURL")
    credit = pc.coalesce(pc.binary_join_element_wise(author, landing_url, ", "), author, landing_url)
    return ImageList(
        ids=column("ImageID"),
        splits=column("Subset") if split is None else pa.repeat(pa.scalar(split), frame.height),
        licences=column("License"),
        attributions=credit,
        urls=column("OriginalURL"),
    )


def read_hierarchy(path: Path) -> dict[str, list[str]]:
    """Class -> its direct parents, sorted, from the hierarchy JSON; classes right below the root have none.

    Only `Subcategory` makes a parent: a `Part` (a wheel of a car) says nothing about presence, though what stands below
    a part is read. A class may stand in several places. Positives flow to all ancestors, verified negatives to all
    descendants. Raises SourceError for a node without LabelName and for a cycle, which it names.
    """
    parents: dict[str, set[str]] = {}
    stack: list[tuple[object, str | None]] = [(read_json(path), None)]
    while stack:
        node, parent = stack.pop()
        if not isinstance(node, dict) or not isinstance(node.get("LabelName"), str):
            below = f" below {parent!r}" if parent else ""
            raise SourceError(f"{path}: a node{below} has no LabelName. Fetch the hierarchy again.")
        name = node["LabelName"]
        known = parents.setdefault(name, set())
        if parent is not None:
            known.add(parent)
        for kind, above in (("Subcategory", name), ("Part", None)):
            below = node.get(kind, [])
            if not isinstance(below, list):
                raise SourceError(f"{path}: {kind} of {name!r} is no list. Fetch the hierarchy again.")
            stack += [(child, above) for child in below]
    try:
        TopologicalSorter(parents).prepare()
    except CycleError as error:
        raise SourceError(
            f"{path}: cycle in the hierarchy: {' -> '.join(error.args[1])}. Remove one of these links."
        ) from error
    parents.pop(ENTITY, None)
    return {name: sorted(above - {ENTITY}) for name, above in sorted(parents.items())}
