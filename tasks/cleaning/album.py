"""The album pipeline's rule: annotations, the model's top 5 above 0.5 and the vendor's labels, for a person to judge.

Source: the industrial album-tagging pipeline, step "label completion".
"""

from __future__ import annotations

import numpy as np

from tasks.cleaning.base import KEEP, Answered, Decisions, FittedPolicy
from tasks.cleaning.weak_sources import SourceScores, top_labels


class Album:
    """Proposes labels; changes nothing by itself.

    top_k, min_score: of a model's labels on one image, those among its `top_k` highest scores and above `min_score`.
    """

    def __init__(self, *, top_k: int = 5, min_score: float = 0.5) -> None:
        if top_k < 1 or not 0 <= min_score <= 1:
            raise ValueError(f"top_k must be >= 1 and min_score in [0, 1], found {top_k} and {min_score}")
        self.top_k, self.min_score = top_k, min_score

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
        """p_present_NC is the share of the sources that propose the label."""
        by_model_NC = top_labels(source_scores.model_NC, top_k=self.top_k, min_score=self.min_score)
        votes = [by_model_NC, *(np.nan_to_num(scores_NC) > 0 for scores_NC in source_scores.others_NC)]
        share_NC = np.mean(votes, axis=0)
        proposed_NC = (share_NC > 0) & ~(known_NC & (labels_NC == 1))
        return Decisions(np.full(labels_NC.shape, KEEP, np.int8), share_NC, np.where(proposed_NC, share_NC, 0.0))
