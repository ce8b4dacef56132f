"""Long label rows as integers: strings once each, five numbers a row.

R rows. At Open Images size (20 M rows) the strings of a LABELS table weigh over 1 GB and comparing them is most of the
work, so mapping and propagation run on codes and the strings come back at the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.core.compiled import njit
from tasks.core.tables import ORIGIN_RANK, origin_kind


@dataclass(frozen=True)
class CodedRows:
    """Rows of a LABELS table in codes; every array has shape (R,)."""

    image: np.ndarray  # int32, position in image_ids
    label: np.ndarray  # int32, position in labels; -1 for a row without meaning (cheaper than leaving it out)
    state: np.ndarray  # int8, 1 present, 0 absent
    confidence: np.ndarray  # float32, [0, 1]
    origin: np.ndarray  # int16, position in origins
    image_ids: pa.Array  # string, ascending
    labels: list[str]
    origins: list[str]  # in the order of ORIGIN_RANK, then by name

    def __len__(self) -> int:
        return len(self.image)

    def take(self, rows: np.ndarray) -> CodedRows:
        """The chosen rows; rows: bool (R,) or int positions."""
        chosen = {name: getattr(self, name)[rows] for name in ("image", "label", "state", "confidence", "origin")}
        return replace(self, **chosen)


def encode(rows: pa.Table, marked: pa.Table | None = None) -> tuple[CodedRows, np.ndarray]:
    """CodedRows of a LABELS table in its row order, and the codes of further pairs.

    marked: UNKNOWN table or None.  Returns the image and label codes of its rows as int32 (U, 2).
    """
    image, image_ids = _codes(rows, marked, "image_id")
    label, labels = _codes(rows, marked, "label")
    origin, origins = _codes(rows, None, "origin")
    origins = origins.to_pylist()
    ranked = sorted(origins, key=lambda o: (ORIGIN_RANK.index(k) if (k := origin_kind(o)) in ORIGIN_RANK else 99, o))
    num_rows = rows.num_rows
    coded = CodedRows(
        image=image[:num_rows],
        label=label[:num_rows],
        state=rows["state"].to_numpy().astype(np.int8, copy=False),
        confidence=rows["confidence"].to_numpy().astype(np.float32, copy=False),
        origin=gather(np.asarray([ranked.index(o) for o in origins], np.int16), origin),
        image_ids=image_ids,
        labels=labels.to_pylist(),
        origins=ranked,
    )
    return coded, np.stack([image[num_rows:], label[num_rows:]], axis=1)


def count(codes: np.ndarray, num_codes: int) -> np.ndarray:
    """How often each code occurs, int64 (num_codes,). numpy's own makes 64 bits of every code first."""
    return _count(read_only(codes), num_codes)


def gather(values: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """values[codes], for codes in range(len(values)); numpy's own makes 64 bits of every code first."""
    return _gather(read_only(values), read_only(codes))


def read_only(array: np.ndarray) -> np.ndarray:
    """A view that cannot be written, as arrays of Arrow are: compiled code is compiled again for the other kind."""
    view = np.ascontiguousarray(array).view()
    view.flags.writeable = False
    return view


@njit(nogil=True)
def _count(codes, num_codes):
    counts = np.zeros(num_codes, np.int64)
    for code in codes:
        counts[code] += 1
    return counts


@njit(nogil=True)
def _gather(values, codes):
    gathered = np.empty(len(codes), values.dtype)
    for k in range(len(codes)):
        gathered[k] = values[codes[k]]
    return gathered


def decode(image: np.ndarray, label: np.ndarray, image_ids: pa.Array, labels: Sequence[str]) -> dict[str, pa.Array]:
    """The columns image_id and label, dictionary-encoded."""
    return {
        "image_id": pa.DictionaryArray.from_arrays(pa.array(image, pa.int32()), image_ids),
        "label": pa.DictionaryArray.from_arrays(pa.array(label, pa.int32()), pa.array(labels, pa.string())),
    }


def label_table(rows: CodedRows) -> pa.Table:
    """The rows as a LABELS table whose text columns are dictionary-encoded."""
    columns = decode(rows.image, rows.label, rows.image_ids, rows.labels)
    origins = pa.array(rows.origins, pa.string())
    columns["state"] = pa.array(rows.state, pa.int8())
    columns["confidence"] = pa.array(rows.confidence, pa.float32())
    columns["origin"] = pa.DictionaryArray.from_arrays(pa.array(rows.origin, pa.int16()), origins)
    return pa.table(columns)


def _codes(rows: pa.Table, more: pa.Table | None, column: str) -> tuple[np.ndarray, pa.Array]:
    """int32 codes of a text column of both tables, and its values in ascending order (a row need not use them all)."""
    parts = [_distinct(c) for table in (rows, more) if table is not None for c in table[column].chunks if len(c)]
    if not parts:
        return np.zeros(0, np.int32), pa.array([], pa.string())
    if len(parts) == 1 and _ascending(parts[0][0]):  # a file ordered by image: nothing to look up
        values, codes = parts[0]
        return codes.astype(np.int32, copy=False), values
    # All chunks get the dictionary of the whole; unify_dictionaries() would compare them again, for minutes.
    encoded = pa.chunked_array([values for values, _ in parts], pa.string()).dictionary_encode()
    values = encoded.chunk(0).dictionary
    order = pc.sort_indices(values).to_numpy()
    rank = np.empty(len(order), np.int32)
    rank[order] = np.arange(len(order), dtype=np.int32)
    codes = [
        gather(gather(rank, chunk.indices.to_numpy()), rows)
        for chunk, (_, rows) in zip(encoded.chunks, parts, strict=True)
    ]
    return (np.concatenate(codes) if len(codes) > 1 else codes[0]), values.take(pa.array(order))


def _ascending(values: pa.Array) -> bool:
    """Whether the values stand in strictly ascending order, and so are distinct."""
    return bool(pc.all(pc.less(values[:-1], values[1:])).as_py() is not False)


def _distinct(column: pa.Array) -> tuple[pa.Array, np.ndarray]:
    """Values of a text column with fewer repeats, and the position among them of each row."""
    if pa.types.is_dictionary(column.type):
        return column.dictionary.cast(pa.string()), column.indices.to_numpy()
    # Rows of one image mostly stand together: hashing a run once is several times faster.
    runs = pc.run_end_encode(column.cast(pa.string()))
    lengths = np.diff(runs.run_ends.to_numpy(), prepend=np.int32(0))
    return runs.values, np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
