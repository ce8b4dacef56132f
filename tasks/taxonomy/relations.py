"""The taxonomy's relations at inference: implications and exclusions over a model's scores and decisions.

N images, C labels in the model's order. The exported file applies and lists the implications (export/onnx_file.py,
export/manifest.py); it knows no exclusions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from tasks.taxonomy.taxonomy import Taxonomy


@dataclass(frozen=True)
class Relations:
    """What follows from what, by column.

    implications: (child, ancestor), all of them, not only direct ones.
    exclusions: (a, b) with a < b, those that follow from others included.
    """

    implications: tuple[tuple[int, int], ...]
    exclusions: tuple[tuple[int, int], ...]


def relations_of(taxonomy: Taxonomy, labels: Sequence[str]) -> Relations:
    """Relations among `labels` (a model's columns). Labels that the taxonomy does not have take no part."""
    column = {label: c for c, label in enumerate(labels) if label in taxonomy.index}
    implications = {(column[x], column[a]) for x in column for a in taxonomy.ancestors[x] if a in column}
    exclusions = {tuple(sorted((column[a], column[b]))) for a, b in taxonomy.exclusions if a in column and b in column}
    return Relations(tuple(sorted(implications)), tuple(sorted(exclusions)))


def apply_implications(values_NC: np.ndarray, relations: Relations | Taxonomy) -> np.ndarray:
    """Each label at least as present as everything that implies it; a copy.

    values_NC: scores, float (N, C), or decisions, bool (N, C).
    relations: of these columns; the taxonomy itself will do where the columns are its labels in its order.
    The result is the smallest consistent one that lowers nothing: parent = max over itself and its descendants.
    """
    values_CN = np.array(values_NC.T, order="C")
    original_CN = values_CN.copy()
    for child, ancestor in relations.implications:  # the pairs are transitively closed, so their order is free
        np.maximum(values_CN[ancestor], original_CN[child], out=values_CN[ancestor])
    return np.ascontiguousarray(values_CN.T)


def apply_exclusions(decisions_NC: np.ndarray, scores_NC: np.ndarray, relations: Relations) -> np.ndarray:
    """Decisions without pairs that exclude each other: best score first, a label stays if no label kept forbids it.

    decisions_NC: bool (N, C).  scores_NC: float (N, C); what ranks the labels, e.g. score minus the label's threshold.
    Equal scores: the earlier column stays. Together with a label go those that imply it, since the exclusions of a
    label hold for its descendants. Returns a copy.
    """
    decisions_NC = decisions_NC.copy()
    if not relations.exclusions:
        return decisions_NC
    a, b = np.asarray(relations.exclusions).T
    rivals: dict[int, list[int]] = {}
    for x, y in relations.exclusions:
        rivals.setdefault(x, []).append(y)
        rivals.setdefault(y, []).append(x)
    for n in np.flatnonzero((decisions_NC[:, a] & decisions_NC[:, b]).any(axis=1)):
        decided = np.flatnonzero(decisions_NC[n])
        for c in decided[np.argsort(-scores_NC[n, decided], kind="stable")]:
            if decisions_NC[n, c]:  # not yet forbidden by a better one
                decisions_NC[n, rivals.get(c, [])] = False
    return decisions_NC


def apply_relations(decisions_NC: np.ndarray, scores_NC: np.ndarray, relations: Relations) -> np.ndarray:
    """Consistent decisions: implications, then exclusions; bool (N, C).

    decisions_NC: bool (N, C).  scores_NC: float (N, C), see `apply_exclusions`.
    A label that a descendant made present is ranked by the better of the two scores, and is not kept without cause:
    where the only descendants that implied it lose against a rival, it loses too.
    """
    implied_NC = apply_implications(decisions_NC, relations)
    ranking_NC = apply_implications(np.where(decisions_NC, scores_NC, -np.inf), relations)
    kept_NC = apply_exclusions(implied_NC, ranking_NC, relations)
    return apply_implications(kept_NC & decisions_NC, relations)
