"""What a source reader returns, and the three-state arithmetic that the readers share.

Axes: N images, C source classes (the labels of a source, under its own names), O annotated objects.
An (image, label) pair is one number, its entry in the N x C matrix: image position x C + class position.

An annotated object that does not count (a crowd region, a "difficult" or tiny object) still says that something is
there. When no other object of that label counts on the image, the pair is therefore UNKNOWN, even in a source that is
otherwise exhaustive: it goes to `RawSource.unknown`, which overrides `coverage`.
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.core.errors import SourceError, did_you_mean
from tasks.core.ledger import Ledger
from tasks.core.split_words import SPLIT_WORDS, official_split
from tasks.core.tables import ABSENT, LABELS, OBJECTS, PRESENT, UNKNOWN, UNKNOWN_STATE

log = logging.getLogger(__name__)

ROWS_A_CHUNK = 1 << 22

RAW_IMAGES = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),  # <source>/<native id>
        pa.field("uri", pa.string(), nullable=False),  # path from the repository root, or any fsspec URI
        pa.field("licence", pa.string()),
        pa.field("attribution", pa.string()),
        pa.field("official_split", pa.string()),
    ]
)


@dataclass(frozen=True)
class RawSource:
    """One source as its files state it, in its own vocabulary, nothing mapped and no image opened.

    images: RAW_IMAGES, unique image ids; empty for `predictions`, which speak about another source's images.
    labels: LABELS, unique on (image_id, label, state, origin); `label` is the source class.
    coverage: classes annotated exhaustively over the whole source: there, no row means absent, except where
        `unknown` has the pair.
    vocabulary: source class -> display name, of every class that the source declares.
    unknown: UNKNOWN, pairs of covered classes that the source leaves open. They are never negatives.
    objects: OBJECTS, where the source has the size of its objects; they add nothing to `labels`.
    num_in, dropped: counts of "images" and "labels" that balance with the two tables; readers add nothing.
    notes: what a person should know of how the files were read, a line each.
    """

    images: pa.Table
    labels: pa.Table
    coverage: list[str]
    vocabulary: dict[str, str]
    unknown: pa.Table = field(default_factory=UNKNOWN.empty_table)
    objects: pa.Table = field(default_factory=OBJECTS.empty_table)
    num_in: list[tuple[str, int]] = field(default_factory=list)
    dropped: list[tuple[str, int, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def doubts(self) -> list[str]:
        """What is allowed and seldom meant, a line each."""
        return [*self.notes, *self._nothing_present()]

    def _nothing_present(self) -> list[str]:
        if self.coverage and self.images.num_rows and not pc.any(pc.equal(self.labels["state"], PRESENT)).as_py():
            return [
                f"no label at all is present: all {len(self.coverage)} classes would be absent on all "
                f"{self.images.num_rows} images. Export the annotations, or set the source's option `exhaustive: false`"
            ]
        return []

    def record(self, ledger: Ledger) -> None:
        """Enter what came in and was dropped; the stage enters `num_out` for what it writes."""
        for unit, count in self.num_in:
            ledger.num_in(unit, count)
        for unit, count, reason in self.dropped:
            ledger.dropped(unit, count, reason)


# ---------------------------------------------------------------- building the tables


def images_table(
    name: str,
    native_ids: Sequence[str] | pa.Array,
    uris: Sequence[str] | pa.Array,
    *,
    licence: Sequence[str | None] | pa.Array | None = None,
    attribution: Sequence[str | None] | pa.Array | None = None,
    official_split: Sequence[str | None] | pa.Array | str | None = None,
) -> pa.Table:
    """RAW_IMAGES rows with ids `<name>/<native id>`; official_split may be one value for all.

    The source's own words for its splits become `train`, `val` and `test` (tasks/core/split_words.py).
    """
    num_images = len(native_ids)
    if official_split is None or isinstance(official_split, str):
        official_split = pa.repeat(pa.scalar(official_split, pa.string()), num_images)
    official_split = _official_splits(name, official_split)
    nothing = pa.nulls(num_images, pa.string())
    return pa.table(
        [
            prefixed(name, native_ids),
            _strings(uris),
            nothing if licence is None else _strings(licence),
            nothing if attribution is None else _strings(attribution),
            _strings(official_split),
        ],
        schema=RAW_IMAGES,
    )


def _official_splits(name: str, words: Sequence[str | None] | pa.Array) -> pa.Array:
    """The words as `train`, `val` or `test`. Raises SourceError for one that is nearly known; warns of another one."""
    encoded = pc.dictionary_encode(_strings(words))
    known: list[str | None] = []
    for word in encoded.dictionary.to_pylist():
        split = official_split(word) if word.strip() else None
        if word.strip() and split is None:
            if near := difflib.get_close_matches(word.strip().casefold(), SPLIT_WORDS, n=1, cutoff=0.75):
                raise SourceError(f"source {name}: official split {word!r} is unknown. Did you mean {near[0]!r}?")
            count = pc.sum(pc.equal(_strings(words), word)).as_py()
            log.warning(
                "source %s: official split %r of %d images is neither train, val nor test: they are drawn as if they "
                "had none",
                name,
                word,
                count,
            )
            split = word
        known.append(split)
    return pa.array(known, pa.string()).take(encoded.indices)


def prefixed(name: str, native_ids: Sequence[str] | pa.Array) -> pa.Array:
    """`<name>/<native id>` for each id. Native ids are opaque and keep whatever they hold, slashes included."""
    return pc.binary_join_element_wise(pa.scalar(name), _strings(native_ids), "/")


def labels_table(
    image_ids: pa.Array | pa.ChunkedArray,
    labels: Sequence[str],
    entries: np.ndarray,
    *,
    state: int | np.ndarray = PRESENT,
    confidence: float | np.ndarray = 1.0,
    origin: str,
) -> pa.Table:
    """LABELS rows of `entries`, int64 (rows,) = image position x C + class position, in that order."""
    rows, columns = np.divmod(entries, max(len(labels), 1))
    return pa.table(
        [
            _take(image_ids, rows),
            _take(pa.array(labels, pa.string()), columns),
            pa.array(np.broadcast_to(np.asarray(state, np.int8), entries.shape)),
            pa.array(np.broadcast_to(np.asarray(confidence, np.float32), entries.shape)),
            pa.repeat(pa.scalar(origin), len(entries)),
        ],
        schema=LABELS,
    )


def unknown_table(image_ids: pa.Array | pa.ChunkedArray, labels: Sequence[str], entries: np.ndarray) -> pa.Table:
    """UNKNOWN rows of `entries`, counted as in `labels_table`."""
    rows, columns = np.divmod(entries, max(len(labels), 1))
    return pa.table([_take(image_ids, rows), _take(pa.array(labels, pa.string()), columns)], schema=UNKNOWN)


def objects_table(
    image_ids: pa.Array | pa.ChunkedArray,
    labels: Sequence[str],
    images_O: np.ndarray,
    labels_O: np.ndarray,
    areas_O: np.ndarray,
) -> pa.Table:
    """OBJECTS of the objects whose area is known: not NaN, and positive."""
    known = areas_O > 0
    entries = images_O[known] * len(labels) + labels_O[known]
    order = np.argsort(entries)
    entries = entries[order]
    starts = np.flatnonzero(np.diff(entries, prepend=-1))
    largest = np.maximum.reduceat(areas_O[known][order], starts) if len(starts) else np.zeros(0)
    rows, columns = np.divmod(entries[starts], max(len(labels), 1))
    areas = pa.array(largest.astype(np.float32))
    return pa.table([_take(image_ids, rows), _take(pa.array(labels, pa.string()), columns), areas], schema=OBJECTS)


def _strings(values: Sequence[str | None] | pa.Array) -> pa.Array:
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    return values if isinstance(values, pa.Array) else pa.array(values, pa.string())


def _take(values: pa.Array | pa.ChunkedArray, positions: np.ndarray) -> pa.ChunkedArray:
    """values[positions] in chunks, as one Arrow string array holds at most 2 GiB of text."""
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    pieces = [positions[at : at + ROWS_A_CHUNK] for at in range(0, len(positions), ROWS_A_CHUNK)]
    return pa.chunked_array([values.take(pa.array(piece)) for piece in pieces], values.type)


def concat_sources(parts: Sequence[tuple[Path, RawSource]]) -> RawSource:
    """The sources of several annotation files as one. Raises SourceError when they share ids or differ in labels.

    The same labels in another order are the same; the first file's order stands.
    """
    first_path, first = parts[0]
    for path, part in parts[1:]:
        if odd := sorted(set(part.vocabulary.items()) ^ set(first.vocabulary.items())):
            raise SourceError(
                f"{path}: labels differ from those of {first_path}, e.g. {odd[0][0]!r}. "
                "List files with different labels as two sources."
            )
        if odd := sorted(set(part.coverage) ^ set(first.coverage)):
            raise SourceError(
                f"{path}: {odd[0]!r} is annotated exhaustively in one of it and {first_path}, not in the other. "
                "List the files as two sources."
            )
    images = pa.concat_tables([part.images for _, part in parts])
    if (twice := first_duplicate(images["image_id"].to_pylist())) is not None:
        raise SourceError(
            f"{', '.join(str(path) for path, _ in parts)}: image id {twice.split('/', 1)[1]!r} occurs twice. "
            "Set the option `identify_by: file_name` (COCO), or list files that each count from 1 as separate sources."
        )
    return RawSource(
        images=images,
        labels=pa.concat_tables([part.labels for _, part in parts]),
        coverage=first.coverage,
        vocabulary=first.vocabulary,
        unknown=pa.concat_tables([part.unknown for _, part in parts]),
        objects=pa.concat_tables([part.objects for _, part in parts]),
        num_in=[row for _, part in parts for row in part.num_in],
        dropped=[row for _, part in parts for row in part.dropped],
        notes=[line for _, part in parts for line in part.notes],
    )


# ---------------------------------------------------------------- objects -> (image, label) pairs


def state_of(choice: str, *, option: str) -> int:
    """What an option such as `difficult: unknown` makes of an object: 1, 0 or -1. Raises SourceError."""
    states = {"present": PRESENT, "absent": ABSENT, "unknown": UNKNOWN_STATE}
    if choice not in states:
        raise SourceError(f"option '{option}' is {choice!r}. {did_you_mean(str(choice), states)}")
    return states[choice]


@dataclass(frozen=True)
class ObjectPairs:
    """Objects collapsed to at most one state per (image, label). Entries: int64, sorted, image x C + label."""

    present: np.ndarray
    unknown: np.ndarray
    dropped: list[tuple[str, int, str]]  # ledger rows: objects that are no label row of their own


def collapse_objects(
    images_O: np.ndarray,
    labels_O: np.ndarray,
    states_O: np.ndarray,
    *,
    num_labels: int,
    reasons: Mapping[int, str] | None = None,
    why_O: np.ndarray | None = None,
) -> ObjectPairs:
    """One state per (image, label) from one row per object: present if any counts, else unknown if any makes it so.

    images_O, labels_O: int64 (O,), positions.  states_O: int8 (O,), 1 counts, 0 ignored, -1 makes the pair unknown.
    why_O, reasons: int (O,) code per object and the reason for each code, for the objects that do not count.
    len(present) plus the counts in `dropped` is O: no object disappears.
    """
    entries_O = images_O.astype(np.int64) * num_labels + labels_O
    counts = states_O == PRESENT
    present = sorted_distinct(entries_O[counts])
    unknown = np.setdiff1d(sorted_distinct(entries_O[states_O == UNKNOWN_STATE]), present, assume_unique=True)
    dropped = [("labels", int(counts.sum()) - len(present), "repeats a label of the same image")]
    for code, reason in (reasons or {}).items():
        dropped.append(("labels", int(np.count_nonzero(~counts & (why_O == code))), reason))
    assert len(present) + sum(count for _, count, _ in dropped) == len(entries_O), "an object without a reason"
    return ObjectPairs(present, unknown, [row for row in dropped if row[1]])


def sorted_distinct(values: np.ndarray) -> np.ndarray:
    """Distinct values in ascending order (numpy's own `unique` hashes integers, twenty times slower here)."""
    values = np.sort(values)
    first = np.ones(len(values), bool)
    np.not_equal(values[1:], values[:-1], out=first[1:])
    return values[first]


def first_duplicate(values: Sequence[Hashable]) -> Hashable | None:
    """The first value that occurs a second time, None when all differ."""
    if len(set(values)) == len(values):
        return None
    seen: set[Hashable] = set()
    return next(value for value in values if value in seen or seen.add(value))
