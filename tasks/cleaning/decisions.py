"""A policy over all images of the annotated partitions, a batch at a time.

Axes: N images, B images of a batch, C labels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from tasks.cleaning.base import KEEP, TO_ABSENT, TO_PRESENT, TO_UNKNOWN, Decisions, Policy, keep_annotations
from tasks.cleaning.noise import rows_to_fit
from tasks.cleaning.weak_sources import WeakSources
from tasks.core.states import States
from tasks.taxonomy.taxonomy import Taxonomy

BATCH_ENTRIES = 10_000_000  # (image, label) pairs held in memory at a time


def labels_to_clean(taxonomy: Taxonomy) -> list[str]:
    """Labels that a policy decides about: all but those with exhaustive children, which follow from them."""
    return [label.id for label in taxonomy.labels if not label.exhaustive_children]


def fit_policy(
    policy: Policy | None, sources: WeakSources, states: States, taxonomy: Taxonomy
) -> Callable[[np.ndarray], Decisions]:
    """What decides about the images at given positions, int64 (B,). policy: None believes the annotations."""
    decide = keep_annotations
    if policy is not None:
        sample = rows_to_fit(*states.states_NC.shape)
        decide = policy.fit(sources.scores(sample), states.targets_NC[sample], states.known_NC[sample])
    column = {label: c for c, label in enumerate(states.labels)}
    descendants_C = [[column[d] for d in taxonomy.descendants[label] if d in column] for label in states.labels]

    def decide_rows(rows: np.ndarray) -> Decisions:
        labels_BC, known_BC = states.targets_NC[rows], states.known_NC[rows]
        decisions = decide(sources.scores(rows), labels_BC, known_BC)
        return keep_implied_parents(decisions, labels_BC, known_BC, descendants_C)

    return decide_rows


def keep_implied_parents(
    decisions: Decisions, labels_NC: np.ndarray, known_NC: np.ndarray, descendants_C: Sequence[Sequence[int]]
) -> Decisions:
    """The decisions, but a label is kept where one that implies it is present afterwards, since it follows from that.

    descendants_C: of each label, the columns of those that imply it.
    """
    action_NC = decisions.action_NC.copy()
    kept_NC = (action_NC == KEEP) & known_NC & (labels_NC == 1)
    present_after_NC = kept_NC | (action_NC == TO_PRESENT)
    for parent, descendants in enumerate(descendants_C):
        removed_N = np.isin(action_NC[:, parent], (TO_ABSENT, TO_UNKNOWN))
        action_NC[removed_N & present_after_NC[:, list(descendants)].any(axis=1), parent] = KEEP
    return replace(decisions, action_NC=action_NC)


def batches(states: States) -> list[np.ndarray]:
    """Positions of all images, int64, in runs of about BATCH_ENTRIES pairs."""
    num_images, num_labels = states.states_NC.shape
    return np.array_split(np.arange(num_images), -(-num_images * num_labels // BATCH_ENTRIES) or 1)
