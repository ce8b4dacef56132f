"""Out-of-fold scores of labelled images, scores of the pool, embeddings of both."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array

from tasks import tracking
from tasks.core.ledger import Ledger
from tasks.core.prediction_table import Predictions, write_predictions
from tasks.core.workspace import Workspace
from tasks.nn.model import Tagger
from tasks.params import Params
from tasks.sampling.stratification import stratified_folds
from tasks.training.data import ImageSet
from tasks.training.fitting import build_model, fit, forget, has_model, image_set, score_images

TRAINS = True


def run(params: Params) -> None:
    """Each fold's model scores the images that it never saw; the pool gets the folds' mean."""
    section, words, splits = (
        params.out_of_fold,
        Workspace(params.paths).vocabulary(),
        Workspace(params.paths).read("splits"),
    )
    ids, pool_ids = Workspace(params.paths).image_ids("train", "calibration"), Workspace(params.paths).image_ids("pool")
    partition_of = dict(zip(splits["image_id"].to_pylist(), splits["partition"].to_pylist(), strict=True))
    ledger = Ledger("out_of_fold")
    ledger.num_in("images", len(ids) + len(pool_ids))
    if not section.enabled:
        ledger.note("skipped: turned off in params.yaml; cleaning works without a model's opinion")
        ledger.dropped("images", len(ids) + len(pool_ids), "turned off in params.yaml")
        nothing = Predictions([], [], words.labels, np.zeros((0, len(words.labels)), np.float32), "", "raw")
        write_predictions(params.paths.out_of_fold, nothing)
        Workspace(params.paths).book(ledger)
        return

    dense = Workspace(params.paths).states("deduplicated", ids, words.labels)
    pool = Workspace(params.paths).states("deduplicated", pool_ids, words.labels)
    positives = csr_array(dense.targets_NC.astype(bool) & dense.known_NC)
    _, groups = np.unique(Workspace(params.paths).groups(ids), return_inverse=True)
    fold_N = stratified_folds(positives, groups, num_folds=section.num_folds, rng=np.random.default_rng(params.seed))
    settings = params.finetune.model_copy(update={"epochs": section.epochs})
    known_N = np.isin(np.arange(len(ids)), dense.has_known_labels())

    images = image_set(params, dense)
    pools = [image_set(params, pool)] if pool_ids else []  # a project need not have one
    scores_NC = np.zeros((len(ids), len(words.labels)), np.float32)
    pool_NC = np.zeros((len(pool_ids), len(words.labels)), np.float32)
    embeddings = []
    for fold in range(section.num_folds):
        model, loss = build_model(params, words, settings, start=params.paths.pretrained, dense=dense)
        if fold == 0 and starts_learned(params):
            embeddings = embed(params, model, images, *pools)
        learned = image_set(params, dense, np.flatnonzero(known_N & (fold_N != fold)))
        fit(params, settings, f"out_of_fold-{fold}", model, loss, learned, on_metrics=tracking.log_metrics)
        held_out = np.flatnonzero(fold_N == fold)
        if len(held_out):  # few images, or large groups: not every fold gets one
            scores_NC[held_out] = score_images(params, model, image_set(params, dense, held_out)).scores_NC
        for pool_images in pools:
            pool_NC += score_images(params, model, pool_images).scores_NC / section.num_folds
        if fold == 0 and not embeddings:
            embeddings = embed(params, model, images, *pools)

    write_predictions(
        params.paths.out_of_fold,
        Predictions(
            ids + pool_ids,
            [partition_of[i] for i in ids + pool_ids],
            words.labels,
            np.concatenate([scores_NC, pool_NC]),
            model_sha256=f"{section.num_folds} folds",
            weights_kind="ema" if settings.ema.enabled else "raw",
            embeddings_ND=np.concatenate(embeddings),
        ),
    )
    forget(params, "out_of_fold")
    ledger.num_out("images", len(ids) + len(pool_ids))
    ledger.note(f"{section.num_folds} models of {section.epochs} epochs; duplicate groups whole")
    Workspace(params.paths).book(ledger)


def starts_learned(params: Params) -> bool:
    """Whether training starts from weights that have learned something.

    Their embeddings are the ones to keep: they have seen none of these labels. A model that has learned a wrong label
    moves the image among those that bear it, and its neighbours then bear the error out.
    """
    return params.model.backbone.weights is not None or has_model(params.paths.pretrained)


def embed(params: Params, model: Tagger, *sets: ImageSet) -> list[np.ndarray]:
    """Embeddings float32 (N, D) of each set, all by one model: distances between those of two mean nothing."""
    return [score_images(params, model, images, with_embeddings=True).embeddings_ND for images in sets]
