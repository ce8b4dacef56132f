"""Intervals of headline metrics and of each label, by resampling images or duplicate groups.

Axes: N images, C labels, K operating points of a label, B resamples.

A resample is a subsample: three quarters of the images, drawn without replacement. A bootstrap draws images twice, and
average precision of repeated positives is too high. The spread of subsamples, scaled to all images, is that of the
metric (delete-d jackknife: Shao & Wu, Annals of Statistics 1989); its centre is the metric of all images, for average
precision with each positive left out (average_precision.py). docs/evaluation.md has the measured coverage. Thresholds
are still fitted on bootstrap resamples (`weight_batches`).

A resample is a weight for each image: how often it was drawn. Weights change counts, not the order of scores, so the
one sort serves every resample: a label's counts at its operating points are running sums of weights along its sorted
images. An image drawn twice is one point that counts twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.special import expit, logit
from scipy.stats import norm

from tasks.metrics import f1
from tasks.metrics.arithmetic import mean_over_labels, ratio
from tasks.metrics.average_precision import AVERAGE_PRECISIONS
from tasks.metrics.ranking import OperatingPoints, Ranking
from tasks.metrics.scored import Scored

LEVEL = 0.95
SUBSAMPLE = 0.75  # of the images, or groups of them
LEAST_POSITIVES = 10  # of a label with an interval of its own; with fewer, coverage was measured down to 0.5
MOST_MISSING = {"mAP": 0.7, "CP": 0.3, "CR": 0.3, "CF1": 0.3}
"""Labels without a positive, as a multiple of sqrt(C), above which a mean over labels has no interval: it is the mean
of other labels than the population's, which no resample shows."""
_LOG_ODDS_RANGE = (0.02, 0.98)
_BATCH_SIZE = 32  # resamples at a time: the weights of 41,151 images then fit in a second-level cache


@dataclass(frozen=True)
class Resampled:
    """Metrics of each resample: headline name -> float64 (B,); AP and F1 of each label, float64 (B, C).

    From `resample` they scatter as metrics of N images do, around a centre without the bias of AP.
    """

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
    group_N, num_groups = _groups(num_images, resample_by)
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


def subsample_batches(
    num_images: int, num_resamples: int, *, resample_by: Sequence[str] | None, seed: int
) -> Iterator[np.ndarray]:
    """Which images are drawn, float32 {0, 1} (N, b) with b <= 32; see `weight_batches`.

    Each takes SUBSAMPLE of the images, or of the groups, without replacement.
    """
    rng = np.random.default_rng(seed)
    group_N, num_groups = _groups(num_images, resample_by)
    num_drawn = _num_drawn(num_groups)
    for start in range(0, num_resamples, _BATCH_SIZE):
        keys = rng.random((num_groups, min(_BATCH_SIZE, num_resamples - start)))
        drawn = keys.argsort(axis=0).argsort(axis=0) < num_drawn
        yield drawn[group_N].astype(np.float32)


def _groups(num_images: int, resample_by: Sequence[str] | None) -> tuple[np.ndarray, int]:
    """Number of each image's group, and how many there are."""
    unit_N = np.arange(num_images) if resample_by is None else np.asarray(resample_by)
    group_N = np.unique(unit_N, return_inverse=True)[1]
    return group_N, int(group_N.max(initial=-1)) + 1


def _num_drawn(num_groups: int) -> int:
    return min(max(round(SUBSAMPLE * num_groups), 1), num_groups - 1)


def weighted_metrics(scored: Scored, *, left_out: bool = False) -> Callable[[np.ndarray], Resampled]:
    """What measures resamples given as weights, float32 (N, B). `scored` must have been made with keep_order=True.

    left_out: average precision without its bias (average_precision.py).
    """
    # Sparse, because few entries are decided or positive; a product then costs what these cost, not N x C.
    entries = [sparse.csr_matrix(entries_NC.T, dtype=np.float32) for entries_NC in scored.f1_entries]
    image_f1_N = f1.f1_of_images(scored.image_counts)
    weighted_counts = WeightedCounts(scored.ranking, scored.ap_points, len(scored.scores_NC))
    form = AVERAGE_PRECISIONS[scored.protocol.average_precision]

    def measure(weights_NB: np.ndarray) -> Resampled:
        tp_KB, predicted_KB, positives_CB = weighted_counts(weights_NB)
        own_points = zip(scored.ap_points.per_label(), positives_CB, strict=True)
        ap_BC = np.stack(
            [form(tp_KB[own], predicted_KB[own], positives_B, left_out=left_out) for own, positives_B in own_points],
            axis=1,
        )
        counts = scored.guarded(f1.Counts(*((matrix @ weights_NB).T.astype(np.float64) for matrix in entries)))
        overall, by_class = f1.overall(counts), scored.class_f1(counts)
        headline = {
            "mAP": mean_over_labels(ap_BC, scored.protocol.absent_labels),
            **dict(zip(("OP", "OR", "OF1"), overall, strict=True)),
            **dict(zip(("CP", "CR", "CF1"), by_class, strict=True)),
            "image_F1": ratio(image_f1_N @ weights_NB, weights_NB.sum(axis=0), otherwise=np.nan),
        }
        return Resampled(headline, ap_BC, f1.per_label(counts).f1)

    return measure


def resample(
    scored: Scored, num_resamples: int, *, resample_by: Sequence[str] | None = None, seed: int = 0
) -> Resampled:
    """Metrics of `num_resamples` subsamples, scattered as those of N images, around their values without bias.

    `scored` must have been made with keep_order=True. The same arguments draw the same images, so that differences of
    two models are paired. All NaN where there is one group only.
    """
    num_images = len(scored.scores_NC)
    measure = weighted_metrics(scored, left_out=True)
    num_groups = _groups(num_images, resample_by)[1]
    num_drawn = _num_drawn(num_groups)
    scale = np.sqrt(num_drawn / (num_groups - num_drawn)) if num_drawn > 0 else np.nan
    weights = subsample_batches(num_images, num_resamples, resample_by=resample_by, seed=seed)
    batches = [measure(weights_NB) for weights_NB in weights]
    of_all = measure(np.ones((num_images, 1), np.float32))

    def scattered(centre: np.ndarray, drawn: list[np.ndarray]) -> np.ndarray:
        values = np.concatenate(drawn)
        return centre + scale * (values - _mean(values))

    return Resampled(
        {
            name: scattered(value, [batch.headline[name] for batch in batches])
            for name, value in of_all.headline.items()
        },
        scattered(of_all.ap_BC, [batch.ap_BC for batch in batches]),
        scattered(of_all.f1_BC, [batch.f1_BC for batch in batches]),
    )


def _mean(values: np.ndarray) -> np.ndarray:
    """Over axis 0, without NaN; NaN where nothing else is."""
    defined = ~np.isnan(values)
    return ratio(np.where(defined, values, 0.0).sum(axis=0), defined.sum(axis=0), otherwise=np.nan)


def normal_interval(values: np.ndarray, *, log_odds: bool = False) -> np.ndarray:
    """Mean -+ 1.96 standard deviations of resampled values (B, …), float64 (2, …); NaN where no resample is defined.

    log_odds: of values in [0, 1], the interval of their log odds, which leaves neither end of the range.
    """
    mean = _mean(values)
    half_width = norm.ppf(0.5 + LEVEL / 2) * np.sqrt(_mean((values - mean) ** 2))
    if not log_odds:
        return np.stack([mean - half_width, mean + half_width])
    inside = np.clip(mean, *_LOG_ODDS_RANGE)
    half_width = half_width / (inside * (1 - inside))
    return np.stack([expit(logit(inside) - half_width), expit(logit(inside) + half_width)])


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
    """95 % intervals, JSON-ready: {"metrics": {name: [low, high]}, "labels": {label: {"AP", "F1"}}, "why": {name: why
    it has no interval}, "mAP_without_bias": the centre of mAP's, …}.

    A label with fewer than LEAST_POSITIVES has none.
    """
    resampled = resample(scored, num_resamples, resample_by=resample_by, seed=seed)
    lacking = without_interval(scored)
    has_own_C = scored.ranking.num_positives_C >= LEAST_POSITIVES
    ap_2C, f1_2C = (
        np.where(has_own_C, normal_interval(values_BC, log_odds=True), np.nan)
        for values_BC in (resampled.ap_BC, resampled.f1_BC)
    )
    centre = float(_mean(resampled.headline["mAP"]))
    return {
        "level": LEVEL,
        "resamples": num_resamples,
        "drawn_by": "image" if resample_by is None else "group",
        "seed": seed,
        "metrics": {
            name: None if name in lacking else ends(np.clip(normal_interval(values), 0, 1))
            for name, values in resampled.headline.items()
        },
        "why": lacking,
        "mAP_without_bias": None if np.isnan(centre) or "mAP" in lacking else centre,
        "labels": {label: {"AP": ends(ap_2C[:, c]), "F1": ends(f1_2C[:, c])} for c, label in enumerate(labels)},
    }


def without_interval(scored: Scored) -> dict[str, str]:
    """Headline metrics that get no interval, each with the reason: too many labels have no positive."""
    num_labels = len(scored.ranking.num_positives_C)
    num_missing = int((scored.ranking.num_positives_C == 0).sum())
    why = (
        f"{num_missing} of {num_labels} labels have no positive among these images, so that this is a mean of other "
        "labels, and no interval that covers is known"
    )
    return {name: why for name, most in MOST_MISSING.items() if num_missing > most * np.sqrt(num_labels)}


def ends(interval: np.ndarray) -> list[float] | None:
    """[low, high] as plain floats, None where undefined."""
    low, high = (float(v) for v in interval)
    return None if np.isnan(low) else [low, high]
