"""A tiny data set, a tiny network and the settings of a run, for the tests of the loop."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from tasks.core.registry import Choice
from tasks.params import Training
from tasks.training.data import ImageSet
from tasks.training.semi import SEMI, SemiMethod


class ToyReader:
    """Random images in memory, in the interface of a ShardReader."""

    def __init__(self, num_images: int, height: int, width: int, seed: int = 0) -> None:
        pixels = np.random.default_rng(seed).integers(0, 256, (num_images, height, width, 3))
        self.pixels = pixels.astype(np.uint8)
        self.image_ids = [f"toy/{i:03d}" for i in range(num_images)]
        self.index = {image_id: i for i, image_id in enumerate(self.image_ids)}

    def positions(self, image_ids: Sequence[str]) -> np.ndarray:
        return np.array([self.index.get(image_id, -1) for image_id in image_ids], np.int64)

    def __len__(self) -> int:
        return len(self.image_ids)

    def __getitem__(self, i: int) -> np.ndarray:
        pixels_HWC = self.pixels[i]
        pixels_HWC.flags.writeable = False
        return pixels_HWC


def image_set(
    num_images: int = 12, num_labels: int = 3, *, side: int = 8, known: float = 0.7, seed: int = 0
) -> ImageSet:
    """Label c is present where the mean of channel c is above its median, so that there is something to learn."""
    reader = ToyReader(num_images, side, side, seed)
    means_NC = np.stack([reader.pixels[..., c % 3].mean(axis=(1, 2)) for c in range(num_labels)], axis=1)
    known_NC = np.random.default_rng(seed + 1).random((num_images, num_labels)) < known
    targets_NC = (means_NC > np.median(means_NC, axis=0)).astype(np.uint8) * known_NC
    return ImageSet(reader, reader.image_ids, (side, side), "stretch", targets_NC.astype(np.uint8), known_NC)


class ToyTagger(nn.Module):
    """Convolution, norm, pooling, linear head; uint8 images in, as the real one."""

    def __init__(self, num_labels: int = 3, *, norm: str = "batch", dropout: float = 0.0, width: int = 4) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.norm = {"batch": nn.BatchNorm2d(width), "group": nn.GroupNorm(1, width), "none": nn.Identity()}[norm]
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width, num_labels)

    def embed(self, images_BCHW: Tensor) -> Tensor:
        features = torch.relu(self.norm(self.conv(images_BCHW.float() / 255 - 0.5)))
        return self.dropout(features.mean(dim=(2, 3)))

    def forward(self, images_BCHW: Tensor) -> Tensor:
        return self.head(self.embed(images_BCHW))

    def forward_with_features(self, images_BCHW: Tensor, *, num_scored: int | None = None) -> tuple[Tensor, Tensor]:
        features_BF = self.embed(images_BCHW)
        return self.head(features_BF[:num_scored]), features_BF

    def scores(self, logits_BC: Tensor) -> Tensor:
        return torch.sigmoid(logits_BC)


def tagger(seed: int = 0, **options) -> ToyTagger:
    torch.manual_seed(seed)
    return ToyTagger(**options)


def method(name: str, *, epochs: int = 3, groups: tuple = (), seed: int = 0, **options) -> SemiMethod:
    """An entry of SEMI that fits `tagger()`."""
    torch.manual_seed(seed)
    context = {"num_features": 4, "groups": groups, "epochs": epochs}
    return Choice(name=name, **{name: options}).build(SEMI, where="finetune.semi", **context)


def settings(**changes) -> Training:
    """A short plain run; `changes` replace fields."""
    fields = {
        "epochs": 3,
        "batch_size": 4,
        "accumulate": 1,
        "loss": {"name": "bce"},
        "optimizer": {"name": "sgd"},
        "schedule": {"name": "one_cycle"},
        "lr": 0.5,
        "weight_decay": 1e-4,
        "no_bias_decay": True,
        "bias_lr_factor": 2.0,
        "sam": {"enabled": False, "rho": 0.05, "adaptive": False},
        "ema": {"enabled": True, "decay": 0.9},
        "clip_grad_norm": 0.0,
        "precision": "fp32",
        "channels_last": False,
        "compile": False,
        "augment": [{"name": "hflip"}],
        "early_stopping": {"rule": "none", "patience": 5},
        "checkpoint_every_steps": 1000,
    }
    return Training(**{**fields, **changes})
