"""Scores of one partition beside its labels: what `calibrate` fits thresholds on and `evaluate` measures.

Axes: N images, C labels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from tasks.core.errors import TableError, did_you_mean
from tasks.core.ledger import Ledger
from tasks.core.prediction_table import Predictions
from tasks.core.states import States


@dataclass(frozen=True)
class ScoredSet:
    """The images of one partition with a known label. scores_NC: float32, as the model gave them.

    targets_NC: uint8 {0, 1}.  known_NC: bool.
    num_unlabelled: images of the partition that were left out because no label of theirs is known.
    """

    image_ids: list[str]
    labels: list[str]
    scores_NC: np.ndarray
    targets_NC: np.ndarray
    known_NC: np.ndarray
    num_unlabelled: int
    states_sha256: str
    """Of the states of these images and labels alone: labels of other images do not move it."""

    @property
    def truth(self) -> tuple[np.ndarray, np.ndarray]:
        """targets_NC, known_NC."""
        return self.targets_NC, self.known_NC

    def joined(self, other: ScoredSet) -> ScoredSet:
        """The images of both, of the same labels."""
        columns = [other.labels.index(label) for label in self.labels]
        return replace(
            self,
            image_ids=self.image_ids + other.image_ids,
            scores_NC=np.concatenate([self.scores_NC, other.scores_NC[:, columns]]),
            targets_NC=np.concatenate([self.targets_NC, other.targets_NC[:, columns]]),
            known_NC=np.concatenate([self.known_NC, other.known_NC[:, columns]]),
            num_unlabelled=self.num_unlabelled + other.num_unlabelled,
            states_sha256=hashlib.sha256((self.states_sha256 + other.states_sha256).encode()).hexdigest(),
        )

    def ledger(self, stage: str) -> Ledger:
        """The stage's ledger entry."""
        ledger = Ledger(stage)
        ledger.num_in("images", len(self.image_ids) + self.num_unlabelled)
        ledger.dropped("images", self.num_unlabelled, "no known label")
        ledger.num_out("images", len(self.image_ids))
        return ledger


def scored_partition(
    predictions: Predictions,
    partition: str,
    states_of: Callable[[list[str], list[str]], States],
    vocabulary: Sequence[str],
) -> ScoredSet:
    """The images of the partition with a known label, columns in the order of the scores.

    predictions: of every partition.  states_of: (image ids, labels) -> their states.  vocabulary: labels of the tables.
    Raises TableError where a label of the vocabulary has no scores.
    """
    if missing := [label for label in vocabulary if label not in predictions.labels]:
        raise TableError(
            f"predictions: no scores for label '{missing[0]}'. "
            f"{did_you_mean(missing[0], predictions.labels)} Run `dvc repro predict`."
        )
    predictions = predictions.select(partition)
    states = states_of(predictions.image_ids, predictions.labels)
    kept = states.has_known_labels()
    states = states.take(kept)
    return ScoredSet(
        states.image_ids,
        states.labels,
        predictions.scores_NC[kept],
        states.targets_NC,
        states.known_NC,
        len(predictions.image_ids) - len(kept),
        hashlib.sha256(states.states_NC.tobytes()).hexdigest(),
    )


class Relations(Protocol):
    """(child, ancestor) columns, and columns (a, b) that exclude each other."""

    implications: Sequence[tuple[int, int]]
    exclusions: Sequence[tuple[int, int]]


@dataclass(frozen=True)
class Postprocessing:
    """What is done to a model's scores before they are compared with thresholds; float32 (N, C) -> float32 (N, C).

    calibrate: probability calibration.  relations: of the taxonomy, by column.
    apply_implications: scores (N, C) -> scores in which no parent is below what implies it.
    apply_relations: decisions, bool (N, C), and margins above the threshold, float (N, C) -> consistent decisions; what
    it would change is measured, and it is never applied.
    implies_scores: whether implications are applied to scores (`calibrate.apply_relations`).
    """

    calibrate: Callable[[np.ndarray], np.ndarray]
    relations: Relations
    apply_implications: Callable[[np.ndarray, Any], np.ndarray]
    apply_relations: Callable[[np.ndarray, np.ndarray, Any], np.ndarray]
    implies_scores: bool

    def __call__(self, scores_NC: np.ndarray) -> np.ndarray:
        calibrated_NC = self.calibrate(scores_NC)
        return self.apply_implications(calibrated_NC, self.relations) if self.implies_scores else calibrated_NC
