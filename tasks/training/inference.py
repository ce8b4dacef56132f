"""Scores of a model for a set of images; every process takes its share and all get the whole."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from tasks.training.data import ImageSet, inference_batches
from tasks.training.distributed import World

AUTOCAST = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Autocast context of a precision; off for fp32."""
    dtype = AUTOCAST[precision]
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not None)


class Inference(NamedTuple):
    """scores_NC: float32 in [0, 1].  embeddings_ND: float32, None unless asked for."""

    scores_NC: np.ndarray
    embeddings_ND: np.ndarray | None


@torch.inference_mode()
def infer(
    model: nn.Module,
    images: ImageSet,
    *,
    batch_size: int,
    device: torch.device,
    with_embeddings: bool = False,
    precision: str = "fp32",
    num_workers: int = 0,
    world: World = World(),
) -> Inference:
    """Score every image, not augmented, in evaluation mode; the model's own mode is put back.

    model: a Tagger, or what has its `scores(logits)` and, for embeddings, `forward_with_features(images)`.
    """
    was_training = model.training
    model.eval()
    if len(images) < world.size:
        world = World()  # too few to share: everyone scores all
    rows = list(range(len(images)))[world.rank :: world.size]
    scores, embeddings = [], []
    for batch in inference_batches(
        images, rows, batch_size=batch_size, num_workers=num_workers, pin_memory=device.type == "cuda"
    ):
        batch = batch.to(device, non_blocking=True)
        with autocast(device, precision):
            if with_embeddings:
                logits_BC, embeddings_BD = model.forward_with_features(batch)
                embeddings.append(embeddings_BD.float())
            else:
                logits_BC = model(batch)
        scores.append(model.scores(logits_BC.float()))
    model.train(was_training)
    return Inference(
        _gathered(scores, rows, len(images), device, world),
        _gathered(embeddings, rows, len(images), device, world) if with_embeddings else None,
    )


def _gathered(
    parts: list[torch.Tensor], rows: list[int], num_rows: int, device: torch.device, world: World
) -> np.ndarray:
    """Rows of all processes in order: each adds its own to zeros, which is exact."""
    gathered = torch.zeros(num_rows, 0, device=device)
    if parts:
        gathered = torch.zeros(num_rows, parts[0].shape[1], device=device)
        gathered[rows] = torch.cat(parts)
    return world.sum(gathered).cpu().numpy()
