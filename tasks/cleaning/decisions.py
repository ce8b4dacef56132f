"""A policy over all images of the annotated partitions, a batch at a time.

Axes: N images, B images of a batch, V images with a verdict, C labels.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tasks.cleaning.base import (
    KEEP,
    TO_ABSENT,
    TO_PRESENT,
    TO_UNKNOWN,
    Answered,
    Decisions,
    FittedPolicy,
    Policy,
    keep_annotations,
)
from tasks.cleaning.noise import error_probability, rows_to_fit
from tasks.cleaning.weak_sources import WeakSources
from tasks.core.gaps import Gap, mask_of
from tasks.core.states import States
from tasks.taxonomy.taxonomy import Taxonomy

logger = logging.getLogger(__name__)

TURNED_OFF = "turned off in params.yaml; only people's verdicts change annotations"
UNKNOWN_IN_GAP = 0.25  # P(present) from which an absence in a gap of annotation is not believed
BATCH_ENTRIES = 5_000_000  # (image, label) pairs held in memory at a time


def labels_to_clean(taxonomy: Taxonomy) -> list[str]:
    """Labels that a policy decides about: all but those with exhaustive children, which follow from them."""
    return [label.id for label in taxonomy.labels if not label.exhaustive_children]


@dataclass(frozen=True)
class PolicyOverImages:
    """A fitted policy, and the images it is about.

    only_asked_N: bool, images that it does not change and only asks about.  gap_NC: bool, pairs in a gap of annotation;
    only_asked_NC: bool, those of them that it makes unknown at most.
    """

    fitted: FittedPolicy
    sources: WeakSources
    states: States
    taxonomy: Taxonomy
    only_asked_N: np.ndarray
    gap_NC: np.ndarray
    only_asked_NC: np.ndarray

    def decide(self, rows: np.ndarray) -> Decisions:
        """About the images at these positions, int64 (B,)."""
        states = self.states.take(rows)
        labels_BC, known_BC, gap_BC = states.targets_NC, states.known_NC, self.gap_NC[rows]
        decisions = self.fitted(self.sources.scores(rows), labels_BC, known_BC & ~gap_BC)
        decisions = decide_in_gaps(decisions, gap_BC, self.fitted.fill_from_C, self.only_asked_NC[rows])
        decisions = keep_implied_parents(decisions, labels_BC, known_BC, self._descendants())
        return without_actions(decisions, self.only_asked_N[rows], labels_BC, known_BC)

    def _descendants(self) -> list[list[int]]:
        """Of each label, the columns of those that imply it."""
        column = {label: c for c, label in enumerate(self.states.labels)}
        return [[column[d] for d in self.taxonomy.descendants[label] if d in column] for label in self.states.labels]

    @property
    def messages(self) -> list[str]:
        return list(self.fitted.messages)

    def report(self) -> dict:
        """JSON-ready: what the policy learned of each label, and what a person must know."""
        rows = zip(self.states.labels, self.fitted.labels, strict=False)
        return {"labels": dict(rows), "messages": self.messages}


def fit_policy(
    policy: Policy | None,
    sources: WeakSources,
    states: States,
    taxonomy: Taxonomy,
    *,
    answered: tuple[np.ndarray, np.ndarray] | None = None,
    only_asked: Collection[str] = (),
    gaps: Sequence[Gap] = (),
) -> PolicyOverImages:
    """Let a policy learn from (some of) the images. policy: None believes the annotations.

    only_asked: ids of images that the policy does not change.
    answered: positions int64 (V,) of images with a verdict, and the verdicts (V, C) as `Answered.states_NC`.
    gaps: of annotation; to the policy the pairs in them are unknown.
    """
    fitted = FittedPolicy(keep_annotations, messages=[TURNED_OFF])
    gap_NC, only_asked_NC = (
        mask_of(those if policy is not None else (), states) for those in (gaps, [g for g in gaps if g.only_asked])
    )
    if policy is not None:
        sample = rows_to_fit(*states.states_NC.shape)
        seen = None
        if answered is not None and len(answered[0]):
            rows, states_VC = answered
            given = states.take(rows)
            known_VC = given.known_NC & ~gap_NC[rows]
            seen = Answered(sources.scores(rows), given.targets_NC, known_VC, states_VC)
        given = states.take(sample)
        known_MC = given.known_NC & ~gap_NC[sample]
        fitted = policy.fit(sources.scores(sample), given.targets_NC, known_MC, seen)
    fate = "an absence there is not believed" if policy else "clean.enabled: true would not believe an absence there"
    fitted = replace(fitted, messages=[*fitted.messages, *(f"{gap}; {fate}" for gap in gaps)])
    if policy is not None or gaps:
        for message in fitted.messages:
            logger.warning("clean: %s", message)
    only_asked_N = np.isin(states.image_ids, list(only_asked)) if only_asked else np.zeros(len(states.image_ids), bool)
    return PolicyOverImages(fitted, sources, states, taxonomy, only_asked_N, gap_NC, only_asked_NC)


def decide_in_gaps(
    decisions: Decisions, gap_NC: np.ndarray, fill_from_C: np.ndarray | None, only_asked_NC: np.ndarray
) -> Decisions:
    """The decisions of a policy to which the pairs in a gap were unknown, and what becomes of these by P(present).

    fill_from_C: float (C,), P(present) from which such a pair becomes present; None for a policy that only asks. From
    UNKNOWN_IN_GAP on it becomes unknown; below, the absence stands.  only_asked_NC: bool, pairs that become unknown at
    most.
    """
    if not gap_NC.any():
        return decisions
    p_NC = decisions.p_present_NC
    if fill_from_C is None:
        action_NC = np.full(p_NC.shape, KEEP, np.int8)
    else:
        action_NC = np.select(
            [(p_NC >= fill_from_C) & ~only_asked_NC, p_NC >= UNKNOWN_IN_GAP], [TO_PRESENT, TO_UNKNOWN], KEEP
        )
    p_wrong_NC = np.where(action_NC == TO_PRESENT, 1 - p_NC, p_NC)
    return Decisions(
        np.where(gap_NC, action_NC, decisions.action_NC).astype(np.int8),
        p_NC,
        np.where(gap_NC, p_wrong_NC, decisions.p_wrong_NC),
    )


def keep_implied_parents(
    decisions: Decisions, labels_NC: np.ndarray, known_NC: np.ndarray, descendants_C: Sequence[Sequence[int]]
) -> Decisions:
    """The decisions, but a label is kept where one that implies it is present afterwards, since it follows from that.

    descendants_C: of each label, the columns of those that imply it.
    """
    action_NC = decisions.action_NC.copy()
    kept_NC = (action_NC == KEEP) & known_NC & (labels_NC == 1)
    present_after_NC = kept_NC | (action_NC == TO_PRESENT)
    for parent, descendants in ((p, d) for p, d in enumerate(descendants_C) if d):
        removed_N = np.isin(action_NC[:, parent], (TO_ABSENT, TO_UNKNOWN))
        action_NC[removed_N & present_after_NC[:, list(descendants)].any(axis=1), parent] = KEEP
    return replace(decisions, action_NC=action_NC)


def without_actions(
    decisions: Decisions, images_N: np.ndarray, labels_NC: np.ndarray, known_NC: np.ndarray
) -> Decisions:
    """The decisions, but nothing is changed on these images; what would have been is asked. images_N: bool."""
    if not images_N.any():
        return decisions
    undone_NC = images_N[:, None] & (decisions.action_NC != KEEP)
    p_error_NC = error_probability(decisions.p_present_NC, labels_NC, known_NC)
    return replace(
        decisions,
        action_NC=np.where(undone_NC, KEEP, decisions.action_NC).astype(np.int8),
        p_wrong_NC=np.where(undone_NC, p_error_NC, decisions.p_wrong_NC),
    )


def batches(states: States) -> list[np.ndarray]:
    """Positions of all images, int64, in runs of about BATCH_ENTRIES pairs."""
    num_images, num_labels = states.states_NC.shape
    return np.array_split(np.arange(num_images), -(-num_images * num_labels // BATCH_ENTRIES) or 1)
