"""The compiled part of `propagation.py`, whose docstring states the rules: arrays in, arrays out.

R rows, C labels. Image by image: evidence about its pairs is collected as bits (`_read_rows`, `_read_marks`, `_imply`,
`_pass_unknown_on`, `_deny_by_children`), then `resolve` writes out the states that follow. The evidence, where n counts
the columns of which the image has any:

    bits        uint8 (C,), the evidence
    touched     int32 (C,), the columns with any, of which the first n are in use
    best        int64 (2, C), the row that stays for each state: the surest, then the most trusted
    num_rows    int64 (C,)
    implied     float32 (2, C), confidence of each implied state

Inside the loop over images arrays are handed over one by one: those in a tuple would have their references counted for
every image, which takes a quarter more time.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tasks.core.compiled import njit
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


class Resolved(NamedTuple):
    """Rows that stay, unknown pairs (image, label), and contradictions (image, label, kind, rows); by image, label."""

    image: np.ndarray
    label: np.ndarray
    state: np.ndarray
    confidence: np.ndarray
    origin: np.ndarray
    unknown: np.ndarray
    contradictions: np.ndarray


@njit(nogil=True)
def counting_sort(image, next_slot):
    order = np.empty(len(image), np.int32)
    for row in range(len(image)):
        order[next_slot[image[row]]] = row
        next_slot[image[row]] += 1
    return order


@njit(nogil=True)
def resolve(rows, marks, graph, num_labels, num_origins):
    """`Resolved` of a batch of images, counted within the batch, by the rules of `propagation.py`."""
    order, starts, label, state, confidence, origin = rows
    mark_order, mark_starts, marked_label = marks
    presence, absence, unknown_edges, exhaustive, children = graph
    presence_starts, presence_targets = presence
    absence_starts, absence_targets = absence
    unknown_starts, unknown_targets = unknown_edges
    child_starts, child = children
    bits = np.zeros(num_labels, np.uint8)
    touched = np.empty(num_labels, np.int32)
    best = np.empty((2, num_labels), np.int64)
    num_rows = np.zeros(num_labels, np.int64)
    implied = np.zeros((2, num_labels), np.float32)

    num_images = len(starts) - 1
    out_image, out_label, out_state, out_confidence, out_origin, unknown, contradictions = _buffers(
        num_images * num_labels
    )
    num_out = num_unknown = num_contradictions = 0
    for image in range(num_images):
        own = order[starts[image] : starts[image + 1]]
        n = _read_rows(own, label, state, confidence, origin, bits, touched, best, num_rows)
        n = _read_marks(mark_order[mark_starts[image] : mark_starts[image + 1]], marked_label, bits, touched, n)
        # Edges lead to all that follows, so only the columns touched so far imply others.
        m = n
        n = _imply(PRESENT, presence_starts, presence_targets, m, n, confidence, bits, touched, best, implied)
        n = _imply(ABSENT, absence_starts, absence_targets, m, n, confidence, bits, touched, best, implied)
        n = _pass_unknown_on(unknown_starts, unknown_targets, m, n, bits, touched)
        if n > 0:
            n = _deny_by_children(exhaustive, child_starts, child, n, confidence, bits, touched, best, implied)
        _sort(touched[:n])
        for k in range(n):
            c = touched[k]
            s = _state_of(bits[c])
            if s == UNKNOWN_STATE:
                unknown[num_unknown, 0], unknown[num_unknown, 1] = image, c
                num_unknown += 1
            else:
                out_image[num_out], out_label[num_out], out_state[num_out] = image, c, s
                if bits[c] & _OWN in (_PRESENT, _ABSENT):
                    out_confidence[num_out], out_origin[num_out] = confidence[best[s, c]], origin[best[s, c]]
                else:
                    rule = 1 if bits[c] & _BY_CHILDREN else 0  # position in RULES, whose origins follow the rows'
                    out_confidence[num_out], out_origin[num_out] = implied[s, c], num_origins + rule
                num_out += 1
            kind = _contradiction(bits[c])
            if kind >= 0:
                contradictions[num_contradictions, 0], contradictions[num_contradictions, 1] = image, c
                contradictions[num_contradictions, 2], contradictions[num_contradictions, 3] = kind, num_rows[c]
                num_contradictions += 1
            bits[c], num_rows[c] = 0, 0
            implied[PRESENT, c] = implied[ABSENT, c] = 0
    return Resolved(
        out_image[:num_out].copy(),
        out_label[:num_out].copy(),
        out_state[:num_out].copy(),
        out_confidence[:num_out].copy(),
        out_origin[:num_out].copy(),
        unknown[:num_unknown].copy(),
        contradictions[:num_contradictions].copy(),
    )


@njit(nogil=True)
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


@njit(nogil=True, forceinline=True)
def _add(c, bit, bits, touched, n):
    """Set `bit` of column c; returns how many columns are touched."""
    if bits[c] == 0:
        touched[n] = c
        n += 1
    bits[c] |= bit
    return n


@njit(nogil=True, forceinline=True)
def _read_rows(own, label, state, confidence, origin, bits, touched, best, num_rows):
    """Evidence of the image's rows, whose numbers are `own`; returns how many columns are touched."""
    n = 0
    for row in own:
        c, s = label[row], state[row]
        if c < 0:
            continue
        bit = _PRESENT if s == PRESENT else _ABSENT
        if not bits[c] & bit or _precedes(row, best[s, c], confidence, origin):
            best[s, c] = row
        num_rows[c] += 1
        n = _add(c, bit, bits, touched, n)
    return n


@njit(nogil=True, forceinline=True)
def _precedes(row, other, confidence, origin):
    """Whether `row` is surer than `other`, or as sure and of a more trusted origin."""
    if confidence[row] == confidence[other]:
        return origin[row] < origin[other]
    return confidence[row] > confidence[other]


@njit(nogil=True, forceinline=True)
def _read_marks(own, label, bits, touched, n):
    """Evidence of the image's pairs that are marked unknown."""
    for mark in own:
        n = _add(label[mark], _MARKED_UNKNOWN, bits, touched, n)
    return n


@njit(nogil=True, forceinline=True)
def _imply(state, starts, targets, m, n, confidence, bits, touched, best, implied):
    """What follows where the own rows of the first m touched columns agree on `state`, as sure as the best of them."""
    own = _PRESENT if state == PRESENT else _ABSENT
    bit = _IMPLIED_PRESENT if state == PRESENT else _IMPLIED_ABSENT
    for k in range(m):
        c = touched[k]
        if bits[c] & _OWN == own:
            sure = confidence[best[state, c]]
            for e in range(starts[c], starts[c + 1]):
                n = _add(targets[e], bit, bits, touched, n)
                implied[state, targets[e]] = max(implied[state, targets[e]], sure)
    return n


@njit(nogil=True, forceinline=True)
def _pass_unknown_on(starts, targets, m, n, bits, touched):
    """What else is unknown where one of the first m touched columns has no row, or rows that disagree."""
    for k in range(m):
        c = touched[k]
        if bits[c] & _OWN not in (_PRESENT, _ABSENT):
            for e in range(starts[c], starts[c + 1]):
                n = _add(targets[e], _MARKED_UNKNOWN, bits, touched, n)
    return n


@njit(nogil=True, forceinline=True)
def _deny_by_children(exhaustive, starts, children, n, confidence, bits, touched, best, implied):
    """Labels whose exhaustive children are all absent are absent, as sure as the least sure child."""
    for k in range(len(exhaustive)):
        all_absent = True
        least = np.float32(1)
        for e in range(starts[k], starts[k + 1]):
            child = children[e]
            if _state_of(bits[child]) != ABSENT:
                all_absent = False
                break
            least = min(least, confidence[best[ABSENT, child]] if bits[child] & _ABSENT else implied[ABSENT, child])
        if all_absent:
            c = exhaustive[k]
            n = _add(
                c, _IMPLIED_ABSENT if bits[c] & _IMPLIED_ABSENT else _IMPLIED_ABSENT | _BY_CHILDREN, bits, touched, n
            )
            implied[ABSENT, c] = max(implied[ABSENT, c], least)
    return n


@njit(nogil=True)
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


@njit(nogil=True)
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


@njit(nogil=True)
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
