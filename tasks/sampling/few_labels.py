"""The few-labels protocol: some images a label keep their labels, the others count as unlabelled.

Axes: N images, C labels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tasks.core.states import States
from tasks.core.tables import UNKNOWN_STATE


def keep_few_labels(states: States, *, per_class: int, seed: int) -> States:
    """`states` where only `per_class` images a label keep their labels; those of the others are unknown.

    per_class: 0 keeps all.  Which images: `labelled_subset`.
    """
    if not per_class:
        return states
    kept_N = labelled_subset(states.targets_NC, states.known_NC, states.image_ids, per_class=per_class, seed=seed)
    return replace(states, states_NC=np.where(kept_N[:, None], states.states_NC, np.int8(UNKNOWN_STATE)))


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
