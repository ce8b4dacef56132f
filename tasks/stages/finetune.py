"""Train on the cleaned labels, and on unlabelled images where asked, from the weights of `paths.start`; resumable."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from tasks.core import matrices, tables
from tasks.core.errors import ModelError
from tasks.core.ledger import Ledger
from tasks.core.workspace import has_known_labels, labels_of, partition_ids, read_splits, vocabulary, write_ledger
from tasks.nn.model import Tagger
from tasks.params import Params
from tasks.sampling.few_labels import labelled_subset
from tasks.sampling.replication import epoch_replicas
from tasks.training.data import ImageSet
from tasks.training.fitting import build_model, build_semi, fit, image_set, save, write_learning_curves
from tasks.training.loop import TrainingResult


def run(params: Params) -> None:
    """Train partition (and the pool), validated on the calibration partition -> model folder and learning curves."""
    start = params.paths.start
    if not start.is_dir():
        raise ModelError(f"paths.start: {start}: no such model folder. Run `pretrain`, or `migrate` into it, first.")
    model, result, ledger = trained(params, "finetune", start=start)
    write_learning_curves(params.paths.learning_curves, result.history)
    save(params, params.paths.finetuned, "finetune", model, result, params.finetune.augment)
    write_ledger(ledger, params)


def trained(params: Params, name: str, *, start: Path | None) -> tuple[Tagger, TrainingResult, Ledger]:
    """One run on the cleaned labels with the settings of `finetune`; its checkpoints, kept under `name`, stay.

    start: a model folder, see `build_model`.
    Returns the model with the weights of its best epoch, the run's result, and what became of the images.
    """
    settings, words, splits = params.finetune, vocabulary(params), read_splits(params)
    train_ids, pool_ids = partition_ids(splits, "train"), partition_ids(splits, "pool")
    annotated = labels_of(params, params.paths.cleaned, train_ids, words.labels)
    dense = few_labels(params, annotated)
    kept = has_known_labels(dense)
    validation = labels_of(params, params.paths.cleaned, partition_ids(splits, "calibration"), words.labels)
    judged = has_known_labels(validation)
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
        replicas=replicas,
        semi=semi,
        unlabelled=stream,
    )
    ledger = Ledger("finetune")
    ledger.num_in("images", len(train_ids))
    ledger.dropped("images", len(train_ids) - len(has_known_labels(annotated)), "no known label")
    ledger.dropped("images", len(has_known_labels(annotated)) - len(kept), "labels withheld (labelled_per_class)")
    ledger.num_out("images", len(kept))
    if semi is not None:
        ledger.note(f"{settings.semi.name} learned from {len(stream)} images beside the labelled ones")
    ledger.note(f"{result.kind} weights of epoch {result.best_epoch} kept")
    return model, result, ledger


def few_labels(params: Params, dense: matrices.DenseLabels) -> matrices.DenseLabels:
    """`dense` where only `labelled_per_class` images a label keep their labels; those of the others are unknown."""
    per_class = params.finetune.labelled_per_class
    if not per_class:
        return dense
    kept_N = labelled_subset(dense.targets_NC, dense.known_NC, dense.image_ids, per_class=per_class, seed=params.seed)
    known_NC = dense.known_NC & kept_N[:, None]
    return replace(dense, targets_NC=dense.targets_NC * known_NC, known_NC=known_NC)


def stream_of(params: Params, draws_from: str, dense: matrices.DenseLabels, pool_ids: list[str]) -> ImageSet:
    """What a method draws from: train images without a known label and the pool, the labelled ones, or all of these.

    Empty when unlabelled images are asked for and there are none. A verdict on an image of the pool comes along.
    """
    if draws_from == "labelled":
        return image_set(params, dense, has_known_labels(dense))
    pool = labels_of(params, params.paths.cleaned, pool_ids, dense.labels)
    together = matrices.DenseLabels(
        dense.image_ids + pool.image_ids,
        dense.labels,
        np.concatenate([dense.targets_NC, pool.targets_NC]),
        np.concatenate([dense.known_NC, pool.known_NC]),
    )
    is_unlabelled = np.ones(len(together.image_ids), bool)
    is_unlabelled[has_known_labels(dense)] = False
    wanted = is_unlabelled | (draws_from == "all" and is_unlabelled.any())
    return image_set(params, together, np.flatnonzero(wanted))


def replication_of(params: Params, image_ids: list[str]) -> np.ndarray:
    """r(I) of each image, float64 (N,); 1 where the table has no row."""
    table = tables.read_table(params.paths.replication, tables.REPLICATION)
    r = dict(zip(table["image_id"].to_pylist(), table["replication"].to_pylist(), strict=True))
    return np.asarray([r.get(i, 1.0) for i in image_ids])
