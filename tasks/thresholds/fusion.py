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
import pyarrow as pa
import pyarrow.compute as pc

from tasks.core.errors import TableError, did_you_mean
from tasks.core.states import scores_of
from tasks.thresholds.probability_calibration import logit, softened_targets

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
        z = self.model * logit(own_N) + self.detector * logit(detected_N, FLOOR) + self.intercept
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
    if min(num_positives, len(targets_N) - num_positives) < MIN_SUPPORT:
        return None
    softened_N = softened_targets(targets_N)
    inputs_N3 = np.stack([logit(own_N), logit(detected_N, FLOOR), np.ones(len(targets_N))], axis=1)

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


def detector_scores(
    proposals: pa.Table, image_ids: Sequence[str], labels: Sequence[str], origins: Mapping[int, str]
) -> np.ndarray:
    """Scores of the detectors for the columns that are fused, 0 where they found nothing; float64 (N, C), others 0.

    proposals: LABELS with their origins.  origins: column -> origin of the proposals that it is fused with.
    Raises TableError for an origin that proposes nothing at all.
    """
    scores_NC = np.zeros((len(image_ids), len(labels)))
    for origin in sorted(set(origins.values())):
        rows = proposals.filter(pc.equal(proposals["origin"], origin))
        if not rows.num_rows:
            known = sorted(set(proposals["origin"].to_pylist()))
            raise TableError(
                f"taxonomy: fuse: no source proposes as '{origin}'. {did_you_mean(origin, known)} "
                "Add a source with `use: proposals` and that `origin`."
            )
        columns = [c for c, name in origins.items() if name == origin]
        scores_NC[:, columns] = scores_of(rows, image_ids, labels)[:, columns]
    return scores_NC


def fuse(scores_NC: np.ndarray, detected_NC: np.ndarray, blends: Mapping[int, Blend]) -> np.ndarray:
    """A copy of scores_NC in which each column of `blends` is fused."""
    fused_NC = scores_NC.copy()
    for c, blend in blends.items():
        fused_NC[:, c] = blend(scores_NC[:, c], detected_NC[:, c])
    return fused_NC
