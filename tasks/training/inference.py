"""Scores of a model for a set of images; every process takes its share and all get the whole."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from tasks.core import scratch
from tasks.training.data import ImageSet, inference_batches
from tasks.training.distributed import World

AUTOCAST = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Autocast context of a precision; off for fp32."""
    dtype = AUTOCAST[precision]
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not None)


ROWS_SHARED_AT_ONCE = 1 << 16
"""Of scores, between processes."""


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
    scores_NC = embeddings_ND = None
    batches = inference_batches(
        images, rows, batch_size=batch_size, num_workers=num_workers, pin_memory=device.type == "cuda"
    )
    for start, batch in zip(range(0, len(rows), batch_size), batches, strict=True):
        own, batch = rows[start : start + batch_size], batch.to(device, non_blocking=True)
        with autocast(device, precision):
            if with_embeddings:
                logits_BC, embeddings_BD = model.forward_with_features(batch)
                embeddings_ND = _placed(embeddings_ND, own, embeddings_BD, len(images))
            else:
                logits_BC = model(batch)
        scores_NC = _placed(scores_NC, own, model.scores(logits_BC.float()), len(images))
    model.train(was_training)
    embeddings_ND = _gathered(embeddings_ND, device, world) if with_embeddings else None
    return Inference(_gathered(scores_NC, device, world), embeddings_ND)


def _placed(all_ND: np.ndarray | None, rows: list[int], values_BD: torch.Tensor, num_rows: int) -> np.ndarray:
    """The rows of a batch among those of all images, on the host: the device holds no more than a batch."""
    if all_ND is None:
        all_ND = scratch.zeros((num_rows, values_BD.shape[1]))
    all_ND[rows] = values_BD.float().cpu().numpy()
    return all_ND


def _gathered(own_ND: np.ndarray | None, device: torch.device, world: World) -> np.ndarray:
    """Rows of all processes: each adds its own to zeros, which is exact; a part at a time on the device."""
    if own_ND is None:
        return np.zeros((0, 0), np.float32)
    for start in range(0, len(own_ND) if world.size > 1 else 0, ROWS_SHARED_AT_ONCE):
        part = slice(start, start + ROWS_SHARED_AT_ONCE)
        own_ND[part] = world.sum(torch.from_numpy(own_ND[part]).to(device)).cpu().numpy()
    return own_ND
