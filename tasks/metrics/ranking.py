"""One sort a label, and all that average precision, ROC-AUC, curves and thresholds need of it.

Axes: N images, C labels, P positives of all labels (label by label, best score first), K operating points (likewise).

A label's negatives matter only through how many of them stand above each positive, so the sorted matrix is reduced to
one entry a positive. Operating points between two positives' scores are dropped: they keep the
recall and lower the precision.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from tasks.metrics.batches import map_batches

Ties = Literal["grouped", "earlier_first", "later_first"]
"""Equal scores: one operating point for all of them (scikit-learn), or ranked by image order, first or last first."""

_LABELS_AT_ONCE = 32  # sorted
_IMAGES_AT_ONCE = 512  # transposed
_UNKNOWN = np.uint64(0xFFFF_FFFF_FFFF_FFFE)  # sorts behind every score; its lowest bit says "not a positive"


@dataclass(frozen=True)
class OperatingPoints:
    """Confusion counts of each label at its thresholds, the strictest first. A point at s accepts scores >= s.

    start_C1: int64 (C + 1); the points of label c are entries start_C1[c]:start_C1[c + 1]; none without a positive.
    score_K: float32, the lowest accepted score.  lower_K: float32, the next lower score, -inf where there is none.
    tp_K, predicted_K: accepted positives, accepted known images (counts; sums of weights when resampled).
    above_K: known images with a higher score than the point's own.
    num_positives_C, num_known_C: per label, same unit as tp_K.
    """

    start_C1: np.ndarray
    score_K: np.ndarray
    lower_K: np.ndarray
    tp_K: np.ndarray
    predicted_K: np.ndarray
    above_K: np.ndarray
    num_positives_C: np.ndarray
    num_known_C: np.ndarray

    @property
    def num_labels(self) -> int:
        return len(self.num_positives_C)

    @cached_property
    def label_K(self) -> np.ndarray:
        """Label index of each operating point, int64 (K,)."""
        return np.repeat(np.arange(self.num_labels), np.diff(self.start_C1))

    @cached_property
    def precision_K(self) -> np.ndarray:
        """float64 in [0, 1]; 0 where nothing is accepted, which happens only in a resample."""
        return np.divide(self.tp_K, self.predicted_K, out=np.zeros(len(self.tp_K)), where=self.predicted_K > 0)

    @cached_property
    def recall_K(self) -> np.ndarray:
        """float64 in [0, 1]."""
        positives = self.num_positives_C[self.label_K]
        return np.divide(self.tp_K, positives, out=np.zeros(len(self.tp_K)), where=positives > 0)

    def per_label(self) -> Iterator[slice]:
        """Where each label's operating points stand in the arrays of axis K."""
        for start, stop in zip(self.start_C1[:-1], self.start_C1[1:], strict=True):
            yield slice(int(start), int(stop))


@dataclass(frozen=True)
class Ranking:
    """Where each known positive stands among the known images of its label.

    start_C1: int64 (C + 1), positives of label c are entries start_C1[c]:start_C1[c + 1] of the arrays of axis P.
    score_P: float32.  lower_P: float32, next lower score among the label's known images, -inf where there is none.
    rank_P: int64, 1 = best; tied images by image order.
    above_P, upto_P: int64, known images with a score > and >= the positive's.
    num_positives_C, num_known_C: int64.
    order_CN: uint32 or None; image indices of each label's known images, best first (kept for resampling only);
        entries from num_known_C on mean nothing.
    """

    start_C1: np.ndarray
    score_P: np.ndarray
    lower_P: np.ndarray
    rank_P: np.ndarray
    above_P: np.ndarray
    upto_P: np.ndarray
    num_positives_C: np.ndarray
    num_known_C: np.ndarray
    order_CN: np.ndarray | None = None

    @cached_property
    def nth_P(self) -> np.ndarray:
        """1 for the best positive of its label, 2 for the next, …"""
        return np.arange(1, len(self.rank_P) + 1) - np.repeat(self.start_C1[:-1], self.num_positives_C)

    @cached_property
    def ends_group_P(self) -> np.ndarray:
        """bool: the last positive of its label with this score."""
        ends = np.ones(len(self.rank_P), bool)
        ends[:-1] = self.upto_P[1:] != self.upto_P[:-1]
        ends[self.start_C1[1:][self.num_positives_C > 0] - 1] = True
        return ends

    @cached_property
    def points(self) -> OperatingPoints:
        """One for each distinct score of a positive: those that a threshold can make."""
        return self._points(self.ends_group_P, self.upto_P, self.above_P)

    @cached_property
    def ranked_points(self) -> OperatingPoints:
        """One for each positive, as if no two images tied: what code built on `argsort` measures."""
        return self._points(np.ones(len(self.rank_P), bool), self.rank_P, self.rank_P - 1)

    def _points(self, keep_P: np.ndarray, predicted_P: np.ndarray, above_P: np.ndarray) -> OperatingPoints:
        return OperatingPoints(
            np.concatenate([[0], np.cumsum(keep_P)])[self.start_C1],
            self.score_P[keep_P],
            self.lower_P[keep_P],
            self.nth_P[keep_P],
            predicted_P[keep_P],
            above_P[keep_P],
            self.num_positives_C,
            self.num_known_C,
        )


def rank(
    scores_NC: np.ndarray,
    targets_NC: np.ndarray,
    known_NC: np.ndarray,
    *,
    later_first: bool = False,
    keep_order: bool = False,
) -> Ranking:
    """Sort each label's known images by falling score.

    scores_NC: float32 (N, C), finite.  targets_NC: uint8 {0, 1}.  known_NC: bool.
    later_first: of images with equal scores the later one ranks first (the earlier one otherwise).
    keep_order: keep the sorted image indices too (4 bytes an entry), for `bootstrap`.
    Time is one sort of 64-bit integers a label; memory beside the inputs is `order_CN`.
    """
    num_images, num_labels = scores_NC.shape
    assert num_images < 2**31, "image indices are packed in 31 bits"
    order = np.empty((num_labels, num_images), np.uint32) if keep_order else None
    index_N = np.arange(num_images, dtype=np.uint64)
    if later_first:
        index_N = index_N[::-1]
    all_known = bool(known_NC.all())
    num_known_C = np.count_nonzero(known_NC, axis=0)

    def ranked(batch: slice) -> tuple[np.ndarray, ...]:
        keys = _packed(scores_NC[:, batch], targets_NC[:, batch], index_N)
        if not all_known:
            keys[~known_NC[:, batch].T] = _UNKNOWN
        keys.sort(axis=1)
        if order is not None:
            order[batch] = (keys & np.uint64(0xFFFF_FFFF)) >> np.uint64(1)
        return _positives(keys, num_known_C[batch])

    batches = map_batches(ranked, num_labels, _LABELS_AT_ONCE)
    if order is not None and later_first:
        np.subtract(np.uint32(num_images - 1), order, out=order)
    columns = [np.concatenate(parts) for parts in zip(*batches, strict=True)]
    score, lower, ranks, above, upto, num_positives = columns
    start_C1 = np.concatenate([[0], np.cumsum(num_positives)]).astype(np.int64)
    return Ranking(start_C1, score, lower, ranks, above, upto, num_positives, num_known_C, order)


def _packed(scores: np.ndarray, targets: np.ndarray, index_N: np.ndarray) -> np.ndarray:
    """uint64 (C, N): ascending keys = descending scores, then image order, with the target in the lowest bit.

    Sorting plain integers is several times faster than an argsort, is the same on every machine, and afterwards score,
    image and target are read from the key instead of being gathered.
    """
    scores = _transposed(scores, np.float32)
    scores += np.float32(0)  # makes -0.0 equal to 0.0
    keys = _flipped(scores.view(np.uint32)).astype(np.uint64)
    keys <<= np.uint64(32)
    keys |= index_N << np.uint64(1)
    keys |= _transposed(targets, np.uint8)
    return keys


def _transposed(matrix: np.ndarray, dtype: type) -> np.ndarray:
    """A transposed copy, made of pieces that fit a first-level cache, which is faster than copying `.T` at once."""
    out = np.empty(matrix.shape[::-1], dtype)
    for start in range(0, len(matrix), _IMAGES_AT_ONCE):
        out[:, start : start + _IMAGES_AT_ONCE] = matrix[start : start + _IMAGES_AT_ONCE].T
    return out


def _flipped(bits: np.ndarray) -> np.ndarray:
    """Bits of float32 to integers that rise as the floats fall, and back again; uint32 to uint32.

    Positive floats have all but the sign flipped; negative ones, whose bits already rise as they fall, stay.
    """
    mask = bits.view(np.int32) >> 31
    np.invert(mask, out=mask)
    mask &= 0x7FFF_FFFF
    mask ^= bits.view(np.int32)
    return mask.view(np.uint32)


def _scores(keys: np.ndarray) -> np.ndarray:
    """The float32 scores in packed keys."""
    return _flipped((keys >> np.uint64(32)).astype(np.uint32)).view(np.float32)


def _positives(keys_CN: np.ndarray, num_known_C: np.ndarray) -> tuple[np.ndarray, ...]:
    """score, lower, rank, above, upto of each positive, then the number of positives of each label."""
    is_positive_CN = (keys_CN.astype(np.uint8) & np.uint8(1)).view(bool)
    label_P, position_P = np.nonzero(is_positive_CN)
    keys_P = keys_CN[label_P, position_P]
    num_positives_C = np.bincount(label_P, minlength=len(keys_CN))
    above_P, upto_P = position_P.copy(), position_P + 1
    tied_P = _ties_with_a_neighbour(keys_CN, label_P, position_P)
    for label in np.unique(label_P[tied_P]):
        own = np.flatnonzero(tied_P & (label_P == label))
        best_of_group = keys_P[own] & np.uint64(0xFFFF_FFFF_0000_0000)
        above_P[own] = np.searchsorted(keys_CN[label], best_of_group)
        upto_P[own] = np.searchsorted(keys_CN[label], best_of_group + np.uint64(1 << 32))
    has_lower = upto_P < num_known_C[label_P]
    below = keys_CN[label_P, np.minimum(upto_P, keys_CN.shape[1] - 1)]
    lower_P = np.where(has_lower, _scores(below), np.float32(-np.inf))
    return _scores(keys_P), lower_P, position_P + 1, above_P, upto_P, num_positives_C


def _ties_with_a_neighbour(keys_CN: np.ndarray, label_P: np.ndarray, position_P: np.ndarray) -> np.ndarray:
    """bool (P,): the image just above or just below a positive has the same score."""
    keys_P, last = keys_CN[label_P, position_P], keys_CN.shape[1] - 1
    tied_P = np.zeros(len(keys_P), bool)
    for neighbour_P in (np.maximum(position_P - 1, 0), np.minimum(position_P + 1, last)):
        same_score = (keys_CN[label_P, neighbour_P] ^ keys_P) < np.uint64(1 << 32)  # the upper half holds the score
        tied_P |= same_score & (neighbour_P != position_P)
    return tied_P


def rank_pooled(
    scores_NC: np.ndarray, targets_NC: np.ndarray, known_NC: np.ndarray, *, keep_order: bool = False
) -> Ranking:
    """All entries as one label: what one threshold for every label can reach. Arguments as for `rank`.

    `order_CN` then is (1, N x C) and names the image of each entry, so an image stands in it once for each known label.
    """
    columns = (np.ascontiguousarray(v).reshape(-1, 1) for v in (scores_NC, targets_NC, known_NC))
    ranking = rank(*columns, keep_order=keep_order)
    if ranking.order_CN is not None:
        np.floor_divide(ranking.order_CN, np.uint32(scores_NC.shape[1]), out=ranking.order_CN)
    return ranking
