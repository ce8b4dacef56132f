"""A detector's scores beside the model's, for labels whose objects are small in a network's view of the whole image.

    fused = sigmoid(model x logit(own score) + detector x logit(detector's score) + intercept), model, detector >= 0

The three numbers are fitted a label by least cross-entropy on images the model did not train on. A weight may become 0,
so a detector that misleads is left out. Axes: N images, C labels.

Source: logistic fusion of classifiers, Platt 1999 extended to two scores, with his softened targets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

FLOOR = 0.01
"""Score of an image on which the detector found nothing, and the least that any image has: low, but no certainty."""

MIN_SUPPORT = 10
"""Known positives, and known negatives, below which a label is not fused."""


@dataclass(frozen=True)
class Blend:
    """Weights of the logits of both scores, and an intercept."""

    model: float
    detector: float
    intercept: float

    def __call__(self, own_N: np.ndarray, detected_N: np.ndarray) -> np.ndarray:
        """float32 (N,) in [0, 1]. own_N: the model's scores.  detected_N: the detector's, 0 where it found nothing."""
        z = self.model * _logit(own_N, 1e-6) + self.detector * _logit(detected_N, FLOOR) + self.intercept
        return (1 / (1 + np.exp(-z))).astype(np.float32)

    def as_dict(self) -> dict[str, float]:
        """JSON-ready."""
        return asdict(self)


def fit_blend(own_N: np.ndarray, detected_N: np.ndarray, targets_N: np.ndarray) -> Blend | None:
    """The blend of one label from its known entries; None with too few positives or negatives.

    own_N, detected_N: float in [0, 1].  targets_N: uint8 {0, 1}.
    """
    from scipy.optimize import minimize

    num_positives = int(targets_N.sum())
    num_negatives = len(targets_N) - num_positives
    if min(num_positives, num_negatives) < MIN_SUPPORT:
        return None
    softened_N = np.where(targets_N == 1, (num_positives + 1) / (num_positives + 2), 1 / (num_negatives + 2))
    inputs_N3 = np.stack([_logit(own_N, 1e-6), _logit(detected_N, FLOOR), np.ones(len(targets_N))], axis=1)

    def loss(weights_3: np.ndarray) -> tuple[float, np.ndarray]:
        z = inputs_N3 @ weights_3
        error = 1 / (1 + np.exp(-z)) - softened_N
        return float(np.mean(np.logaddexp(0, z) - softened_N * z)), inputs_N3.T @ error / len(z)

    bounds = [(0, None), (0, None), (None, None)]
    return Blend(*map(float, minimize(loss, np.array([1.0, 0.0, 0.0]), jac=True, bounds=bounds, method="L-BFGS-B").x))


def fit_blends(
    scores_NC: np.ndarray,
    detected_NC: np.ndarray,
    targets_NC: np.ndarray,
    known_NC: np.ndarray,
    columns: Sequence[int],
) -> dict[int, Blend]:
    """Column -> its blend, of those `columns` that have the support."""
    blends = {}
    for c in columns:
        known_N = known_NC[:, c]
        if blend := fit_blend(scores_NC[known_N, c], detected_NC[known_N, c], targets_NC[known_N, c]):
            blends[c] = blend
    return blends


def fuse(scores_NC: np.ndarray, detected_NC: np.ndarray, blends: Mapping[int, Blend]) -> np.ndarray:
    """A copy of scores_NC in which each column of `blends` is fused."""
    fused_NC = scores_NC.copy()
    for c, blend in blends.items():
        fused_NC[:, c] = blend(scores_NC[:, c], detected_NC[:, c])
    return fused_NC


def _logit(scores_N: np.ndarray, smallest: float) -> np.ndarray:
    clipped = np.clip(scores_N.astype(np.float64), smallest, 1 - smallest)
    return np.log(clipped) - np.log1p(-clipped)
