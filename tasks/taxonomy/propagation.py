"""Implications over long rows: positives up, verified negatives down, one row a cell, contradictions found.

R rows, C labels of the taxonomy. A *cell* is an (image, label). What decides its state, strongest first:

    1. its own rows, when they agree                           (listed if an implication says otherwise)
    2. implications, when they agree; but no implied absence settles a cell that someone marked unknown,
       or whose own rows disagree                              (listed)
    3. otherwise it is unknown: no row, and named in `unknown`, so that a source's coverage does not make it absent

Only a cell whose own rows agree implies others. Unknown flows up: where a kind of vehicle may be on the image, a
vehicle may be, unless something says present. Rows with a rule's origin are derived anew, so propagating twice changes
nothing. `closed` labels (tasks/taxonomy/taxonomy.py) are absent when all labels that imply them directly are.
"""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numba
import numpy as np
import pyarrow as pa

from tasks.core.tables import LABELS, conform
from tasks.taxonomy.coded_rows import RULES, Cells, count, decode, encode, gather, label_table, read_only
from tasks.taxonomy.taxonomy import Taxonomy

CONTRADICTION_KINDS = ("rows disagree", "row against implication", "implications disagree")

# What is known about a cell, as bits.
_PRESENT, _ABSENT, _IMPLIED_PRESENT, _IMPLIED_ABSENT, _MARKED_UNKNOWN, _CLOSED = 1, 2, 4, 8, 16, 32
_CELLS_PER_BLOCK = 4_000_000  # scratch is reserved for all cells of a block; small enough that it is reused


@dataclass(frozen=True)
class Propagated:
    """What `propagate` found."""

    labels: pa.Table  # LABELS columns, at most one row a cell, by image id, then in the order of the taxonomy
    unknown: pa.Table  # UNKNOWN
    contradictions: pa.Table  # image_id, label, kind (one of CONTRADICTION_KINDS)
    dropped: Counter[str]  # rows that went, by reason
    added: Counter[str]  # rows that came, by reason


def propagate(
    labels: pa.Table,
    taxonomy: Taxonomy,
    *,
    unknown: pa.Table | None = None,
    positives: bool = True,
    negatives: bool = True,
) -> Propagated:
    """Statements with all that follows from them.

    labels: LABELS in the taxonomy's ids, statements only (no proposals); several rows a cell are allowed.
    unknown: UNKNOWN of cells that are marked unknown.
    positives, negatives: whether presence flows to what a label implies, and absence to what implies it.
    Returns labels in the LABELS schema; rows in + added - dropped = rows out.
    """
    cells, marked = encode(labels, unknown)
    assert set(cells.labels) <= taxonomy.index.keys(), sorted(set(cells.labels) - taxonomy.index.keys())[:5]
    column = np.asarray([taxonomy.index[name] for name in cells.labels], np.int32)
    cells = replace(cells, label=gather(column, cells.label), labels=taxonomy.ids)
    marked[:, 1] = column[marked[:, 1]]
    found = propagate_cells(cells, marked, taxonomy, positives=positives, negatives=negatives)
    return replace(found, labels=conform(found.labels, LABELS, where="labels"))


def propagate_cells(
    cells: Cells, marked: np.ndarray, taxonomy: Taxonomy, *, positives: bool = True, negatives: bool = True
) -> Propagated:
    """`propagate` on codes; cells.labels are the taxonomy's ids. The tables' text columns stay dictionary-encoded."""
    by_rule = np.asarray([name in RULES for name in cells.origins], bool)
    num_by_rule = 0
    if by_rule.any():
        derived = by_rule[cells.origin] & (cells.label >= 0)
        num_by_rule = int(derived.sum())
        cells = replace(cells, label=np.where(derived, np.int32(-1), cells.label))
    num_stated = int((cells.label >= 0).sum())

    num_images, num_labels = len(cells.image_ids), len(taxonomy.ids)
    rows, row_starts = _group(cells.image, num_images)
    marked_image, marked_label = np.ascontiguousarray(marked.T)
    marks, mark_starts = _group(marked_image, num_images)
    columns = [read_only(column) for column in (cells.label, cells.state, cells.confidence, cells.origin)]
    graph = (
        *_adjacency(taxonomy, taxonomy.ancestors if positives else {}),
        *_adjacency(taxonomy, taxonomy.descendants if negatives else {}),
        *_adjacency(taxonomy, taxonomy.ancestors),  # unknown always flows up
        *_closed(taxonomy, negatives),
    )

    origins = [*cells.origins, *RULES]
    kinds = pa.array(CONTRADICTION_KINDS)
    images_a_block = max(1, _CELLS_PER_BLOCK // num_labels)

    def block(first: int) -> tuple[pa.Table, pa.Table, pa.Table, np.ndarray]:
        starts = slice(first, min(first + images_a_block, num_images) + 1)
        image, label, state, confidence, origin, unknown, contradictions, tally = _settle(
            row_starts[starts], rows, *columns,
            mark_starts[starts], marks, marked_label, num_labels, len(cells.origins), *graph,
        )  # fmt: skip
        # Each block has its own dictionary of image ids: chunks that are cast or joined cost no more than they hold.
        ids = cells.image_ids.slice(first, images_a_block)
        settled = Cells(image, label, state, confidence, origin, ids, taxonomy.ids, origins)
        clash = decode(contradictions[:, 0], contradictions[:, 1], ids, taxonomy.ids)
        clash["kind"] = pa.DictionaryArray.from_arrays(pa.array(contradictions[:, 2], pa.int8()), kinds)
        return label_table(settled), pa.table(decode(*unknown.T, ids, taxonomy.ids)), pa.table(clash), tally

    with ThreadPoolExecutor(2) as pool:  # the compiled part holds no lock
        blocks = list(pool.map(block, range(0, num_images, images_a_block) or [0]))
    labels, unknown, contradictions = (pa.concat_tables(parts) for parts in list(zip(*blocks, strict=True))[:3])
    num_kept, num_clashing, *num_ruled = np.sum([tally for *_, tally in blocks], axis=0).tolist()
    return Propagated(
        labels=labels,
        unknown=unknown,
        contradictions=contradictions,
        dropped=+Counter(
            {
                "says the same as another row": num_stated - num_kept - num_clashing,
                "present and absent at once": num_clashing,
                "derived by a rule; derived anew": num_by_rule,
            }
        ),
        added=+Counter(dict(zip(RULES, num_ruled, strict=True))),
    )


def _group(image: np.ndarray, num_images: int) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers ordered by image, int32 (R,), and where each image's begin, int64 (num_images + 1,)."""
    starts = np.zeros(num_images + 1, np.int64)
    np.cumsum(count(image, num_images), out=starts[1:])
    return _counting_sort(read_only(image), starts[:-1].copy()), starts


@numba.njit(cache=True, nogil=True)
def _counting_sort(image, next_slot):
    order = np.empty(len(image), np.int32)
    for row in range(len(image)):
        order[next_slot[image[row]]] = row
        next_slot[image[row]] += 1
    return order


def _adjacency(taxonomy: Taxonomy, reach: dict[str, frozenset[str]]) -> tuple[np.ndarray, np.ndarray]:
    """Columns that each column reaches: starts (C + 1,) and targets, int32."""
    targets = [sorted(taxonomy.index[other] for other in reach.get(label, ())) for label in taxonomy.ids]
    starts = np.cumsum([0, *map(len, targets)]).astype(np.int32)
    return starts, np.asarray([t for ts in targets for t in ts], np.int32)


def _closed(taxonomy: Taxonomy, wanted: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Closed columns, kinds before what they are kinds of; where the children of each begin; the children."""
    closed = [label for label in reversed(taxonomy.parents_first) if taxonomy[label].closed and wanted]
    children = [[taxonomy.index[child] for child in taxonomy.children[label]] for label in closed]
    starts = np.cumsum([0, *map(len, children)]).astype(np.int32)
    columns = np.asarray([taxonomy.index[label] for label in closed], np.int32)
    return columns, starts, np.asarray([c for cs in children for c in cs], np.int32)


@numba.njit(cache=True, nogil=True)
def _state_of(bits):
    """1 present, 0 absent, -1 unknown: the order of precedence in the module docstring."""
    own = bits & (_PRESENT | _ABSENT)
    if own == _PRESENT:
        return 1
    if own == _ABSENT:
        return 0
    implied = bits & (_IMPLIED_PRESENT | _IMPLIED_ABSENT)
    if implied == _IMPLIED_PRESENT:
        return 1
    if implied == _IMPLIED_ABSENT and own == 0 and not bits & _MARKED_UNKNOWN:
        return 0
    return -1


@numba.njit(cache=True, nogil=True)
def _contradiction(bits):
    """Position in CONTRADICTION_KINDS, -1 when the cell is at peace."""
    own = bits & (_PRESENT | _ABSENT)
    if own == _PRESENT | _ABSENT:
        return 0
    if (own == _PRESENT and bits & _IMPLIED_ABSENT) or (own == _ABSENT and bits & _IMPLIED_PRESENT):
        return 1
    if own == 0 and bits & _IMPLIED_PRESENT and bits & _IMPLIED_ABSENT:
        return 2
    return -1


@numba.njit(cache=True, nogil=True)
def _add(c, bit, bits, touched, num_touched):
    """Note `bit` for cell c of the current image; returns how many of its cells are touched."""
    if bits[c] == 0:
        touched[num_touched] = c
        num_touched += 1
    bits[c] |= bit
    return num_touched


@numba.njit(cache=True, nogil=True)
def _sort(values):
    """In place. Few values, mostly in order already, are sorted faster by insertion."""
    if len(values) > 64:
        values.sort()
        return
    for k in range(1, len(values)):
        value, slot = values[k], k
        while slot > 0 and values[slot - 1] > value:
            values[slot] = values[slot - 1]
            slot -= 1
        values[slot] = value


@numba.njit(cache=True, nogil=True)
def _settle(
    row_starts, rows, label, state, confidence, origin, mark_starts, marks, marked_label,
    num_labels, num_origins,
    up_starts, up, down_starts, down, doubt_starts, doubt, closed, child_starts, children,
):  # fmt: skip
    """Settle the cells of a block of images; see the module docstring for the rules.

    row_starts, mark_starts: (images of the block + 1,) into rows and marks. Images are counted within the block.
    Returns image, label, state, confidence, origin of the rows that stay; (image, label) of unknown cells;
    (image, label, kind) of contradictions; and how many rows stay as they are, contradict each other, and come from
    each of RULES.
    """
    num_images = len(row_starts) - 1
    capacity = num_images * num_labels
    out_image = np.empty(capacity, np.int32)
    out_label = np.empty(capacity, np.int32)
    out_state = np.empty(capacity, np.int8)
    out_confidence = np.empty(capacity, np.float32)
    out_origin = np.empty(capacity, np.int16)
    unknown = np.empty((capacity, 2), np.int32)
    contradictions = np.empty((capacity, 3), np.int32)
    num_out = num_unknown = num_contradictions = num_kept = num_clashing = num_closed = 0

    bits = np.zeros(num_labels, np.uint8)
    touched = np.empty(num_labels, np.int32)
    best = np.empty((2, num_labels), np.int64)  # most confident row of each state, then the most trusted
    num_rows = np.zeros(num_labels, np.int64)
    implied_confidence = np.zeros((2, num_labels), np.float32)

    for i in range(num_images):
        n = 0
        for k in range(row_starts[i], row_starts[i + 1]):
            r = rows[k]
            c, s = label[r], state[r]
            if c < 0:
                continue
            bit = _PRESENT if s == 1 else _ABSENT
            if not bits[c] & bit:
                best[s, c] = r
            else:
                b = best[s, c]
                if confidence[r] > confidence[b] or (confidence[r] == confidence[b] and origin[r] < origin[b]):
                    best[s, c] = r
            num_rows[c] += 1
            n = _add(c, bit, bits, touched, n)
        for k in range(mark_starts[i], mark_starts[i + 1]):
            n = _add(marked_label[marks[k]], _MARKED_UNKNOWN, bits, touched, n)

        for k in range(n):  # n is read once: cells added below imply nothing themselves, the closure is complete
            c = touched[k]
            own = bits[c] & (_PRESENT | _ABSENT)
            if own == _PRESENT:
                for e in range(up_starts[c], up_starts[c + 1]):
                    t = up[e]
                    n = _add(t, _IMPLIED_PRESENT, bits, touched, n)
                    implied_confidence[1, t] = max(implied_confidence[1, t], confidence[best[1, c]])
            elif own == _ABSENT:
                for e in range(down_starts[c], down_starts[c + 1]):
                    t = down[e]
                    n = _add(t, _IMPLIED_ABSENT, bits, touched, n)
                    implied_confidence[0, t] = max(implied_confidence[0, t], confidence[best[0, c]])
            else:
                for e in range(doubt_starts[c], doubt_starts[c + 1]):
                    t = doubt[e]
                    n = _add(t, _MARKED_UNKNOWN, bits, touched, n)
        for k in range(len(closed)):
            all_absent = n > 0
            least = np.float32(1)
            for c in children[child_starts[k] : child_starts[k + 1]]:
                if bits[c] == 0 or _state_of(bits[c]) != 0:
                    all_absent = False
                    break
                own_row = bits[c] & _ABSENT
                least = min(least, confidence[best[0, c]] if own_row else implied_confidence[0, c])
            if all_absent:
                c = closed[k]
                by_rule = _IMPLIED_ABSENT if bits[c] & _IMPLIED_ABSENT else _IMPLIED_ABSENT | _CLOSED
                n = _add(c, by_rule, bits, touched, n)
                implied_confidence[0, c] = max(implied_confidence[0, c], least)

        _sort(touched[:n])
        for k in range(n):
            c = touched[k]
            b, s = bits[c], _state_of(bits[c])
            own = b & (_PRESENT | _ABSENT)
            if own == _PRESENT | _ABSENT:
                num_clashing += num_rows[c]
            if s < 0:
                unknown[num_unknown, 0], unknown[num_unknown, 1] = i, c
                num_unknown += 1
            else:
                out_image[num_out], out_label[num_out], out_state[num_out] = i, c, s
                if own in (_PRESENT, _ABSENT):
                    out_confidence[num_out], out_origin[num_out] = confidence[best[s, c]], origin[best[s, c]]
                    num_kept += 1
                else:
                    by_closed = 1 if b & _CLOSED else 0
                    out_confidence[num_out], out_origin[num_out] = implied_confidence[s, c], num_origins + by_closed
                    num_closed += by_closed
                num_out += 1
            kind = _contradiction(b)
            if kind >= 0:
                contradictions[num_contradictions, 0] = i
                contradictions[num_contradictions, 1] = c
                contradictions[num_contradictions, 2] = kind
                num_contradictions += 1
            bits[c], num_rows[c] = 0, 0
            implied_confidence[0, c] = implied_confidence[1, c] = 0

    return (
        out_image[:num_out].copy(), out_label[:num_out].copy(), out_state[:num_out].copy(),
        out_confidence[:num_out].copy(), out_origin[:num_out].copy(),
        unknown[:num_unknown].copy(), contradictions[:num_contradictions].copy(),
        np.array([num_kept, num_clashing, num_out - num_kept - num_closed, num_closed]),
    )  # fmt: skip
