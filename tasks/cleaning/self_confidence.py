"""The model alone: a person is asked about the annotations that it finds least likely, the largest losses first.

Source: Northcutt et al., JAIR 2021; cleanlab's multi-label scores per label.
"""

from __future__ import annotations

import numpy as np

from tasks.cleaning.base import KEEP, Answered, Decisions, FittedPolicy
from tasks.cleaning.weak_sources import SourceScores


class SelfConfidence:
    """Ranks annotations by the model's self-confidence; changes nothing by itself."""

    def fit(
        self,
        source_scores: SourceScores,
        labels_NC: np.ndarray,
        known_NC: np.ndarray,
        answered: Answered | None = None,
    ) -> FittedPolicy:
        """There is nothing to learn."""
        return FittedPolicy(self.decide)

    def decide(self, source_scores: SourceScores, labels_NC: np.ndarray, known_NC: np.ndarray) -> Decisions:
        """p_present_NC is the model's score, 0.5 where it abstains."""
        p_wrong_NC = 1 - self_confidence(source_scores.model_NC, labels_NC, known_NC)
        p_present_NC = np.nan_to_num(source_scores.model_NC, nan=0.5)
        return Decisions(np.full(labels_NC.shape, KEEP, np.int8), p_present_NC, p_wrong_NC)


def self_confidence(pred_probs_NC: np.ndarray, labels_NC: np.ndarray, known_NC: np.ndarray) -> np.ndarray:
    """The model's probability of what is annotated, 1 where nothing is or the model abstains (NaN); float (N, C).

    labels_NC: {0, 1}, as annotated.  known_NC: bool.
    Its negative logarithm is the pair's cross-entropy, so "large loss" ranks pairs in the same order.
    """
    confidence_NC = np.where(labels_NC == 1, pred_probs_NC, 1 - pred_probs_NC)
    return np.where(known_NC & ~np.isnan(pred_probs_NC), confidence_NC, 1.0)
