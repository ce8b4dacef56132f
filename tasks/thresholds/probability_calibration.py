"""Probability calibration a label: a rising map from score to probability, fitted before thresholds where it is wanted.

Axes: N images, C labels. Maps rise, so they change neither the ranking nor average precision; isotonic maps may tie
scores that were apart.

CALIBRATORS maps a name to `fit(scores_N, targets_N) -> map` for one label. To add one: write the function and add one
line.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Map = Callable[[np.ndarray], np.ndarray]
"""float scores in [0, 1] -> float64 probabilities in [0, 1], non-decreasing."""

_SMALLEST = 1e-6  # scores are kept this far from 0 and 1 before their logit is taken


@dataclass(frozen=True)
class Logistic:
    """sigmoid(slope x logit(score) + intercept), slope >= 0."""

    slope: float
    intercept: float

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-(self.slope * logit(scores) + self.intercept)))

    def as_dict(self) -> dict:
        """JSON-ready; `map_from_dict` reads it back."""
        return {"slope": self.slope, "intercept": self.intercept}


@dataclass(frozen=True)
class Steps:
    """Straight lines between (score, probability) knots, constant beyond them."""

    score_K: np.ndarray
    probability_K: np.ndarray

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        return np.interp(scores, self.score_K, self.probability_K)

    def as_dict(self) -> dict:
        """JSON-ready; `map_from_dict` reads it back."""
        return {"scores": self.score_K.tolist(), "probabilities": self.probability_K.tolist()}


def map_from_dict(value: dict | None) -> Map | None:
    """The map that `as_dict` described; None for a label whose scores stay as they are."""
    if value is None:
        return None
    if "slope" in value:
        return Logistic(value["slope"], value["intercept"])
    return Steps(np.array(value["scores"]), np.array(value["probabilities"]))


def fit_platt(scores_N: np.ndarray, targets_N: np.ndarray) -> Map:
    """Slope and intercept on the logit, with Platt's softened targets, so that separable labels stay finite.

    Source: Platt 1999, "Probabilistic Outputs for Support Vector Machines".
    """
    return _fit_logistic(scores_N, targets_N, free_intercept=True)


def fit_temperature(scores_N: np.ndarray, targets_N: np.ndarray) -> Map:
    """Slope alone, 1 / temperature: a score of 0.5 stays 0.5.

    Source: Guo et al., ICML 2017, "On Calibration of Modern Neural Networks".
    """
    return _fit_logistic(scores_N, targets_N, free_intercept=False)


def fit_isotonic(scores_N: np.ndarray, targets_N: np.ndarray) -> Map:
    """The rising step function nearest to the targets in squared error; wants some hundreds of positives."""
    from sklearn.isotonic import IsotonicRegression

    fitted = IsotonicRegression(y_min=0, y_max=1).fit(scores_N.astype(np.float64), targets_N)
    return Steps(fitted.X_thresholds_, fitted.y_thresholds_)


CALIBRATORS: dict[str, Callable[[np.ndarray, np.ndarray], Map]] = {
    "platt": fit_platt,
    "temperature": fit_temperature,
    "isotonic": fit_isotonic,
}


@dataclass(frozen=True)
class Calibration:
    """One map a label, None where a label had too few positives or negatives and its scores stay as they are.

    method: a key of CALIBRATORS, or "none".
    """

    maps: list[Map | None]
    method: str

    def __call__(self, scores_NC: np.ndarray) -> np.ndarray:
        """Calibrated scores, float32 (N, C) in [0, 1]."""
        calibrated = scores_NC.astype(np.float32)
        for c, one_map in enumerate(self.maps):
            if one_map is not None:
                calibrated[:, c] = one_map(scores_NC[:, c])
        return calibrated

    def as_dicts(self) -> list[dict | None]:
        """One map a label, JSON-ready; [] where nothing is calibrated."""
        return [] if self.method == "none" else [one_map and one_map.as_dict() for one_map in self.maps]


def calibrate(
    scores_NC: np.ndarray, targets_NC: np.ndarray, known_NC: np.ndarray, method: str, *, min_support: int = 10
) -> Calibration:
    """Fit one map a label on known entries.

    scores_NC: float32 (N, C) in [0, 1], of images the model did not train on.  targets_NC: uint8 {0, 1}.
    known_NC: bool.  method: a key of CALIBRATORS, or "none".
    min_support: known positives and known negatives that a label needs.
    """
    if method == "none":
        return uncalibrated(scores_NC.shape[1])
    maps = []
    for c in range(scores_NC.shape[1]):
        known_N = known_NC[:, c]
        scores, targets = scores_NC[known_N, c], targets_NC[known_N, c]
        rarest = min(int(targets.sum()), int((1 - targets.astype(int)).sum()))
        maps.append(CALIBRATORS[method](scores, targets) if rarest >= max(min_support, 1) else None)
    return Calibration(maps, method)


def uncalibrated(num_labels: int) -> Calibration:
    """Every score stays as it is."""
    return Calibration([None] * num_labels, "none")


def logit(scores: np.ndarray, smallest: float = _SMALLEST) -> np.ndarray:
    """log(p / (1 - p)), float64, of scores that are kept `smallest` away from 0 and 1."""
    clipped = np.clip(scores.astype(np.float64), smallest, 1 - smallest)
    return np.log(clipped) - np.log1p(-clipped)


def softened_targets(targets_N: np.ndarray) -> np.ndarray:
    """(P + 1) / (P + 2) for each of P positives, 1 / (Q + 2) for each of Q negatives. Source: Platt 1999."""
    num_positives = int(targets_N.sum())
    num_negatives = len(targets_N) - num_positives
    return np.where(targets_N == 1, (num_positives + 1) / (num_positives + 2), 1 / (num_negatives + 2))


def _fit_logistic(scores_N: np.ndarray, targets_N: np.ndarray, *, free_intercept: bool) -> Logistic:
    """Least cross-entropy over slope >= 0 and, when free, the intercept."""
    from scipy.optimize import minimize

    logits = logit(scores_N)
    softened = softened_targets(targets_N)

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        z = parameters[0] * logits + parameters[1]
        error = 1 / (1 + np.exp(-z)) - softened
        return float(np.mean(np.logaddexp(0, z) - softened * z)), np.array([np.mean(error * logits), np.mean(error)])

    bounds = [(0, None), (None, None) if free_intercept else (0, 0)]
    slope, intercept = minimize(loss, np.array([1.0, 0.0]), jac=True, bounds=bounds, method="L-BFGS-B").x
    return Logistic(float(slope), float(intercept))
