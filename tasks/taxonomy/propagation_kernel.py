"""The compiled part of `propagation.py`, whose docstring states the rules: arrays in, arrays out.

R rows, C labels. A few images at a time: evidence about their pairs is collected as bits (`_read_rows`, `_read_marks`,
`_follow_edges`, `_follow_exhaustive_children`), then written out (`_write`).
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np

from tasks.core.tables import ABSENT, PRESENT, UNKNOWN_STATE

CONTRADICTION_KINDS = ("rows disagree", "row against implication", "implications disagree")

# Evidence about a pair, as bits.
_PRESENT, _ABSENT, _IMPLIED_PRESENT, _IMPLIED_ABSENT, _MARKED_UNKNOWN, _BY_CHILDREN = 1, 2, 4, 8, 16, 32
_OWN = _PRESENT | _ABSENT
_IMAGES_AT_ONCE = 4  # handing a tuple of arrays to a compiled function costs as much as the work on one image


class Rows(NamedTuple):
    """Label rows; those of image i are order[starts[i] : starts[i + 1]]."""

    order: np.ndarray  # int32 (R,)
    starts: np.ndarray  # int64 (images of the batch + 1,)
    label: np.ndarray  # (R,) each, as in CodedRows
    state: np.ndarray
    confidence: np.ndarray
    origin: np.ndarray


class Marks(NamedTuple):
    """Pairs that are marked unknown, by image as in `Rows`."""

    order: np.ndarray
    starts: np.ndarray
    label: np.ndarray


class Edges(NamedTuple):
    """A graph between columns: c reaches targets[starts[c] : starts[c + 1]]; int32."""

    starts: np.ndarray
    targets: np.ndarray


class Graph(NamedTuple):
    """What follows from what.

    exhaustive: int32, columns of labels with exhaustive children, descendants first; `children` of exhaustive[k] at k.
    """

    presence: Edges
    absence: Edges
    unknown: Edges
    exhaustive: np.ndarray
    children: Edges


class _Evidence(NamedTuple):
    """What is known of the labels of K images at hand; cleared after them."""

    bits: np.ndarray  # uint8 (K, C)
    touched: np.ndarray  # int32 (K, C), columns with any bit
    num_touched: np.ndarray  # int64 (K,), how many of them are in use
    best: np.ndarray  # int64 (2, K, C), the row that stays for each state: the surest, then the most trusted
    num_rows: np.ndarray  # int64 (K, C)
    implied_confidence: np.ndarray  # float32 (2, K, C), of each state


class Resolved(NamedTuple):
    """Rows that stay, unknown pairs (image, label), and contradictions (image, label, kind, rows); by image, label."""

    image: np.ndarray
    label: np.ndarray
    state: np.ndarray
    confidence: np.ndarray
    origin: np.ndarray
    unknown: np.ndarray
    contradictions: np.ndarray


@numba.njit(cache=True, nogil=True)
def counting_sort(image, next_slot):
    order = np.empty(len(image), np.int32)
    for row in range(len(image)):
        order[next_slot[image[row]]] = row
        next_slot[image[row]] += 1
    return order


@numba.njit(cache=True, nogil=True)
def resolve(rows, marks, graph, num_labels, num_origins):
    """`Resolved` of a batch of images, counted within the batch, by the rules of `propagation.py`."""
    num_images = len(rows.starts) - 1
    resolved = _buffers(num_images * num_labels)
    evidence = _Evidence(
        np.zeros((_IMAGES_AT_ONCE, num_labels), np.uint8),
        np.empty((_IMAGES_AT_ONCE, num_labels), np.int32),
        np.zeros(_IMAGES_AT_ONCE, np.int64),
        np.empty((2, _IMAGES_AT_ONCE, num_labels), np.int64),
        np.zeros((_IMAGES_AT_ONCE, num_labels), np.int64),
        np.zeros((2, _IMAGES_AT_ONCE, num_labels), np.float32),
    )
    num_out = num_unknown = num_contradictions = 0
    for first in range(0, num_images, _IMAGES_AT_ONCE):
        num = min(_IMAGES_AT_ONCE, num_images - first)
        _read_rows(first, num, rows, evidence)
        _read_marks(first, num, marks, evidence)
        _follow_edges(num, rows.confidence, graph, evidence)
        _follow_exhaustive_children(num, rows.confidence, graph, evidence)
        for i in range(num):
            _sort(evidence.touched[i, : evidence.num_touched[i]])
        num_out, num_unknown, num_contradictions = _write(
            first, num, rows, evidence, num_origins, resolved, num_out, num_unknown, num_contradictions
        )
        _clear(num, evidence)
    return Resolved(
        resolved.image[:num_out].copy(),
        resolved.label[:num_out].copy(),
        resolved.state[:num_out].copy(),
        resolved.confidence[:num_out].copy(),
        resolved.origin[:num_out].copy(),
        resolved.unknown[:num_unknown].copy(),
        resolved.contradictions[:num_contradictions].copy(),
    )


@numba.njit(cache=True, nogil=True)
def _buffers(num_pairs):
    return Resolved(
        np.empty(num_pairs, np.int32),
        np.empty(num_pairs, np.int32),
        np.empty(num_pairs, np.int8),
        np.empty(num_pairs, np.float32),
        np.empty(num_pairs, np.int16),
        np.empty((num_pairs, 2), np.int32),
        np.empty((num_pairs, 4), np.int32),
    )


@numba.njit(cache=True, nogil=True)
def _add(i, c, bit, bits, touched, n):
    """Set `bit` of column c of the i-th image at hand; returns how many of its columns are touched."""
    if bits[i, c] == 0:
        touched[i, n] = c
        n += 1
    bits[i, c] |= bit
    return n


@numba.njit(cache=True, nogil=True)
def _read_rows(first, num, rows, evidence):
    """Evidence of the images' own rows."""
    bits, touched, best = evidence.bits, evidence.touched, evidence.best
    for i in range(num):
        n = 0
        for k in range(rows.starts[first + i], rows.starts[first + i + 1]):
            row = rows.order[k]
            c, state = rows.label[row], rows.state[row]
            if c < 0:
                continue
            bit = _PRESENT if state == PRESENT else _ABSENT
            if not bits[i, c] & bit or _precedes(row, best[state, i, c], rows.confidence, rows.origin):
                best[state, i, c] = row
            evidence.num_rows[i, c] += 1
            n = _add(i, c, bit, bits, touched, n)
        evidence.num_touched[i] = n


@numba.njit(cache=True, nogil=True)
def _precedes(row, other, confidence, origin):
    """Whether `row` is surer than `other`, or as sure and of a more trusted origin."""
    if confidence[row] == confidence[other]:
        return origin[row] < origin[other]
    return confidence[row] > confidence[other]


@numba.njit(cache=True, nogil=True)
def _read_marks(first, num, marks, evidence):
    """Evidence of the pairs that are marked unknown."""
    for i in range(num):
        n = evidence.num_touched[i]
        for k in range(marks.starts[first + i], marks.starts[first + i + 1]):
            n = _add(i, marks.label[marks.order[k]], _MARKED_UNKNOWN, evidence.bits, evidence.touched, n)
        evidence.num_touched[i] = n


@numba.njit(cache=True, nogil=True)
def _follow_edges(num, confidence, graph, evidence):
    """What the pairs touched so far imply. Edges lead to all that follows, so what is added implies nothing more."""
    bits, touched, best, implied = evidence.bits, evidence.touched, evidence.best, evidence.implied_confidence
    for i in range(num):
        n = evidence.num_touched[i]
        for k in range(n):  # n is read once
            c = touched[i, k]
            own = bits[i, c] & _OWN
            if own == _PRESENT:
                sure = confidence[best[PRESENT, i, c]]
                for e in range(graph.presence.starts[c], graph.presence.starts[c + 1]):
                    target = graph.presence.targets[e]
                    n = _add(i, target, _IMPLIED_PRESENT, bits, touched, n)
                    implied[PRESENT, i, target] = max(implied[PRESENT, i, target], sure)
            elif own == _ABSENT:
                sure = confidence[best[ABSENT, i, c]]
                for e in range(graph.absence.starts[c], graph.absence.starts[c + 1]):
                    target = graph.absence.targets[e]
                    n = _add(i, target, _IMPLIED_ABSENT, bits, touched, n)
                    implied[ABSENT, i, target] = max(implied[ABSENT, i, target], sure)
            else:
                for e in range(graph.unknown.starts[c], graph.unknown.starts[c + 1]):
                    n = _add(i, graph.unknown.targets[e], _MARKED_UNKNOWN, bits, touched, n)
        evidence.num_touched[i] = n


@numba.njit(cache=True, nogil=True)
def _follow_exhaustive_children(num, confidence, graph, evidence):
    """Labels whose exhaustive children are all absent are absent, as sure as the least sure child."""
    bits, best, implied = evidence.bits, evidence.best, evidence.implied_confidence
    for i in range(num):
        n = evidence.num_touched[i]
        for k in range(len(graph.exhaustive)):
            all_absent = True
            least = np.float32(1)
            for e in range(graph.children.starts[k], graph.children.starts[k + 1]):
                child = graph.children.targets[e]
                if _state_of(bits[i, child]) != ABSENT:
                    all_absent = False
                    break
                by_row = bits[i, child] & _ABSENT
                least = min(least, confidence[best[ABSENT, i, child]] if by_row else implied[ABSENT, i, child])
            if all_absent:
                c = graph.exhaustive[k]
                bit = _IMPLIED_ABSENT if bits[i, c] & _IMPLIED_ABSENT else _IMPLIED_ABSENT | _BY_CHILDREN
                n = _add(i, c, bit, bits, evidence.touched, n)
                implied[ABSENT, i, c] = max(implied[ABSENT, i, c], least)
        evidence.num_touched[i] = n


@numba.njit(cache=True, nogil=True)
def _state_of(bits):
    """1 present, 0 absent, -1 unknown: the order of precedence in the module docstring."""
    own = bits & _OWN
    if own == _PRESENT:
        return PRESENT
    if own == _ABSENT:
        return ABSENT
    implied = bits & (_IMPLIED_PRESENT | _IMPLIED_ABSENT)
    if implied == _IMPLIED_PRESENT:
        return PRESENT
    if implied == _IMPLIED_ABSENT and own == 0 and not bits & _MARKED_UNKNOWN:
        return ABSENT
    return UNKNOWN_STATE


@numba.njit(cache=True, nogil=True)
def _contradiction(bits):
    """Position in CONTRADICTION_KINDS, -1 when nothing contradicts."""
    own = bits & _OWN
    if own == _OWN:
        return 0
    if (own == _PRESENT and bits & _IMPLIED_ABSENT) or (own == _ABSENT and bits & _IMPLIED_PRESENT):
        return 1
    if own == 0 and bits & _IMPLIED_PRESENT and bits & _IMPLIED_ABSENT:
        return 2
    return -1


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
def _write(first, num, rows, evidence, num_origins, resolved, num_out, num_unknown, num_contradictions):
    """A row for each known pair, its best one or one that a rule makes; the unknown pairs; the contradictions.

    num_out, num_unknown, num_contradictions: how many are written so far; returned as they are after these images.
    """
    bits, best, implied = evidence.bits, evidence.best, evidence.implied_confidence
    for i in range(num):
        for k in range(evidence.num_touched[i]):
            c = evidence.touched[i, k]
            own, state, kind = bits[i, c] & _OWN, _state_of(bits[i, c]), _contradiction(bits[i, c])
            if state == UNKNOWN_STATE:
                resolved.unknown[num_unknown, 0], resolved.unknown[num_unknown, 1] = first + i, c
                num_unknown += 1
            else:
                resolved.image[num_out], resolved.label[num_out], resolved.state[num_out] = first + i, c, state
                if own in (_PRESENT, _ABSENT):
                    row = best[state, i, c]
                    resolved.confidence[num_out], resolved.origin[num_out] = rows.confidence[row], rows.origin[row]
                else:
                    rule = 1 if bits[i, c] & _BY_CHILDREN else 0  # position in RULES, whose origins follow the rows'
                    resolved.confidence[num_out], resolved.origin[num_out] = implied[state, i, c], num_origins + rule
                num_out += 1
            if kind >= 0:
                resolved.contradictions[num_contradictions, 0] = first + i
                resolved.contradictions[num_contradictions, 1] = c
                resolved.contradictions[num_contradictions, 2] = kind
                resolved.contradictions[num_contradictions, 3] = evidence.num_rows[i, c]
                num_contradictions += 1
    return num_out, num_unknown, num_contradictions


@numba.njit(cache=True, nogil=True)
def _clear(num, evidence):
    for i in range(num):
        for k in range(evidence.num_touched[i]):
            c = evidence.touched[i, k]
            evidence.bits[i, c], evidence.num_rows[i, c] = 0, 0
            evidence.implied_confidence[PRESENT, i, c] = evidence.implied_confidence[ABSENT, i, c] = 0
        evidence.num_touched[i] = 0
