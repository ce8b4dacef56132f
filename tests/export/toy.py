"""A small network and its exported file."""

from __future__ import annotations

import inspect
import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from tasks.export.manifest import Manifest, Preprocessing
from tasks.export.onnx_file import export_onnx
from tasks.nn.backbone import build_backbone
from tasks.nn.cooccurrence import Cooccurrence
from tasks.nn.heads import HEADS
from tasks.nn.model import Tagger

LABELS = ["cat", "dog", "animal", 'a "quoted", label', "犬🐕"]
IMAGE_PX = (48, 64)


SMALL = {
    "ml_decoder": {"decoder_dim": 32, "num_heads": 4, "ffn_dim": 64},
    "gat_ml_decoder": {"decoder_dim": 32, "num_heads": 4, "ffn_dim": 64},
}
"""Options of heads that are large by default."""


class Patches(nn.Module):
    """One convolution in place of a timm model, whose tracing takes seconds."""

    name, options, mean, std, num_features = "patches", {}, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4), 16

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, self.num_features, 8, stride=8)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        return torch.relu(self.conv(images_BCHW))


def tagger(head: str = "linear", backbone: str | None = None, *, groups=(), seed: int = 0) -> Tagger:
    """Random weights on `Patches` or on a timm model; a linear head's are such that images get different labels."""
    torch.manual_seed(seed)
    body = Patches() if backbone is None else build_backbone(backbone, weights=None, options={}, image_px=IMAGE_PX)
    targets_NC = np.random.default_rng(seed).integers(0, 2, (40, len(LABELS))).astype(np.uint8)
    context = {
        "cooccurrence": Cooccurrence.count(targets_NC, np.ones_like(targets_NC, bool)),
        "label_names": LABELS,
    }
    accepted = inspect.signature(HEADS[head]).parameters
    context = {name: value for name, value in context.items() if name in accepted}
    top = HEADS[head](body.num_features, len(LABELS), **context, **SMALL.get(head, {}))
    model = Tagger(body, top, labels=LABELS, groups=groups).eval()
    if head == "linear":
        nn.init.normal_(top.classifier.weight, std=5.0)
        with torch.no_grad():
            top.classifier.bias -= model(torch.from_numpy(pixels(40)).permute(0, 3, 1, 2)).mean(0)
    return model


def manifest(**changes) -> Manifest:
    """cat and dog imply animal; the last label is never predicted."""
    fields = {
        "labels": LABELS,
        "display_names": ["Cat", "Dog", "Animal", "Quoted", "犬"],
        "thresholds": [0.5, 0.5, 0.5, 0.1, math.inf],
        "implications": [(0, 2), (1, 2)],
        "preprocessing": Preprocessing(short_side_px=48, image_px=IMAGE_PX, resize="stretch"),
        "provenance": {"model_sha256": "0" * 64, "weights_kind": "ema"},
    }
    return Manifest(**fields | changes)


def exported(folder: Path, model: Tagger | None = None, **changes) -> Path:
    path = folder / "model.onnx"
    export_onnx(model or tagger(), path, manifest(**changes), opset=18)
    return path


def pixels(num_images: int = 6, seed: int = 0) -> np.ndarray:
    """Smooth pictures whose colours differ; uint8 (B, *IMAGE_PX, 3)."""
    coarse = np.random.default_rng(seed).integers(0, 256, (num_images, 3, 4, 3)).astype(np.uint8)
    return coarse.repeat(IMAGE_PX[0] // 3, axis=1).repeat(IMAGE_PX[1] // 4, axis=2)
