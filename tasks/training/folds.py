"""Out-of-fold scores: each fold's model scores the images that it never saw.

Axes: N labelled images, M images of the pool, C labels, D features, T tones.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from tasks.core import scratch
from tasks.core.gaps_shown import TONES
from tasks.core.states import States
from tasks.nn.model import Tagger
from tasks.training.data import ImageSet
from tasks.training.fitting import Network, build_model, fit, has_model, score_images
from tasks.training.loop import OnMetrics, TrainingData
from tasks.training.settings import FinetuneSettings

LARGEST = np.finfo(np.float16).max


class Look(NamedTuple):
    """What images look like: embeddings float16 (N, D), and `tones` float32 (N, 3)."""

    embeddings_ND: np.ndarray
    tones_NT: np.ndarray


class OutOfFold(NamedTuple):
    """scores: float32 (N + M, C), labelled images first; of the pool, the folds' mean.  look: in the same order."""

    scores: np.ndarray
    look: Look


def out_of_fold_scores(
    network: Network,
    settings: FinetuneSettings,
    labelled: States,
    pool: States,
    fold_N: np.ndarray,
    *,
    num_folds: int,
    start: Path,
    look: Look | None = None,
    on_metrics: OnMetrics | None = None,
) -> OutOfFold:
    """Train a model a fold, on the labelled images of the others, and score what it has not seen.

    fold_N: int (N,), fold of each labelled image.  start: model folder, see `build_model`.
    look: that of `learned_look`; None for the first fold's.
    """
    sets = sets_of(network, labelled, pool)
    num_labelled = len(labelled.image_ids)
    has_known_N = np.isin(np.arange(num_labelled), labelled.has_known_labels())
    scores = scratch.zeros((num_labelled + len(pool.image_ids), len(labelled.labels)))
    for fold in range(num_folds):
        model, loss = build_model(
            network, settings.loss, where="params.yaml: finetune.loss", states=labelled, start=start
        )
        others = network.images(labelled, np.flatnonzero(has_known_N & (fold_N != fold)))
        data, name = TrainingData(others), f"out_of_fold-{fold}"
        fit(network, settings, name, model, loss, data, probe=settings.probe, on_metrics=on_metrics)
        held_out = np.flatnonzero(fold_N == fold)
        if len(held_out):  # few images, or large groups: not every fold gets one
            scores[held_out] = score_images(model, network.images(labelled, held_out)).scores_NC
        for pool_images in sets[1:]:
            scores[num_labelled:] += score_images(model, pool_images).scores_NC / num_folds
        if fold == 0 and look is None:
            look = look_of(model, sets)
    return OutOfFold(scores, look)


def learned_look(
    network: Network, settings: FinetuneSettings, labelled: States, pool: States, *, start: Path
) -> Look | None:
    """That of N + M images by the weights that training starts from; None where these have learned nothing.

    Embeddings of all images by one model, since distances between embeddings of two mean nothing, and by one that has
    seen none of these labels: a model that has learned a wrong one moves the image among those that bear it, and its
    neighbours then confirm the error.
    """
    if not starts_learned(network, start):
        return None
    model, _ = build_model(network, settings.loss, where="params.yaml: finetune.loss", states=labelled, start=start)
    return look_of(model, sets_of(network, labelled, pool))


def sets_of(network: Network, labelled: States, pool: States) -> list[ImageSet]:
    """A project need not have a pool."""
    return [network.images(states) for states in (labelled, pool) if states is labelled or states.image_ids]


def starts_learned(network: Network, start: Path) -> bool:
    """Whether training starts from weights that have learned something."""
    return network.model.backbone.weights is not None or has_model(start)


class _WithTones(nn.Module):
    """A Tagger whose features end with the tones of the image, so that one pass over the images gives both."""

    def __init__(self, model: Tagger) -> None:
        super().__init__()
        self.model, self.scores = model, model.scores
        self.train(model.training)

    def forward_with_features(self, images_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        logits_BC, features_BD = self.model.forward_with_features(images_BCHW)
        return logits_BC, torch.cat([features_BD.float(), tones(images_BCHW)], dim=1)


def tones(images_BCHW: Tensor) -> Tensor:
    """Brightness, colour and saturation (`gaps_shown.TONES`) of each image, float32 (B, 3) in [0, 255].

    images_BCHW: uint8 RGB.
    The mean of all values; the means over pixels of the largest less the smallest channel, and of 255 times that by the
    largest, both 0 where all is grey. Sums of whole numbers, so that no device or number of threads changes a bit.
    """
    largest_BHW = images_BCHW.amax(dim=1).int()
    colour_BHW = largest_BHW - images_BCHW.amin(dim=1)
    saturation_BHW = 255 * colour_BHW // largest_BHW.clamp(min=1)
    means = (
        values.flatten(1).sum(dim=1, dtype=torch.int64) / values[0].numel()
        for values in (images_BCHW, colour_BHW, saturation_BHW)
    )
    return torch.stack(list(means), dim=1)


def look_of(model: Tagger, sets: list[ImageSet]) -> Look:
    """That of the sets, one after the other, all by one model."""
    parts = [score_images(_WithTones(model), images, with_embeddings=True).embeddings_ND for images in sets]
    return Look(
        halved([part[:, : -len(TONES)] for part in parts]), np.concatenate([part[:, -len(TONES) :] for part in parts])
    )


def halved(parts: list[np.ndarray]) -> np.ndarray:
    """The rows of all parts, float32 (N, D), as float16: only their directions are used, and they are many."""
    embeddings = scratch.zeros((sum(map(len, parts)), parts[0].shape[1]), np.float16)
    for start, part in zip(np.cumsum([0, *map(len, parts)]), parts, strict=False):
        np.clip(part, -LARGEST, LARGEST, out=embeddings[start : start + len(part)], casting="same_kind")
    return embeddings
