"""Train on the cleaned labels, and on unlabelled images where asked, from the weights of `paths.start`; resumable."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from tasks import tracking
from tasks.core import tables
from tasks.core.errors import ModelError
from tasks.core.ledger import Ledger
from tasks.core.states import States
from tasks.core.tables import UNKNOWN_STATE
from tasks.core.workspace import Workspace
from tasks.nn.model import Tagger
from tasks.params import Params
from tasks.sampling.few_labels import labelled_subset
from tasks.sampling.replication import epoch_replicas
from tasks.training.data import ImageSet
from tasks.training.fitting import build_model, build_semi, fit, image_set, save, write_learning_curves
from tasks.training.loop import TrainingResult

TRAINS = True


def run(params: Params) -> None:
    """Train partition (and the pool), validated on the calibration partition -> model folder and learning curves."""
    start = params.paths.start
    if not start.is_dir():
        raise ModelError(f"paths.start: {start}: no such model folder. Run `pretrain`, or `migrate` into it, first.")
    model, result, ledger = trained(params, "finetune", start=start)
    write_learning_curves(params.paths.learning_curves, result.history)
    save(params, params.paths.finetuned, "finetune", model, result, params.finetune.augment)
    Workspace(params.paths).book(ledger)


def trained(params: Params, name: str, *, start: Path | None) -> tuple[Tagger, TrainingResult, Ledger]:
    """One run on the cleaned labels with the settings of `finetune`; its checkpoints, kept under `name`, stay.

    start: a model folder, see `build_model`.
    Returns the model with the weights of its best epoch, the run's result, and what became of the images.
    """
    settings, words = params.finetune, Workspace(params.paths).vocabulary()
    train_ids, pool_ids = Workspace(params.paths).image_ids("train"), Workspace(params.paths).image_ids("pool")
    annotated = Workspace(params.paths).states("cleaned", train_ids, words.labels)
    dense = few_labels(params, annotated)
    kept = dense.has_known_labels()
    validation = Workspace(params.paths).states(
        "cleaned", Workspace(params.paths).image_ids("calibration"), words.labels
    )
    judged = validation.has_known_labels()
    replicas = None
    if settings.resample:
        replication_N = replication_of(params, [train_ids[i] for i in kept])
        replicas = lambda epoch: epoch_replicas(replication_N, seed=params.seed, epoch=epoch)  # noqa: E731

    model, loss = build_model(params, words, settings, start=start, dense=dense)
    semi = build_semi(settings, model)
    stream = None if semi is None else stream_of(params, semi.draws_from, dense, pool_ids)
    result = fit(
        params,
        settings,
        name,
        model,
        loss,
        image_set(params, dense, kept),
        image_set(params, validation, judged) if len(judged) else None,
        on_metrics=tracking.log_metrics,
        replicas=replicas,
        semi=semi,
        unlabelled=stream,
    )
    ledger = Ledger("finetune")
    ledger.num_in("images", len(train_ids))
    ledger.dropped("images", len(train_ids) - len(annotated.has_known_labels()), "no known label")
    ledger.dropped("images", len(annotated.has_known_labels()) - len(kept), "labels withheld (labelled_per_class)")
    ledger.num_out("images", len(kept))
    if semi is not None:
        ledger.note(f"{settings.semi.name} learned from {len(stream)} images beside the labelled ones")
    ledger.note(f"{result.kind} weights of epoch {result.best_epoch} kept")
    return model, result, ledger


def few_labels(params: Params, dense: States) -> States:
    """`dense` where only `labelled_per_class` images a label keep their labels; those of the others are unknown."""
    per_class = params.finetune.labelled_per_class
    if not per_class:
        return dense
    kept_N = labelled_subset(dense.targets_NC, dense.known_NC, dense.image_ids, per_class=per_class, seed=params.seed)
    return replace(dense, states_NC=np.where(kept_N[:, None], dense.states_NC, np.int8(UNKNOWN_STATE)))


def stream_of(params: Params, draws_from: str, dense: States, pool_ids: list[str]) -> ImageSet:
    """What a method draws from: train images without a known label and the pool, the labelled ones, or all of these.

    Empty when unlabelled images are asked for and there are none. A verdict on an image of the pool comes along.
    """
    if draws_from == "labelled":
        return image_set(params, dense, dense.has_known_labels())
    pool = Workspace(params.paths).states("cleaned", pool_ids, dense.labels)
    together = States(dense.image_ids + pool.image_ids, dense.labels, np.concatenate([dense.states_NC, pool.states_NC]))
    is_unlabelled = np.ones(len(together.image_ids), bool)
    is_unlabelled[dense.has_known_labels()] = False
    wanted = is_unlabelled | (draws_from == "all" and is_unlabelled.any())
    return image_set(params, together, np.flatnonzero(wanted))


def replication_of(params: Params, image_ids: list[str]) -> np.ndarray:
    """r(I) of each image, float64 (N,); 1 where the table has no row."""
    table = tables.read_table(params.paths.replication, tables.REPLICATION)
    r = dict(zip(table["image_id"].to_pylist(), table["replication"].to_pylist(), strict=True))
    return np.asarray([r.get(i, 1.0) for i in image_ids])
