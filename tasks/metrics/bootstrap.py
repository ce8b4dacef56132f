"""Bootstrap intervals of headline metrics and of each label, by image or by duplicate group.

Axes: N images, C labels, K operating points of a label, B resamples.

A resample is a weight for each image: how often it was drawn. Weights change counts, not the order of scores, so the
one sort serves every resample: a label's counts at its operating points are running sums of weights along its sorted
images. An image drawn twice is one point that counts twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from tasks.metrics import f1
from tasks.metrics.arithmetic import mean_over_labels, ratio
from tasks.metrics.average_precision import AVERAGE_PRECISIONS
from tasks.metrics.ranking import OperatingPoints, Ranking
from tasks.metrics.scored import Scored

LEVEL = 0.95
_BATCH_SIZE = 32  # resamples at a time: the weights of 41,151 images then fit in a second-level cache


@dataclass(frozen=True)
class Resampled:
    """Metrics of each resample: headline name -> float64 (B,); AP and F1 of each label, float64 (B, C)."""

    headline: dict[str, np.ndarray]
    ap_BC: np.ndarray
    f1_BC: np.ndarray


def weight_batches(
    num_images: int, num_resamples: int, *, resample_by: Sequence[str] | None, seed: int
) -> Iterator[np.ndarray]:
    """How often each image is drawn, float32 (N, b) with b <= 32, until `num_resamples` were made.

    resample_by: group_id of each image; whole groups are drawn then. The same arguments give the same weights, which
    is what makes a comparison of two models paired.
    """
    rng = np.random.default_rng(seed)
    unit_N = np.arange(num_images) if resample_by is None else np.asarray(resample_by)
    group_N = np.unique(unit_N, return_inverse=True)[1]
    num_groups = int(group_N.max(initial=-1)) + 1
    for start in range(0, num_resamples, _BATCH_SIZE):
        size = min(_BATCH_SIZE, num_resamples - start)
        drawn = rng.integers(0, num_groups, (size, num_groups)) + num_groups * np.arange(size)[:, None]
        times = np.bincount(drawn.ravel(), minlength=size * num_groups).reshape(size, num_groups)
        yield np.ascontiguousarray(times[:, group_N].T, np.float32)


class WeightedCounts:
    """Confusion counts at a label's operating points when images carry weights."""

    def __init__(self, ranking: Ranking, points: OperatingPoints, num_images: int) -> None:
        """ranking: made with keep_order=True.  points: `ranking.points` or `ranking.ranked_points`."""
        assert ranking.order_CN is not None, "rank(..., keep_order=True)"
        self.points = points
        label_P = np.repeat(np.arange(points.num_labels), ranking.num_positives_C)
        positives = ranking.order_CN[label_P, ranking.rank_P - 1]
        new_positives_K = np.diff(points.tp_K, prepend=0)
        new_images_K = np.diff(points.predicted_K, prepend=0)
        first_K = points.start_C1[:-1][np.diff(points.start_C1) > 0]
        new_positives_K[first_K], new_images_K[first_K] = points.tp_K[first_K], points.predicted_K[first_K]
        accepted_C = np.bincount(points.label_K, new_images_K, minlength=points.num_labels).astype(np.int64)
        accepted = np.concatenate([row[:n] for row, n in zip(ranking.order_CN, accepted_C, strict=True)])
        self._positives = _rows_of_images(positives, new_positives_K, num_images)
        self._images = _rows_of_images(accepted, new_images_K, num_images)

    def __call__(self, weights_NB: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """tp_KB, predicted_KB, num_positives_CB: float64 sums of weights. weights_NB: float32, whole numbers."""
        tp_KB, predicted_KB = self._running(self._positives @ weights_NB), self._running(self._images @ weights_NB)
        num_positives_CB = np.zeros((self.points.num_labels, weights_NB.shape[1]))
        present = np.diff(self.points.start_C1) > 0
        num_positives_CB[present] = tp_KB[self.points.start_C1[1:][present] - 1]
        return tp_KB, predicted_KB, num_positives_CB

    def _running(self, new_KB: np.ndarray) -> np.ndarray:
        """Running sums that start anew at each label; float64 holds them exactly."""
        total_KB = np.empty(new_KB.shape, np.float64)
        for own in self.points.per_label():
            np.cumsum(new_KB[own], axis=0, out=total_KB[own])
        return total_KB


def _rows_of_images(images: np.ndarray, num_in_row: np.ndarray, num_images: int) -> sparse.csr_matrix:
    """0/1 matrix (rows, N): row k holds the next num_in_row[k] entries of `images`."""
    bounds = np.concatenate([[0], np.cumsum(num_in_row)])
    parts = np.ones(len(images), np.float32), images.astype(np.int32), bounds.astype(np.int64)
    return sparse.csr_matrix(parts, shape=(len(num_in_row), num_images))


def resample(
    scored: Scored, num_resamples: int, *, resample_by: Sequence[str] | None = None, seed: int = 0
) -> Resampled:
    """Metrics of `num_resamples` bootstrap resamples. `scored` must have been made with keep_order=True."""
    # Sparse, because few entries are decided or positive; a product then costs what these cost, not N x C.
    entries = [sparse.csr_matrix(entries_NC.T, dtype=np.float32) for entries_NC in scored.f1_entries]
    image_f1_N = f1.f1_of_images(scored.image_counts)
    weighted_counts = WeightedCounts(scored.ranking, scored.ap_points, len(scored.scores_NC))
    form = AVERAGE_PRECISIONS[scored.protocol.average_precision]
    batches = []
    for weights_NB in weight_batches(len(scored.scores_NC), num_resamples, resample_by=resample_by, seed=seed):
        tp_KB, predicted_KB, positives_CB = weighted_counts(weights_NB)
        own_points = zip(scored.ap_points.per_label(), positives_CB, strict=True)
        ap_BC = np.stack([form(tp_KB[own], predicted_KB[own], positives_B) for own, positives_B in own_points], axis=1)
        counts = scored.guarded(f1.Counts(*((matrix @ weights_NB).T.astype(np.float64) for matrix in entries)))
        overall, by_class = f1.overall(counts), scored.class_f1(counts)
        headline = {
            "mAP": mean_over_labels(ap_BC, scored.protocol.absent_labels),
            **dict(zip(("OP", "OR", "OF1"), overall, strict=True)),
            **dict(zip(("CP", "CR", "CF1"), by_class, strict=True)),
            "image_F1": ratio(image_f1_N @ weights_NB, weights_NB.sum(axis=0), otherwise=np.nan),
        }
        batches.append(Resampled(headline, ap_BC, f1.per_label(counts).f1))
    return Resampled(
        {name: np.concatenate([batch.headline[name] for batch in batches]) for name in batches[0].headline},
        np.concatenate([batch.ap_BC for batch in batches]),
        np.concatenate([batch.f1_BC for batch in batches]),
    )


def percentile_interval(values: np.ndarray, *, axis: int = 0) -> np.ndarray:
    """Lower and upper end of the central 95 % of resamples, float64 (2, …); NaN where no resample is defined."""
    tail = (1 - LEVEL) / 2
    undefined = np.isnan(values).all(axis=axis, keepdims=True)
    filled = np.where(undefined, 0.0, values)
    # Values that were drawn, not between them: an infinite threshold must not be averaged with a finite one.
    ends = np.nanquantile(filled, [tail, 1 - tail], axis=axis, method="inverted_cdf")
    return np.where(np.squeeze(undefined, axis=axis), np.nan, ends)


def intervals(
    scored: Scored,
    labels: Sequence[str],
    num_resamples: int,
    *,
    resample_by: Sequence[str] | None = None,
    seed: int = 0,
) -> dict:
    """95 % percentile intervals: {"metrics": {name: [low, high]}, "labels": {label: {"AP", "F1"}}, …}, JSON-ready.

    A label's own intervals leave out the resamples that drew none of its positives.
    """
    resampled = resample(scored, num_resamples, resample_by=resample_by, seed=seed)
    ap_2C, f1_2C = percentile_interval(resampled.ap_BC), percentile_interval(resampled.f1_BC)
    return {
        "level": LEVEL,
        "resamples": num_resamples,
        "drawn_by": "image" if resample_by is None else "group",
        "seed": seed,
        "metrics": {name: ends(percentile_interval(v)) for name, v in resampled.headline.items()},
        "labels": {label: {"AP": ends(ap_2C[:, c]), "F1": ends(f1_2C[:, c])} for c, label in enumerate(labels)},
    }


def ends(interval: np.ndarray) -> list[float] | None:
    """[low, high] as plain floats, None where undefined."""
    low, high = (float(v) for v in interval)
    return None if np.isnan(low) else [low, high]
