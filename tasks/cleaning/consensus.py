"""The default policy: all weak label sources and the annotation together, each as reliable as it shows itself to be."""

from __future__ import annotations

import numpy as np

from tasks.cleaning.base import KEEP, TO_ABSENT, TO_PRESENT, TO_UNKNOWN, Decide, Decisions
from tasks.cleaning.noise import error_probability, fit_noise
from tasks.cleaning.weak_sources import SourceScores


class Consensus:
    """Acts on P(annotation wrong) by the noise model (noise.py).

    accept: P(annotation wrong) from which it is changed without a person, (0.5, 1].
    unknown_from: P(annotation wrong) from which an unchanged one is unknown until a person has looked, (0, accept].
    """

    def __init__(self, *, accept: float = 0.6, unknown_from: float = 0.25) -> None:
        if not 0.5 < accept <= 1 or not 0 < unknown_from <= accept:
            raise ValueError(
                f"accept must lie in (0.5, 1] and unknown_from in (0, accept], found {accept} and {unknown_from}"
            )
        self.accept, self.unknown_from = accept, unknown_from

    def fit(self, source_scores: SourceScores, labels_NC: np.ndarray, known_NC: np.ndarray) -> Decide:
        """Fit the noise model. labels_NC: uint8 {0, 1}, as annotated.  known_NC: bool."""
        model = fit_noise(source_scores.all_NC, labels_NC, known_NC)

        def decide(scores: SourceScores, labels_BC: np.ndarray, known_BC: np.ndarray) -> Decisions:
            return self.from_probability(model.p_present(scores.all_NC, labels_BC, known_BC), labels_BC, known_BC)

        return decide

    def from_probability(self, p_present_NC: np.ndarray, labels_NC: np.ndarray, known_NC: np.ndarray) -> Decisions:
        """Decisions from P(present)."""
        p_error_NC = error_probability(p_present_NC, labels_NC, known_NC)
        sure_NC = p_error_NC >= self.accept
        action_NC = np.full(labels_NC.shape, KEEP, np.int8)
        action_NC[p_error_NC >= self.unknown_from] = TO_UNKNOWN
        action_NC[sure_NC & (labels_NC == 0)] = TO_PRESENT
        action_NC[sure_NC & (labels_NC == 1)] = TO_ABSENT
        p_wrong_NC = np.where(known_NC & ~sure_NC, p_error_NC, np.minimum(p_present_NC, 1 - p_present_NC))
        return Decisions(action_NC, p_present_NC, p_wrong_NC)
