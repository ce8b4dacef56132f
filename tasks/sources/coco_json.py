"""The instances file of COCO and LVIS, decoded at the speed of the parser.

A file of half a gigabyte is mapped and walked over once. Its annotations are decoded in slices that keep four numbers
each; segmentations, most of the bytes, are skipped by the parser, and pages are let go of behind it.

Format: https://cocodataset.org/#format-data, https://www.lvisdataset.org/dataset.
"""

from __future__ import annotations

import logging
import mmap
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.core.errors import SourceError
from tasks.sources.files import decode_json, mapped_bytes
from tasks.sources.raw import first_duplicate

log = logging.getLogger(__name__)

SLICE_BYTES = 8 << 20  # of annotations decoded at a time: large enough for full speed, small beside the file
MOST_LEFT_BYTES = 64 << 20  # after the annotations taken in one walk; the rest is copied


Id = int | float | str
"""A whole number may be written 1.0, as pandas does; it becomes 1."""


class Licence(msgspec.Struct, gc=False):
    id: Id | None = None
    name: str | None = ""
    url: str | None = ""


class Image(msgspec.Struct, gc=False):
    id: Id
    file_name: str | None = None
    license: Id | None = None
    flickr_url: str | None = None
    coco_url: str | None = None
    neg_category_ids: list[int | str] | None = None


class Annotation(msgspec.Struct, gc=False):
    image_id: Id
    category_id: Id
    iscrowd: int | float | bool | str | None = 0
    area: float | list | str | None = None  # what is no number counts as missing: it is needed for sizes alone


class SizedAnnotation(Annotation, gc=False):
    """Read only when `min_area` asks for sizes: an `area` may be missing, and a box may be impossible."""

    bbox: tuple[float, float, float, float] | None = None


class Category(msgspec.Struct, gc=False):
    id: Id
    name: str | int


class Document(msgspec.Struct):
    images: msgspec.Raw
    annotations: msgspec.Raw  # null in some exports
    categories: msgspec.Raw
    licenses: msgspec.Raw = msgspec.Raw(b"[]")  # null in some exports


@dataclass(frozen=True)
class Instances:
    """One file. Positions, not ids: images_O, labels_O int64 (O,), crowd_O bool (O,).

    areas_O: float64 (O,) in px², of the box where none is given; None unless asked for.
    given_areas_O: float64 (O,) in px², NaN where none is.
    """

    images: list[Image]
    categories: list[Category]
    licences: list[Licence]
    images_O: np.ndarray
    labels_O: np.ndarray
    crowd_O: np.ndarray
    areas_O: np.ndarray | None
    given_areas_O: np.ndarray


def read_instances(path: Path, *, with_areas: bool = False) -> Instances:
    """Decode an instances file; ids become positions. Raises SourceError naming the entry that does not fit."""
    data = mapped_bytes(path)
    kind = SizedAnnotation if with_areas else Annotation
    document, columns = _skim(path, data, kind) or (decode_json(data, Document, where=str(path)), [])
    data.obj.madvise(mmap.MADV_DONTNEED)  # the pages just walked over need not stay beside what is decoded next
    images = decode_json(document.images, list[Image], where=str(path), key="images")
    categories = decode_json(document.categories, list[Category], where=str(path), key="categories")
    licences = _licences(path, document.licenses)
    for key, entries in (("images", images), ("categories", categories)):
        for row, entry in enumerate(entries):
            entry.id = _whole(entry.id, f"{path}: {key}[{row}].id")
    for category in categories:
        category.name = str(category.name)
    for what, values in (
        ("image id", [i.id for i in images]),
        ("category id", [c.id for c in categories]),
    ):
        if (twice := first_duplicate([str(value) for value in values])) is not None:
            raise SourceError(f"{path}: {what} {twice!r} occurs twice. Rename or remove one.")

    at = sum(len(taken.crowd) for taken in columns)
    for slice_ in _annotation_slices(path, document.annotations, kind, at):
        columns.append(_columns(path, at, slice_))
        at += len(slice_)
        data.obj.madvise(mmap.MADV_DONTNEED)
    labels_O = _positions(path, "category", [c.category_ids for c in columns], [category.id for category in categories])
    categories, labels_O = _without_namesakes(path, categories, labels_O)
    return Instances(
        images,
        categories,
        licences,
        _positions(path, "image", [c.image_ids for c in columns], [image.id for image in images]),
        labels_O,
        np.concatenate([c.crowd for c in columns]),
        np.concatenate([c.areas for c in columns]) if with_areas else None,
        np.concatenate([c.given_areas for c in columns]),
    )


def _licences(path: Path, raw: msgspec.Raw) -> list[Licence]:
    """The file's licences; none where they are written in another way, which labels do not need."""
    try:
        return msgspec.json.decode(raw, type=list[Licence] | None) or []
    except msgspec.DecodeError as error:
        log.warning("%s: licenses are left out: %s", path, error)
        return []


class _Columns(NamedTuple):
    """Annotations of one slice. areas: empty unless asked for."""

    image_ids: pa.Array
    category_ids: pa.Array
    crowd: np.ndarray
    areas: np.ndarray
    given_areas: np.ndarray


def _columns(path: Path, at: int, slice_: Sequence[Annotation]) -> _Columns:
    """at: position in the file of the first annotation of the slice."""
    with_areas = bool(slice_) and isinstance(slice_[0], SizedAnnotation)
    return _Columns(
        _annotation_ids(path, "image_id", at, [a.image_id for a in slice_]),
        _annotation_ids(path, "category_id", at, [a.category_id for a in slice_]),
        np.asarray([bool(a.iscrowd) and a.iscrowd not in NO_CROWD for a in slice_], bool),
        np.asarray(_areas(path, at, slice_) if with_areas else [], np.float64),
        np.asarray([a.area if isinstance(a.area, float) else np.nan for a in slice_], np.float64),
    )


NULL = msgspec.Raw(b"null")
NO_CROWD = ("0", "false", "False")
"""`iscrowd` as text."""

_ANNOTATIONS = re.compile(rb'"annotations"\s*:\s*\[')
_BETWEEN_OBJECTS = re.compile(rb"\}\s*,\s*\{")
_TAKEN = b'["(annotations that were taken)",'


def _skim(path: Path, data: memoryview, kind: type[Annotation]) -> tuple[Document, list[_Columns]] | None:
    """Most annotations of a large file, and the document without them, in one walk over the file.

    As a Document the annotations would be walked over twice: once to find their end, once to decode them. Here slices
    are decoded from the first `"annotations": [` on until one is not valid JSON by itself, which happens where the list
    ends. The rest is decoded with a mark in place of what was taken: when the mark does not begin the document's
    annotations, that `"annotations"` was another one. None then, and wherever something does not fit: the caller
    starts anew and finds out what.
    """
    if (start := _ANNOTATIONS.search(data)) is None:
        return None
    decoder = msgspec.json.Decoder(list[kind])
    begin = end = start.end()
    taken: list[_Columns] = []
    at = 0
    try:
        while border := _BETWEEN_OBJECTS.search(data, end + SLICE_BYTES):
            slice_ = decoder.decode(b"".join((b"[", data[end : border.start() + 1], b"]")))
            taken.append(_columns(path, at, slice_))
            at += len(slice_)
            end = border.end() - 1
            data.obj.madvise(mmap.MADV_DONTNEED)
    except (msgspec.DecodeError, UnicodeDecodeError, SourceError):
        pass
    if not taken or len(data) - end > MOST_LEFT_BYTES:
        return None
    try:
        document = msgspec.json.decode(b"".join((data[: begin - 1], _TAKEN, data[end:])), type=Document)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    left = memoryview(document.annotations)
    if left[: len(_TAKEN)] != _TAKEN:
        return None
    document.annotations = msgspec.Raw(b"[" + left[len(_TAKEN) :])
    return document, taken


def _annotation_slices(path: Path, raw: msgspec.Raw, kind: type[Annotation], at: int) -> Iterator[list[Annotation]]:
    """Annotations, a few megabytes at a time; `at` is the position in the file of the first.

    A slice is tried up to a `},{`. Where that stands inside a string or a nested value the slice is not valid JSON by
    itself, and the next `},{` is tried: a wrong border can never pass.
    """
    view = memoryview(raw) if raw != NULL else memoryview(b"[]")
    decoder = msgspec.json.Decoder(list[kind])
    start, search_from = 1, 1 + SLICE_BYTES
    while border := _BETWEEN_OBJECTS.search(view, search_from):
        try:
            slice_ = decoder.decode(b"".join((b"[", view[start : border.start() + 1], b"]")))
        except msgspec.ValidationError as error:
            raise _in_annotation(path, at, error) from error
        except msgspec.DecodeError:
            search_from = border.start() + 1
            continue
        yield slice_
        at += len(slice_)
        start, search_from = border.end() - 1, border.end() + SLICE_BYTES
    try:
        yield decoder.decode(view if start == 1 else b"[" + view[start:])
    except msgspec.ValidationError as error:
        raise _in_annotation(path, at, error) from error


def _in_annotation(path: Path, at: int, error: msgspec.ValidationError) -> SourceError:
    """msgspec's complaint with the position counted from the start of the file, not of the slice."""
    message = re.sub(r"`\$\[(\d+)\]", lambda match: f"`annotations[{at + int(match.group(1))}]", str(error))
    return SourceError(f"{path}: {message}. Correct that value, or export the file again.")


def _whole(value: Id, where: str) -> Id:
    """An id without its decimal point. Raises SourceError for one that is no whole number."""
    if not isinstance(value, float):
        return value
    if not value.is_integer():
        raise SourceError(f"{where} is {value}, expected a whole number or text. Correct it, or export the file again.")
    return int(value)


def _id_array(where: str, ids: list[Id]) -> pa.Array:
    """Ids as int64 or string. Raises SourceError when they are some numbers, some text, or beyond 64 bits."""
    try:
        return pa.array(ids)
    except (pa.ArrowException, OverflowError) as error:
        raise SourceError(f"{where}: ids are not all 64-bit numbers or all text ({error}). Use one type.") from error


def _annotation_ids(path: Path, key: str, at: int, ids: list[Id]) -> pa.Array:
    """Ids of a slice. at: position in the file of its first annotation."""
    array = _id_array(f"{path}: {key} from annotations[{at}] on", ids)
    if not pa.types.is_floating(array.type):
        return array
    return pa.array([_whole(i, f"{path}: annotations[{row}].{key}") for row, i in enumerate(ids, at)])


def _positions(path: Path, what: str, chunks: list[pa.Array], known: list[Id]) -> np.ndarray:
    """Position in `known` of each annotation's id, int64 (O,). Raises SourceError naming an id that does not exist."""
    known_ids = _id_array(f"{path}: {what} ids", known)
    chunks = [chunk for chunk in chunks if len(chunk)]
    if not chunks:
        return np.zeros(0, np.int64)
    many = "categories" if what == "category" else "images"
    other = next((chunk for chunk in chunks if chunk.type != known_ids.type), None)
    if other is not None:
        raise SourceError(
            f"{path}: {what}_id {other[0].as_py()!r} is {other.type}, but the ids of {many} are {known_ids.type}. "
            "Use one type."
        )
    positions = pc.index_in(pa.chunked_array(chunks), value_set=known_ids)
    if positions.null_count:
        row = pc.index(pc.is_null(positions), True).as_py()
        wrong = pa.chunked_array(chunks)[row].as_py()
        raise SourceError(
            f"{path}: annotations[{row}]: {what}_id {wrong!r} is not among the file's {len(known)} {many}. "
            f"Remove the annotation or add the {what}."
        )
    return positions.to_numpy().astype(np.int64)


def _without_namesakes(
    path: Path, categories: list[Category], labels_O: np.ndarray
) -> tuple[list[Category], np.ndarray]:
    """Categories of different names, and the positions in them.

    Roboflow adds a category above the others that may bear the name of one of them; no annotation has it. Raises
    SourceError where two of one name have annotations.
    """
    if (twice := first_duplicate([category.name for category in categories])) is None:
        return categories, labels_O
    used = set(np.unique(labels_O).tolist())
    keep = {}
    for position, category in enumerate(categories):
        other = keep.get(category.name)
        if other in used and position in used:
            raise SourceError(f"{path}: category name {twice!r} occurs twice. Rename or remove one.")
        if other not in used:
            keep[category.name] = position
    kept = sorted(keep.values())
    new = np.full(len(categories), -1, np.int64)
    new[kept] = np.arange(len(kept))
    return [categories[position] for position in kept], new[labels_O]


def _areas(path: Path, at: int, annotations: Sequence[SizedAnnotation]) -> list[float]:
    """Area of each object in px², as given or else of its box. Raises SourceError where it is missing or negative."""
    areas = []
    for row, annotation in enumerate(annotations, start=at):
        area, box = annotation.area if isinstance(annotation.area, float) else None, annotation.bbox
        if box is not None and (box[2] < 0 or box[3] < 0):
            raise SourceError(
                f"{path}: annotations[{row}]: box {list(box)} has a negative side. Correct it, or set `min_area: 0`."
            )
        if area is None and box is not None:
            area = box[2] * box[3]
        if area is None or area < 0:
            raise SourceError(
                f"{path}: annotations[{row}]: area is {area}, but `min_area` needs it. Add it, or set `min_area: 0`."
            )
        areas.append(area)
    return areas
