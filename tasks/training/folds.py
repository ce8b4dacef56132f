"""Out-of-fold scores: each fold's model scores the images that it never saw.

Axes: N labelled images, M images of the pool, C labels, D features.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from tasks.core.states import States
from tasks.nn.model import Tagger
from tasks.training.data import ImageSet
from tasks.training.fitting import Network, build_model, fit, has_model, score_images
from tasks.training.loop import OnMetrics, TrainingData
from tasks.training.settings import FinetuneSettings


class OutOfFold(NamedTuple):
    """scores: float32 (N + M, C), labelled images first; of the pool, the folds' mean.

    embeddings: float32 (N + M, D), in the same order.
    """

    scores: np.ndarray
    embeddings: np.ndarray


def out_of_fold_scores(
    network: Network,
    settings: FinetuneSettings,
    labelled: States,
    pool: States,
    fold_N: np.ndarray,
    *,
    num_folds: int,
    start: Path,
    on_metrics: OnMetrics | None = None,
) -> OutOfFold:
    """Train a model a fold, on the labelled images of the others, and score what it has not seen.

    fold_N: int (N,), fold of each labelled image.  start: model folder, see `build_model`.
    Embeddings of all images are those of one model, since distances between those of two mean nothing: of the weights
    that training starts from where these have learned something, for they have seen none of these labels. A model that
    has learned a wrong label moves the image among those that bear it, and its neighbours then confirm the error.
    Otherwise the first fold's.
    """
    images = network.images(labelled)
    sets = [images, network.images(pool)] if pool.image_ids else [images]  # a project need not have a pool
    has_known_N = np.isin(np.arange(len(labelled.image_ids)), labelled.has_known_labels())
    scores_NC = np.zeros((len(labelled.image_ids), len(labelled.labels)), np.float32)
    pool_MC = np.zeros((len(pool.image_ids), len(labelled.labels)), np.float32)
    embeddings = []
    for fold in range(num_folds):
        model, loss = build_model(
            network, settings.loss, where="params.yaml: finetune.loss", states=labelled, start=start
        )
        if fold == 0 and starts_learned(network, start):
            embeddings = embed(model, sets)
        others = network.images(labelled, np.flatnonzero(has_known_N & (fold_N != fold)))
        data, name = TrainingData(others), f"out_of_fold-{fold}"
        fit(network, settings, name, model, loss, data, probe=settings.probe, on_metrics=on_metrics)
        held_out = np.flatnonzero(fold_N == fold)
        if len(held_out):  # few images, or large groups: not every fold gets one
            scores_NC[held_out] = score_images(model, network.images(labelled, held_out)).scores_NC
        for pool_images in sets[1:]:
            pool_MC += score_images(model, pool_images).scores_NC / num_folds
        if fold == 0 and not embeddings:
            embeddings = embed(model, sets)
    return OutOfFold(np.concatenate([scores_NC, pool_MC]), np.concatenate(embeddings))


def starts_learned(network: Network, start: Path) -> bool:
    """Whether training starts from weights that have learned something."""
    return network.model.backbone.weights is not None or has_model(start)


def embed(model: Tagger, sets: list[ImageSet]) -> list[np.ndarray]:
    """Embeddings float32 (N, D) of each set, all by one model."""
    return [score_images(model, images, with_embeddings=True).embeddings_ND for images in sets]
