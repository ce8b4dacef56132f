"""What a cleaning policy is: source scores and annotations in, one decision about every (image, label) pair out.

Axes: N images, C labels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from tasks.cleaning.weak_sources import SourceScores
from tasks.core.tables import ABSENT, PRESENT, UNKNOWN_STATE

KEEP, TO_PRESENT, TO_ABSENT, TO_UNKNOWN = range(4)
ACTIONS = ("kept", "made_present", "made_absent", "made_unknown")
"""Names of the actions, by code."""
STATE_AFTER = np.asarray([UNKNOWN_STATE, PRESENT, ABSENT, UNKNOWN_STATE], np.int8)
"""State by action; KEEP has none of its own."""


@dataclass(frozen=True)
class Decisions:
    """What a policy decides.

    action_NC: int8 (N, C), one of KEEP, TO_PRESENT, TO_ABSENT, TO_UNKNOWN.
    p_present_NC: float (N, C), probability that the label is present.
    p_wrong_NC: float (N, C) in [0, 1], probability that a person's verdict differs from the state after the action
        (where that is unknown, from the likelier state); a pair with 0 is never asked about.
    """

    action_NC: np.ndarray
    p_present_NC: np.ndarray
    p_wrong_NC: np.ndarray

    def counts(self) -> dict[str, int]:
        """Number of pairs by the name of the action."""
        num_by_action = np.bincount(self.action_NC.ravel(), minlength=len(ACTIONS))
        return dict(zip(ACTIONS, num_by_action.tolist(), strict=True))


Decide = Callable[[SourceScores, np.ndarray, np.ndarray], Decisions]
"""Source scores, labels uint8 {0, 1} as annotated and known bool of a batch of images -> the decisions about it."""


@dataclass(frozen=True)
class Answered:
    """Images about which people have given verdicts: what a policy sees of them, and the verdicts.

    states_NC: int8, 1 present, 0 absent, -1 no verdict, or nobody is sure.
    """

    source_scores: SourceScores
    labels_NC: np.ndarray
    known_NC: np.ndarray
    states_NC: np.ndarray


@dataclass(frozen=True)
class FittedPolicy:
    """Decides about any batch of images.

    labels: JSON-ready, what it learned of each label, in order; empty for nothing.  messages: what a person must know.
    fill_from_C: float (C,), P(present) from which a pair in a gap of annotation (core/gaps.py) becomes present without
        a person; None for a policy that changes nothing by itself.
    """

    decide: Decide
    labels: Sequence[dict] = ()
    messages: Sequence[str] = field(default_factory=tuple)
    fill_from_C: np.ndarray | None = None

    def __call__(self, source_scores: SourceScores, labels_NC: np.ndarray, known_NC: np.ndarray) -> Decisions:
        return self.decide(source_scores, labels_NC, known_NC)


class Policy(Protocol):
    """Built from its options in params.yaml, keyword-only."""

    def fit(
        self,
        source_scores: SourceScores,
        labels_NC: np.ndarray,
        known_NC: np.ndarray,
        answered: Answered | None = None,
    ) -> FittedPolicy:
        """Learn from these images. labels_NC: uint8 {0, 1}, as annotated.  known_NC: bool."""


def keep_annotations(source_scores: SourceScores, labels_NC: np.ndarray, known_NC: np.ndarray) -> Decisions:
    """The decisions of no policy at all: the annotations are believed."""
    zero_NC = np.zeros(labels_NC.shape)
    return Decisions(zero_NC.astype(np.int8), np.where(known_NC, labels_NC, 0.5), zero_NC)
