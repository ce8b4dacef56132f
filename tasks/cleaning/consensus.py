"""The default policy: all weak label sources and the annotation together, each as reliable as it shows itself to be.

It changes an annotation by itself only where it has reason to expect that it is right about it (automatic.py); the rest
it makes unknown or leaves to a person.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from tasks.cleaning.answers import with_answers
from tasks.cleaning.automatic import LabelBounds, Limits, bounds_of, messages_of, rows_of
from tasks.cleaning.base import KEEP, TO_ABSENT, TO_PRESENT, TO_UNKNOWN, Answered, Decisions, FittedPolicy
from tasks.cleaning.noise import NoiseModel, error_probability, fit_noise
from tasks.cleaning.weak_sources import SourceScores


class Consensus:
    """Acts on P(annotation wrong) by the noise model (noise.py).

    accept: P(annotation wrong) from which it is changed without a person, (0.5, 1].
    unknown_from: P(annotation wrong) from which an unchanged one is unknown until a person has looked, (0, accept].
    precision: share of the automatic changes of a label that must be expected to be right, [0, 1].
    max_loss: share of a label's positives that may become absent or unknown without a person, [0, 1]; more than a
        quarter only where the annotators' rates say that more of them are false.
    min_images: fewer images, and nothing is changed.  min_positives: fewer of a label, and it is not changed.
    skill: average precision above chance that the sources must have on a label, at the lower end of its interval; more
        where all of them have learned from the annotations.
    """

    def __init__(
        self,
        *,
        accept: float = 0.6,
        unknown_from: float = 0.25,
        precision: float = 0.9,
        max_loss: float = 0.5,
        min_images: int = 200,
        min_positives: int = 20,
        skill: float = 0.2,
    ) -> None:
        if not 0.5 < accept <= 1 or not 0 < unknown_from <= accept:
            raise ValueError(
                f"accept must lie in (0.5, 1] and unknown_from in (0, accept], found {accept} and {unknown_from}"
            )
        if not all(0 <= share <= 1 for share in (precision, max_loss, skill)):
            raise ValueError(
                f"precision, max_loss and skill must lie in [0, 1], found {precision}, {max_loss} and {skill}"
            )
        self.accept, self.unknown_from = accept, unknown_from
        self.limits = Limits(accept, unknown_from, precision, max_loss, min_images, min_positives, skill)

    def fit(
        self,
        source_scores: SourceScores,
        labels_NC: np.ndarray,
        known_NC: np.ndarray,
        answered: Answered | None = None,
    ) -> FittedPolicy:
        """Fit the noise model, then find how far it may act on each label. Arguments as for `Policy.fit`."""
        model = fit_noise(source_scores.all_NC, labels_NC, known_NC)
        model = replace(model, independent_C=_has_independent(model.repeats, source_scores))
        if answered is not None:
            model = with_answers(model, answered)
        bounds = bounds_of(model, self.limits, source_scores, labels_NC, known_NC)
        rows = rows_of(model, bounds, answered)
        fill_from_C = np.array([np.inf if why else self.limits.precision for why in bounds.why])
        return FittedPolicy(_Decide(model, bounds), rows, messages_of(model, bounds), fill_from_C)


def _has_independent(repeats: Sequence[bool], source_scores: SourceScores) -> np.ndarray:
    """bool (C,): a vendor, detector or keyword that repeats no annotations scores half of the label's pairs."""
    independent_C = np.zeros(source_scores.model_NC.shape[1], bool)
    for scores_NC, repeated in zip(source_scores.others_NC, repeats[1:], strict=False):
        if not repeated and len(scores_NC):
            independent_C |= (~np.isnan(scores_NC)).mean(axis=0) >= 0.5
    return independent_C


@dataclass(frozen=True)
class _Decide:
    model: NoiseModel
    bounds: LabelBounds

    def __call__(self, scores: SourceScores, labels_BC: np.ndarray, known_BC: np.ndarray) -> Decisions:
        return act(self.model.p_present(scores.all_NC, labels_BC, known_BC), labels_BC, known_BC, self.bounds)


def act(p_present_NC: np.ndarray, labels_NC: np.ndarray, known_NC: np.ndarray, bounds: LabelBounds) -> Decisions:
    """Decisions from P(present): changed from `bounds.change_2C` on, unknown from `bounds.unknown_2C` on."""
    p_error_NC = error_probability(p_present_NC, labels_NC, known_NC)
    change_NC, unknown_NC = (np.where(labels_NC == 1, b[1], b[0]) for b in (bounds.change_2C, bounds.unknown_2C))
    sure_NC = known_NC & (p_error_NC >= change_NC)
    action_NC = np.full(labels_NC.shape, KEEP, np.int8)
    action_NC[known_NC & (p_error_NC >= unknown_NC)] = TO_UNKNOWN
    action_NC[sure_NC & (labels_NC == 0)] = TO_PRESENT
    action_NC[sure_NC & (labels_NC == 1)] = TO_ABSENT
    p_wrong_NC = np.where(known_NC & ~sure_NC, p_error_NC, np.minimum(p_present_NC, 1 - p_present_NC))
    return Decisions(action_NC, p_present_NC, p_wrong_NC)
