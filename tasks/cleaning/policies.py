"""Cleaning policies: which annotations change by themselves, which become unknown, which a person is asked about.

POLICIES maps a name to a class built from its options. `policy.fit(opinions, targets_NC, known_NC)` learns from some of
the images what it must know of all, and returns what decides about any block of them: a Decide. To add one: a class
here and an entry in the dict.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tasks.cleaning.noise import error_probability, fit_noise, self_confidence
from tasks.cleaning.weak_sources import SourceScores, top_labels
from tasks.core.tables import ABSENT, PRESENT, UNKNOWN_STATE

KEEP, TO_PRESENT, TO_ABSENT, TO_UNKNOWN = 0, 1, 2, 3
STATE_AFTER = np.asarray([UNKNOWN_STATE, PRESENT, ABSENT, UNKNOWN_STATE], np.int8)
"""By action; KEEP has none of its own."""


@dataclass(frozen=True)
class Cleaned:
    """What a policy decides.

    action_NC: int8 (N, C), one of KEEP, TO_PRESENT, TO_ABSENT, TO_UNKNOWN.
    present_NC: float (N, C), probability that the label is present.
    doubt_NC: float (N, C) in [0, 1], probability that a person's verdict differs from the cleaned data (where these are
        unknown, from the better guess); 0 is never asked.
    """

    action_NC: np.ndarray
    present_NC: np.ndarray
    doubt_NC: np.ndarray


Decide = Callable[[SourceScores, np.ndarray, np.ndarray], Cleaned]
"""opinions, targets uint8 and known bool of a block of images -> what is decided about it."""


def nothing_to_do(opinions: SourceScores, targets_NC: np.ndarray, known_NC: np.ndarray) -> Cleaned:
    """The decisions of no policy at all: the annotations are believed."""
    none_NC = np.zeros(targets_NC.shape)
    return Cleaned(none_NC.astype(np.int8), np.where(known_NC, targets_NC, 0.5), none_NC)


def keep_implied_parents(
    decided: Cleaned, targets_NC: np.ndarray, known_NC: np.ndarray, kinds_C: Sequence[Sequence[int]]
) -> Cleaned:
    """`decided`, but a whole is kept where a kind of it is present afterwards: the whole follows from the kind.

    kinds_C: of each label, the columns of those that imply it.
    """
    action_NC = decided.action_NC.copy()
    kept_NC = (action_NC == KEEP) & known_NC & (targets_NC == 1)
    after_NC = kept_NC | (action_NC == TO_PRESENT)
    for whole, kinds in enumerate(kinds_C):
        gone_N = np.isin(action_NC[:, whole], (TO_ABSENT, TO_UNKNOWN))
        action_NC[gone_N & after_NC[:, list(kinds)].any(axis=1), whole] = KEEP
    return replace(decided, action_NC=action_NC)


class Consensus:
    """All opinions and the annotation itself, each as a witness as reliable as it shows itself to be (noise.py).

    accept: P(annotation wrong) from which it is changed without a person, (0.5, 1].
    doubt: P(annotation wrong) from which an unchanged one is unknown until a person has looked, (0, accept].
    """

    def __init__(self, *, accept: float = 0.6, doubt: float = 0.25) -> None:
        if not 0.5 < accept <= 1 or not 0 < doubt <= accept:
            raise ValueError(f"accept must lie in (0.5, 1] and doubt in (0, accept], found {accept} and {doubt}")
        self.accept, self.doubt = accept, doubt

    def fit(self, opinions: SourceScores, targets_NC: np.ndarray, known_NC: np.ndarray) -> Decide:
        """targets_NC uint8 and known_NC bool, as annotated."""
        model = fit_noise(opinions.all_NC, targets_NC, known_NC)
        return lambda heard, targets, known: self.from_probability(
            model.present(heard.all_NC, targets, known), targets, known
        )

    def from_probability(self, present_NC: np.ndarray, targets_NC: np.ndarray, known_NC: np.ndarray) -> Cleaned:
        """Decisions from P(present)."""
        wrong_NC = error_probability(present_NC, targets_NC, known_NC)
        sure_NC = wrong_NC >= self.accept
        action_NC = np.full(targets_NC.shape, KEEP, np.int8)
        action_NC[wrong_NC >= self.doubt] = TO_UNKNOWN
        action_NC[sure_NC & (targets_NC == 0)] = TO_PRESENT
        action_NC[sure_NC & (targets_NC == 1)] = TO_ABSENT
        doubt_NC = np.where(known_NC & ~sure_NC, wrong_NC, np.minimum(present_NC, 1 - present_NC))
        return Cleaned(action_NC, present_NC, doubt_NC)


class Album:
    """The album pipeline's rule: existing labels, the model's top 5 above 0.5 and the vendor's, for a person to judge.

    Nothing changes by itself. Source: the industrial album-tagging pipeline, step "label completion".
    """

    def __init__(self, *, top_k: int = 5, min_score: float = 0.5) -> None:
        if top_k < 1 or not 0 <= min_score <= 1:
            raise ValueError(f"top_k must be >= 1 and min_score in [0, 1], found {top_k} and {min_score}")
        self.top_k, self.min_score = top_k, min_score

    def fit(self, opinions: SourceScores, targets_NC: np.ndarray, known_NC: np.ndarray) -> Decide:
        """There is nothing to learn."""
        return self.decide

    def decide(self, opinions: SourceScores, targets_NC: np.ndarray, known_NC: np.ndarray) -> Cleaned:
        """present_NC is the share of the sources that propose the label."""
        by_model_NC = top_labels(opinions.model_NC, top_k=self.top_k, min_score=self.min_score)
        votes = [by_model_NC, *(np.nan_to_num(scores_NC) > 0 for scores_NC in opinions.others_NC)]
        present_NC = np.mean(votes, axis=0)
        proposed_NC = (present_NC > 0) & ~(known_NC & (targets_NC == 1))
        return Cleaned(np.full(targets_NC.shape, KEEP, np.int8), present_NC, np.where(proposed_NC, present_NC, 0.0))


class SelfConfidence:
    """The model alone: a person is asked about the annotations that it finds least likely, the largest losses first.

    Nothing changes by itself. Source: Northcutt et al., JAIR 2021; cleanlab's multi-label scores per label.
    """

    def fit(self, opinions: SourceScores, targets_NC: np.ndarray, known_NC: np.ndarray) -> Decide:
        """There is nothing to learn."""
        return self.decide

    def decide(self, opinions: SourceScores, targets_NC: np.ndarray, known_NC: np.ndarray) -> Cleaned:
        """present_NC is the model's score, 0.5 where it is silent."""
        doubt_NC = 1 - self_confidence(opinions.model_NC, targets_NC, known_NC)
        present_NC = np.nan_to_num(opinions.model_NC, nan=0.5)
        return Cleaned(np.full(targets_NC.shape, KEEP, np.int8), present_NC, doubt_NC)


POLICIES = {"consensus": Consensus, "album": Album, "self_confidence": SelfConfidence}
