"""Opinions about labels, from whatever has one: models, vendors, detectors, keywords, neighbours.

Axes: N images, C labels, D features. A proposal is a row "this origin thinks that the label is present"; an opinion is
the same as a matrix, float (N, C) in [0, 1], 0 where the origin looked and did not name the label, NaN where it is
silent. Neither makes a label known.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks import matrices, tables

KEYWORD = "keyword"
NUM_NEIGHBOURS = 15
MOST_REFERENCES = 20_000  # images among which neighbours are sought; more are thinned evenly
_ROWS_PER_BLOCK = 1024


@dataclass(frozen=True)
class Opinions:
    """What the policies of cleaning.py may listen to.

    model_NC: out-of-fold scores.  others_NC: vendors, detectors and keywords, one matrix an origin.
    neighbours_NC: share of an image's neighbours that have the label; all NaN without embeddings.
    """

    model_NC: np.ndarray
    others_NC: tuple[np.ndarray, ...]
    neighbours_NC: np.ndarray

    @property
    def all_NC(self) -> list[np.ndarray]:
        return [self.model_NC, *self.others_NC, self.neighbours_NC]


def opinions_of(
    dense: matrices.DenseLabels, crossfit: matrices.Predictions, proposals: pa.Table, spoken: pa.Table
) -> Opinions:
    """Every opinion about the images and labels of `dense`.

    crossfit: out-of-fold scores, and embeddings of one model; images that it lacks get no opinion.
    proposals: LABELS.  spoken: (origin, label) that the origin's vocabulary can name.
    """
    row_of = {image_id: row for row, image_id in enumerate(crossfit.image_ids)}
    rows = np.asarray([row_of.get(image_id, -1) for image_id in dense.image_ids], np.int64)
    there = np.flatnonzero(rows >= 0)
    model_NC, neighbours_NC = np.full((2, *dense.targets_NC.shape), np.nan)
    columns = [crossfit.labels.index(label) for label in dense.labels]
    model_NC[there] = crossfit.scores_NC[np.ix_(rows[there], columns)]
    if crossfit.embeddings_ND is not None:
        embeddings_ND = crossfit.embeddings_ND[rows[there]]
        neighbours_NC[there] = neighbour_share(embeddings_ND, dense.targets_NC[there], dense.known_NC[there])
    others_NC = tuple(_origin_opinions(proposals, spoken, dense.image_ids, dense.labels))
    return Opinions(model_NC, others_NC, neighbours_NC)


def _origin_opinions(
    proposals: pa.Table, spoken: pa.Table, image_ids: Sequence[str], labels: Sequence[str]
) -> Iterator[np.ndarray]:
    """Each origin's confidence, by name; silent on images that it never mentions and labels that it cannot name.

    A keyword under which an image was found says nothing about the other keywords.
    """
    for origin in sorted(pc.unique(proposals["origin"]).to_pylist()):
        rows = proposals.filter(pc.equal(proposals["origin"], origin))
        names = set(spoken.filter(pc.equal(spoken["source"], origin))["label"].to_pylist())
        heard_N = pc.is_in(pa.array(image_ids, pa.string()), pc.unique(rows["image_id"])).to_numpy(zero_copy_only=False)
        heard_C = np.asarray([label in names for label in labels], bool)
        scores_NC = matrices.dense_scores(rows, image_ids, labels)
        heard_NC = heard_N[:, None] & heard_C
        yield np.where(heard_NC & (scores_NC > 0) if origin == KEYWORD else heard_NC, scores_NC, np.nan)


def neighbour_share(
    embeddings_ND: np.ndarray, targets_NC: np.ndarray, known_NC: np.ndarray, *, num: int = NUM_NEIGHBOURS
) -> np.ndarray:
    """Share of each image's nearest images, by cosine, on which the label is present; float (N, C).

    The image itself does not count, nor do neighbours on which the label is unknown; NaN where none is left.
    embeddings_ND: float, of one model, so that distances mean something.
    """
    centred_ND = embeddings_ND - embeddings_ND.mean(axis=0) if len(embeddings_ND) else embeddings_ND
    unit_ND = (centred_ND / np.maximum(np.linalg.norm(centred_ND, axis=1, keepdims=True), 1e-12)).astype(np.float32)
    references = np.unique(np.linspace(0, len(unit_ND) - 1, min(len(unit_ND), MOST_REFERENCES)).astype(np.int64))
    num = min(num, len(references) - 1)
    share_NC = np.full(targets_NC.shape, np.nan)
    if num < 1:
        return share_NC
    present_RC = (targets_NC[references] == 1) & known_NC[references]
    for start in range(0, len(unit_ND), _ROWS_PER_BLOCK):
        rows = np.arange(start, min(start + _ROWS_PER_BLOCK, len(unit_ND)))
        similarity_BR = unit_ND[rows] @ unit_ND[references].T
        similarity_BR[rows[:, None] == references] = -np.inf
        nearest_BK = np.argpartition(-similarity_BR, num - 1, axis=1)[:, :num]
        num_known_BC = known_NC[references][nearest_BK].sum(axis=1)
        num_present_BC = present_RC[nearest_BK].sum(axis=1)
        share_NC[rows] = np.where(num_known_BC > 0, num_present_BC / np.maximum(num_known_BC, 1), np.nan)
    return share_NC


def model_proposals(
    predictions: matrices.Predictions, *, origin: str, top_k: int = 5, min_score: float = 0.5
) -> pa.Table:
    """LABELS rows of what a model would add: its `top_k` labels of each image that score above `min_score`.

    Source: label completion of the album pipeline (top 5 above 0.5).
    """
    proposed_NC = top_labels(predictions.scores_NC, top_k=top_k, min_score=min_score)
    n, c = np.nonzero(proposed_NC)
    ids, labels = pa.array(predictions.image_ids, pa.string()), pa.array(predictions.labels, pa.string())
    columns = {
        "image_id": ids.take(pa.array(n)),
        "label": labels.take(pa.array(c)),
        "state": pa.array(np.ones(len(n), np.int8)),
        "confidence": pa.array(predictions.scores_NC[n, c].astype(np.float32)),
        "origin": pa.array([origin] * len(n), pa.string()),
    }
    return pa.table(columns, schema=tables.LABELS)


def top_labels(scores_NC: np.ndarray, *, top_k: int, min_score: float) -> np.ndarray:
    """bool (N, C): among the image's `top_k` highest scores (all that tie with the last one) and above `min_score`."""
    scores_NC = np.nan_to_num(scores_NC)
    k = min(top_k, scores_NC.shape[1])
    if not scores_NC.size:
        return np.zeros(scores_NC.shape, bool)
    kth_N1 = np.partition(scores_NC, -k, axis=1)[:, [-k]]
    return (scores_NC >= kth_N1) & (scores_NC > min_score)
