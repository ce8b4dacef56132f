"""Weak label sources: scores of whoever says something about a pair: models, vendors, detectors, keywords, neighbours.

Axes: N images, B images of a batch, C labels, D features. A proposal is a row "this origin thinks that the label is
present"; a source's scores are the same as a matrix, float (N, C) in [0, 1]: 0 where the origin looked and did not name
the label, NaN where it abstains. Neither makes a label known.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.core import tables
from tasks.core.prediction_table import Predictions
from tasks.core.states import States, scores_of
from tasks.core.tables import PRESENT, UNKNOWN_STATE

KEYWORD = "keyword"
NUM_NEIGHBOURS = 15
MOST_REFERENCES = 20_000  # images among which neighbours are sought; more are thinned evenly
_ROWS_PER_BATCH = 1024


@dataclass(frozen=True)
class SourceScores:
    """What the policies may use.

    model_NC: out-of-fold scores.  others_NC: vendors, detectors and keywords, one matrix an origin.
    neighbours_NC: share of an image's neighbours that have the label; all NaN without embeddings.
    """

    model_NC: np.ndarray
    others_NC: tuple[np.ndarray, ...]
    neighbours_NC: np.ndarray

    @property
    def all_NC(self) -> list[np.ndarray]:
        return [self.model_NC, *self.others_NC, self.neighbours_NC]


class WeakSources:
    """Scores of every source for the images and labels of `states`, a batch of images at a time: all at once, scores of
    a million images and hundreds of labels would take tens of gigabytes.

    out_of_fold: out-of-fold scores, and embeddings of one model; it abstains on images that it lacks.
    proposals: LABELS.  label_spaces: (origin, label) that the origin can name, as COVERAGE.
    """

    def __init__(self, states: States, out_of_fold: Predictions, proposals: pa.Table, label_spaces: pa.Table) -> None:
        self.states, self.scores_NC = states, out_of_fold.scores_NC
        self.row_N = out_of_fold.rows_of(states.image_ids)
        self.columns = [out_of_fold.labels.index(label) for label in states.labels]
        self.origins = []
        for origin in sorted(pc.unique(proposals["origin"]).to_pylist()):
            names = set(label_spaces.filter(pc.equal(label_spaces["source"], origin))["label"].to_pylist())
            nameable_C = np.asarray([label in names for label in states.labels], bool)
            self.origins.append((origin, proposals.filter(pc.equal(proposals["origin"], origin)), nameable_C))
        self.neighbours = None
        if out_of_fold.embeddings_ND is not None:
            self.neighbours = Neighbours(out_of_fold.embeddings_ND, states.states_NC, row_N=self.row_N)

    def model_scores(self, rows: np.ndarray) -> np.ndarray:
        """Out-of-fold scores of the images at these positions, int64 (B,); float64 (B, C), NaN where there is none."""
        model_BC = np.full((len(rows), len(self.states.labels)), np.nan)
        scored = np.flatnonzero(self.row_N[rows] >= 0)
        model_BC[scored] = self.scores_NC[np.ix_(self.row_N[rows][scored], self.columns)]
        return model_BC

    def scores(self, rows: np.ndarray) -> SourceScores:
        """Scores of the images at these positions, int64 (B,)."""
        neighbours_BC = np.full((len(rows), len(self.states.labels)), np.nan)
        if self.neighbours is not None:
            neighbours_BC = self.neighbours.share(rows)
        return SourceScores(self.model_scores(rows), tuple(self._others(rows)), neighbours_BC)

    def _others(self, rows: np.ndarray) -> Iterator[np.ndarray]:
        """Each origin's confidence, by name; it abstains on images that it never mentions and labels that it cannot
        name. A keyword under which an image was found says nothing about the other keywords.
        """
        ids = [self.states.image_ids[n] for n in rows]
        for origin, proposed, nameable_C in self.origins:
            mentioned = pc.is_in(pa.array(ids, pa.string()), pc.unique(proposed["image_id"]))
            votes_BC = mentioned.to_numpy(zero_copy_only=False)[:, None] & nameable_C
            scores_BC = scores_of(proposed, ids, self.states.labels)
            yield np.where(votes_BC & (scores_BC > 0) if origin == KEYWORD else votes_BC, scores_BC, np.nan)


class Neighbours:
    """Nearest images by cosine, and how many of them have a label.

    embeddings_MD: float, of one model, so that distances mean something; only parts of it are held in memory.
    states_NC: int8, 1 present, 0 absent, -1 unknown.
    row_N: row of each image there, -1 of one that has none; None: in the same order.
    """

    def __init__(
        self,
        embeddings_MD: np.ndarray,
        states_NC: np.ndarray,
        *,
        row_N: np.ndarray | None = None,
        num: int = NUM_NEIGHBOURS,
    ) -> None:
        self.embeddings_MD = embeddings_MD
        self.row_N = np.arange(len(states_NC)) if row_N is None else row_N
        placed = np.flatnonzero(self.row_N >= 0)
        sums = (embeddings_MD[self.row_N[part]].sum(axis=0, dtype=np.float64) for part in _batches(placed))
        self.mean_D = sum(sums, np.zeros(embeddings_MD.shape[1])) / max(len(placed), 1)
        evenly = np.linspace(0, len(placed) - 1, min(len(placed), MOST_REFERENCES)).astype(np.int64)
        self.references = placed[np.unique(evenly)]
        self.unit_RD = self._unit(self.references)
        self.num = min(num, len(self.references) - 1)
        self.known_RC = states_NC[self.references] != UNKNOWN_STATE
        self.present_RC = states_NC[self.references] == PRESENT

    def _unit(self, rows: np.ndarray) -> np.ndarray:
        """float32 (B, D): about the mean, of length 1."""
        centred_BD = self.embeddings_MD[self.row_N[rows]] - self.mean_D
        return (centred_BD / np.maximum(np.linalg.norm(centred_BD, axis=1, keepdims=True), 1e-12)).astype(np.float32)

    def share(self, rows: np.ndarray) -> np.ndarray:
        """Share of the nearest images of each of these on which the label is present; float (B, C).

        The image itself does not count, nor do neighbours on which the label is unknown; NaN where none is left, and
        for an image without an embedding.
        """
        share_BC = np.full((len(rows), self.known_RC.shape[1]), np.nan)
        if self.num < 1:
            return share_BC
        for part in _batches(np.flatnonzero(self.row_N[rows] >= 0)):
            similarity_BR = self._unit(rows[part]) @ self.unit_RD.T
            similarity_BR[rows[part, None] == self.references] = -np.inf
            nearest_BK = np.argpartition(-similarity_BR, self.num - 1, axis=1)[:, : self.num]
            num_known_BC = self.known_RC[nearest_BK].sum(axis=1)
            num_present_BC = self.present_RC[nearest_BK].sum(axis=1)
            share_BC[part] = np.where(num_known_BC > 0, num_present_BC / np.maximum(num_known_BC, 1), np.nan)
        return share_BC


def _batches(rows: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(rows), _ROWS_PER_BATCH):
        yield rows[start : start + _ROWS_PER_BATCH]


def model_proposals(
    predictions: Predictions, *, origin: str = "model:out_of_fold", top_k: int = 5, min_score: float = 0.5
) -> pa.Table:
    """LABELS rows of what a model would add: its `top_k` labels of each image that score above `min_score`.

    Source: label completion of the album pipeline (top 5 above 0.5).
    """
    proposed = []
    for part in _batches(np.arange(len(predictions.image_ids))):
        n, c = np.nonzero(top_labels(predictions.scores_NC[part], top_k=top_k, min_score=min_score))
        proposed.append((part[n], c))
    n, c = (np.concatenate(of_parts) for of_parts in zip(*proposed, strict=True)) if proposed else np.zeros((2, 0), int)
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
