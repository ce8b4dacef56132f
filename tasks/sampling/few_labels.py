"""The few-labels protocol: some images a label keep their labels, the others count as unlabelled.

Axes: N images, C labels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np


def labelled_subset(
    targets_NC: np.ndarray, known_NC: np.ndarray, image_ids: Sequence[str], *, per_class: int, seed: int
) -> np.ndarray:
    """Which images keep their labels, bool (N,).

    All images stand in one order, by a hash of seed and image id. A label's images are those on which it is known to be
    present; an image is kept when it is among the first `per_class` images of any of its labels. With several labels an
    image serves all of them, so a label has at least min(per_class, its images) kept images, more where it appears
    beside others, and at most per_class * C images are kept. An image without a known positive is never kept. A
    smaller `per_class` keeps a subset of what a larger one keeps.

    targets_NC: uint8 {0, 1}.  known_NC: bool.
    """
    order = sorted(range(len(image_ids)), key=lambda n: hashlib.sha256(f"{seed}/{image_ids[n]}".encode()).digest())
    present_NC = targets_NC.astype(bool)[order] & known_NC[order]
    kept = np.zeros(len(image_ids), bool)
    kept[order] = (present_NC & (np.cumsum(present_NC, axis=0) <= per_class)).any(axis=1)
    return kept
