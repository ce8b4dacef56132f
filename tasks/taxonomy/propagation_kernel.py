"""The compiled part of `propagation.py`, whose docstring states the rules: arrays in, arrays out.

R rows, C labels. Image by image: evidence about its pairs is collected as bits (`_read_rows`, `_read_marks`,
`_follow_edges`, `_follow_exhaustive_children`), then written out (`_write_contradictions`, `_write_states`). n counts
the columns of which an image has evidence. The tuples of arrays are passed once an image, not once a pair: that would
double the time.
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
    """What speaks for and against the labels of the image at hand; cleared after each image."""

    bits: np.ndarray  # uint8 (C,)
    touched: np.ndarray  # int32 (C,), columns with any bit, of which the first n are in use
    best: np.ndarray  # int64 (2, C), the row that stays for each state: the surest, then the most trusted
    num_rows: np.ndarray  # int64 (C,)
    implied_confidence: np.ndarray  # float32 (2, C), of each state


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
    """`Resolved` of a batch of images, counted within the batch, by the rules of the module docstring."""
    num_images = len(rows.starts) - 1
    resolved = _buffers(num_images * num_labels)
    evidence = _Evidence(
        np.zeros(num_labels, np.uint8),
        np.empty(num_labels, np.int32),
        np.empty((2, num_labels), np.int64),
        np.zeros(num_labels, np.int64),
        np.zeros((2, num_labels), np.float32),
    )
    num_out = num_unknown = num_contradictions = 0
    for image in range(num_images):
        n = _read_rows(image, rows, evidence)
        n = _read_marks(image, marks, evidence, n)
        n = _follow_edges(rows.confidence, graph, evidence, n)
        n = _follow_exhaustive_children(rows.confidence, graph, evidence, n)
        _sort(evidence.touched[:n])
        num_contradictions = _write_contradictions(image, evidence, n, resolved.contradictions, num_contradictions)
        num_out, num_unknown = _write_states(image, rows, evidence, n, num_origins, resolved, num_out, num_unknown)
        _clear(evidence, n)
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
def _add(c, bit, bits, touched, n):
    """Set `bit` of column c; returns how many columns are touched."""
    if bits[c] == 0:
        touched[n] = c
        n += 1
    bits[c] |= bit
    return n


@numba.njit(cache=True, nogil=True)
def _read_rows(image, rows, evidence):
    """Evidence of the image's own rows; returns how many columns are touched."""
    bits, touched, best = evidence.bits, evidence.touched, evidence.best
    n = 0
    for k in range(rows.starts[image], rows.starts[image + 1]):
        row = rows.order[k]
        c, state = rows.label[row], rows.state[row]
        if c < 0:
            continue
        bit = _PRESENT if state == PRESENT else _ABSENT
        if not bits[c] & bit or _precedes(row, best[state, c], rows.confidence, rows.origin):
            best[state, c] = row
        evidence.num_rows[c] += 1
        n = _add(c, bit, bits, touched, n)
    return n


@numba.njit(cache=True, nogil=True)
def _precedes(row, other, confidence, origin):
    """Whether `row` is surer than `other`, or as sure and of a more trusted origin."""
    if confidence[row] == confidence[other]:
        return origin[row] < origin[other]
    return confidence[row] > confidence[other]


@numba.njit(cache=True, nogil=True)
def _read_marks(image, marks, evidence, n):
    """Evidence of the pairs that are marked unknown."""
    for k in range(marks.starts[image], marks.starts[image + 1]):
        n = _add(marks.label[marks.order[k]], _MARKED_UNKNOWN, evidence.bits, evidence.touched, n)
    return n


@numba.njit(cache=True, nogil=True)
def _follow_edges(confidence, graph, evidence, n):
    """What the pairs touched so far imply. Edges lead to all that follows, so what is added implies nothing more."""
    bits, touched, best, implied = evidence.bits, evidence.touched, evidence.best, evidence.implied_confidence
    for k in range(n):  # n is read once
        c = touched[k]
        own = bits[c] & _OWN
        if own == _PRESENT:
            sure = confidence[best[PRESENT, c]]
            for e in range(graph.presence.starts[c], graph.presence.starts[c + 1]):
                target = graph.presence.targets[e]
                n = _add(target, _IMPLIED_PRESENT, bits, touched, n)
                implied[PRESENT, target] = max(implied[PRESENT, target], sure)
        elif own == _ABSENT:
            sure = confidence[best[ABSENT, c]]
            for e in range(graph.absence.starts[c], graph.absence.starts[c + 1]):
                target = graph.absence.targets[e]
                n = _add(target, _IMPLIED_ABSENT, bits, touched, n)
                implied[ABSENT, target] = max(implied[ABSENT, target], sure)
        else:
            for e in range(graph.unknown.starts[c], graph.unknown.starts[c + 1]):
                n = _add(graph.unknown.targets[e], _MARKED_UNKNOWN, bits, touched, n)
    return n


@numba.njit(cache=True, nogil=True)
def _follow_exhaustive_children(confidence, graph, evidence, n):
    """Labels whose exhaustive children are all absent are absent, as sure as the least sure child."""
    if n == 0:
        return n
    bits, best, implied = evidence.bits, evidence.best, evidence.implied_confidence
    for k in range(len(graph.exhaustive)):
        all_absent = True
        least = np.float32(1)
        for e in range(graph.children.starts[k], graph.children.starts[k + 1]):
            child = graph.children.targets[e]
            if bits[child] == 0 or _state_of(bits[child]) != ABSENT:
                all_absent = False
                break
            sure = confidence[best[ABSENT, child]] if bits[child] & _ABSENT else implied[ABSENT, child]
            least = min(least, sure)
        if all_absent:
            c = graph.exhaustive[k]
            bit = _IMPLIED_ABSENT if bits[c] & _IMPLIED_ABSENT else _IMPLIED_ABSENT | _BY_CHILDREN
            n = _add(c, bit, bits, evidence.touched, n)
            implied[ABSENT, c] = max(implied[ABSENT, c], least)
    return n


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
def _write_contradictions(image, evidence, n, contradictions, num_contradictions):
    """Returns how many contradictions are written so far."""
    bits, touched, num_rows = evidence.bits, evidence.touched, evidence.num_rows
    for k in range(n):
        c = touched[k]
        kind = _contradiction(bits[c])
        if kind >= 0:
            contradictions[num_contradictions, 0] = image
            contradictions[num_contradictions, 1] = c
            contradictions[num_contradictions, 2] = kind
            contradictions[num_contradictions, 3] = num_rows[c]
            num_contradictions += 1
    return num_contradictions


@numba.njit(cache=True, nogil=True)
def _write_states(image, rows, evidence, n, num_origins, resolved, num_out, num_unknown):
    """A row for each known pair: its best one, or one that a rule makes; returns how many known and unknown so far."""
    bits, touched, best, implied = evidence.bits, evidence.touched, evidence.best, evidence.implied_confidence
    for k in range(n):
        c = touched[k]
        state = _state_of(bits[c])
        if state == UNKNOWN_STATE:
            resolved.unknown[num_unknown, 0], resolved.unknown[num_unknown, 1] = image, c
            num_unknown += 1
            continue
        resolved.image[num_out], resolved.label[num_out], resolved.state[num_out] = image, c, state
        if bits[c] & _OWN in (_PRESENT, _ABSENT):
            row = best[state, c]
            resolved.confidence[num_out], resolved.origin[num_out] = rows.confidence[row], rows.origin[row]
        else:
            rule = 1 if bits[c] & _BY_CHILDREN else 0  # position in RULES, whose origins follow those of the rows
            resolved.confidence[num_out], resolved.origin[num_out] = implied[state, c], num_origins + rule
        num_out += 1
    return num_out, num_unknown


@numba.njit(cache=True, nogil=True)
def _clear(evidence, n):
    for k in range(n):
        c = evidence.touched[k]
        evidence.bits[c], evidence.num_rows[c] = 0, 0
        evidence.implied_confidence[0, c] = evidence.implied_confidence[1, c] = 0
