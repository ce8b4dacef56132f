"""How much each label counts in a loss, by how often it is known to be present; unknown entries are not counted.

Axes: N images, C labels.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

BETA = 0.999
"""Of `effective_number`: a thousand positives are worth 632 distinct ones. One of the four values of the source."""


def inverse(positives_C: np.ndarray, known_C: np.ndarray) -> np.ndarray:
    """One over the frequency of the label among the images where it is known."""
    return known_C / positives_C


def effective_number(positives_C: np.ndarray, known_C: np.ndarray) -> np.ndarray:
    """(1 - BETA) / (1 - BETA^n) for n positives.

    Source: Cui et al., CVPR 2019, "Class-Balanced Loss Based on Effective Number of Samples", equation 2.
    """
    return (1 - BETA) / (1 - BETA**positives_C)


CLASS_WEIGHTS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "inverse": inverse,
    "effective_number": effective_number,
}


def class_weights(name: str, targets_NC: np.ndarray, known_NC: np.ndarray) -> np.ndarray | None:
    """float32 (C,) of mean 1; None for "none".

    targets_NC: uint8 {0, 1}.  known_NC: bool. A label without a known positive counts as one that has a single one.
    """
    if name == "none":
        return None
    positives_C = np.maximum((targets_NC.astype(bool) & known_NC).sum(0), 1).astype(np.float64)
    known_C = np.maximum(known_NC.sum(0), 1)
    weights_C = CLASS_WEIGHTS[name](positives_C, known_C)
    return (weights_C / weights_C.mean()).astype(np.float32)
