"""The number that picks the best epoch and stops a run early.

It stands here and not in tasks/metrics, so that editing how models are *evaluated* trains nothing again; a test holds
the two equal. Axes: N images, C labels.
"""

from __future__ import annotations

import numpy as np


def mean_average_precision(scores_NC: np.ndarray, targets_NC: np.ndarray, known_NC: np.ndarray) -> float:
    """Mean over labels with a known positive of non-interpolated average precision over known entries, ties grouped.

    scores_NC: float (N, C).  targets_NC: uint8 {0, 1}.  known_NC: bool.  NaN when no label has a known positive.
    """
    of_labels = [
        average_precision(scores_NC[known, c], targets_NC[known, c])
        for c, known in enumerate(known_NC.T)
        if targets_NC[known, c].any()
    ]
    return float(np.mean(of_labels)) if of_labels else float("nan")


def average_precision(scores_N: np.ndarray, targets_N: np.ndarray) -> float:
    """Sum over distinct scores, best first, of precision there times the recall gained there."""
    order = np.argsort(-scores_N, kind="stable")
    scores, hits = scores_N[order], np.cumsum(targets_N[order], dtype=np.int64)
    last_of_tie = np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1)
    gained = np.diff(hits[last_of_tie], prepend=0)
    return float((hits[last_of_tie] / (last_of_tie + 1) * gained).sum() / hits[-1])
