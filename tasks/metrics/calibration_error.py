"""How far scores are from probabilities. Axes: N images, C labels; only known entries count."""

from __future__ import annotations

import numpy as np

from tasks.metrics.arithmetic import ratio
from tasks.metrics.batches import map_batches

_BATCH_SIZE = 512  # images at a time
NUM_BINS = 15  # equal width, as in Guo et al., ICML 2017, "On Calibration of Modern Neural Networks"


def brier_and_ece(scores_NC: np.ndarray, targets_NC: np.ndarray, known_NC: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Brier score and expected calibration error of each label, two float64 (C,); NaN where no entry is known.

    scores_NC: float32 probabilities; both results are all NaN when a known score lies outside [0, 1].
    ECE = sum over 15 equal bins of |mean(target - score)| x share of entries; lower is better, 0 is perfect.
    """
    all_known = known_NC.all()
    counted_NC = scores_NC if all_known else np.where(known_NC, scores_NC, np.float32(0))
    num_labels, num_known_C = scores_NC.shape[1], np.count_nonzero(known_NC, axis=0)
    if counted_NC.min(initial=0) < 0 or counted_NC.max(initial=0) > 1:
        return np.full(num_labels, np.nan), np.full(num_labels, np.nan)
    # A score of exactly 1 falls behind the last bin; its place is added to that bin below.
    first_bin_C = (NUM_BINS + 1) * np.arange(num_labels, dtype=np.int32)

    def sums(rows: slice) -> tuple[np.ndarray, np.ndarray]:
        gap = targets_NC[rows] - counted_NC[rows]
        if not all_known:
            gap *= known_NC[rows]
        bins = (counted_NC[rows] * np.float32(NUM_BINS)).astype(np.int32)
        bins += first_bin_C
        gap_of_bin = np.bincount(bins.ravel(), gap.ravel(), minlength=(NUM_BINS + 1) * num_labels)
        return np.einsum("nc,nc->c", gap, gap, dtype=np.float64), gap_of_bin.reshape(num_labels, -1)

    squares, gaps = zip(*map_batches(sums, len(scores_NC), _BATCH_SIZE), strict=True)
    gap_of_bin = np.sum(gaps, axis=0)
    gap_of_bin[:, NUM_BINS - 1] += gap_of_bin[:, NUM_BINS]
    ece_C = ratio(np.abs(gap_of_bin[:, :NUM_BINS]).sum(axis=1), num_known_C, otherwise=np.nan)
    return ratio(np.sum(squares, axis=0), num_known_C, otherwise=np.nan), ece_C
