"""What `calibrate` and `evaluate` judge alike: scores of one partition beside its labels, made consistent.

Axes: N images, C labels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc

from tasks.core import tables
from tasks.core.errors import TableError, did_you_mean
from tasks.core.ledger import Ledger
from tasks.core.prediction_table import Predictions, read_predictions
from tasks.core.states import scores_of
from tasks.core.workspace import Workspace
from tasks.params import Params
from tasks.taxonomy.relations import Relations, apply_implications, relations_of
from tasks.taxonomy.taxonomy import read_taxonomy


@dataclass(frozen=True)
class ScoredSet:
    """The labelled images of one partition. scores_NC: float32, as the model gave them.  targets_NC, known_NC: labels.

    num_unlabelled: images of the partition that were left out because no label of theirs is known.
    """

    image_ids: list[str]
    labels: list[str]
    scores_NC: np.ndarray
    targets_NC: np.ndarray
    known_NC: np.ndarray
    num_unlabelled: int

    def enter(self, stage: str, params: Params) -> None:
        """Write the stage's ledger entry."""
        ledger = Ledger(stage)
        ledger.num_in("images", len(self.image_ids) + self.num_unlabelled)
        ledger.dropped("images", self.num_unlabelled, "no known label")
        ledger.num_out("images", len(self.image_ids))
        Workspace(params.paths).book(ledger)


def read_scores(params: Params) -> Predictions:
    """Scores of every partition. Raises TableError where their labels are not those of the tables."""
    predictions, labels = read_predictions(params.paths.predictions), Workspace(params.paths).vocabulary().labels
    if unlike := [label for label in labels if label not in predictions.labels]:
        raise TableError(
            f"{params.paths.predictions}: no scores for label '{unlike[0]}'. "
            f"{did_you_mean(unlike[0], predictions.labels)} Run `dvc repro predict`."
        )
    return predictions


def scored_partition(params: Params, predictions: Predictions, partition: str) -> ScoredSet:
    """The images of `partition` with a known label, columns in the order of the scores."""
    own = predictions.select(partition)
    dense = Workspace(params.paths).states("cleaned", own.image_ids, own.labels)
    kept = dense.has_known_labels()
    ids = [own.image_ids[i] for i in kept]
    targets_NC, known_NC = dense.targets_NC[kept], dense.known_NC[kept]
    return ScoredSet(ids, own.labels, own.scores_NC[kept], targets_NC, known_NC, len(own.image_ids) - len(kept))


def relations(params: Params, labels: list[str]) -> Relations:
    """The taxonomy's relations among these columns, in whatever order they stand."""
    return relations_of(read_taxonomy(params.paths.taxonomy), labels)


def consistent(params: Params, scores_NC: np.ndarray, labels: list[str]) -> np.ndarray:
    """Scores in which no parent scores below what implies it, where `calibrate.apply_relations` asks for it."""
    return apply_implications(scores_NC, relations(params, labels)) if params.calibrate.apply_relations else scores_NC


def fused_labels(params: Params, labels: list[str]) -> dict[int, str]:
    """Column -> origin of the proposals that the taxonomy wants it fused with."""
    taxonomy = read_taxonomy(params.paths.taxonomy)
    return {labels.index(label.id): label.fuse for label in taxonomy.labels if label.fuse and label.id in labels}


def detected(params: Params, image_ids: list[str], labels: list[str], origins: dict[int, str]) -> np.ndarray:
    """Scores of those origins, 0 where they say nothing; float64 (N, C), other columns 0.

    Raises TableError for an origin that proposes nothing at all.
    """
    proposals = tables.read_table(params.paths.mapped / "proposals.parquet", tables.LABELS)
    scores_NC = np.zeros((len(image_ids), len(labels)))
    for origin in sorted(set(origins.values())):
        rows = proposals.filter(pc.equal(proposals["origin"], origin))
        if not rows.num_rows:
            known = sorted(set(proposals["origin"].to_pylist()))
            raise TableError(
                f"{params.paths.taxonomy}: fuse: no source proposes as '{origin}'. {did_you_mean(origin, known)} "
                "Add a source with `use: proposals` and that `origin`."
            )
        columns = [c for c, name in origins.items() if name == origin]
        scores_NC[:, columns] = scores_of(rows, image_ids, labels)[:, columns]
    return scores_NC
