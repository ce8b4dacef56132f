"""What the loop asks of a way to learn from unlabelled images.

Axes: B labelled and U unlabelled images of a micro-batch, X extra images (views of both), C labels, F features.

A step minimises  supervised loss + factor * (sum of costs / expected),  where the supervised loss is what
it is without a method. All images of a micro-batch go through the network at once, so BatchNorm normalises, and
remembers, the statistics of both kinds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Generator, Tensor, nn

from tasks.core.errors import ParamsError
from tasks.training.augment import Policy
from tasks.training.data import Batch, ImageSet, Step
from tasks.training.distributed import World

Augment = Sequence[Mapping[str, Any]]


class SemiMethod(nn.Module):
    """One way to learn from unlabelled images; the parameters of a subclass are trained with the tagger's.

    ratio: unlabelled images that a step sees for each labelled one of `batch_size`, > 0; at least one a step.
    weight: of its loss beside the supervised one, > 0.
    """

    draws_from: Literal["unlabelled", "labelled", "all"] = "unlabelled"
    """Which images its stream is made of."""
    scores_unlabelled = False
    """Its loss reads the tagger's logits of the extra images, not their features."""
    needs_ema = False
    """Its pseudo-labels come from the averaged weights."""
    first_epoch = 0
    """Before this epoch, counted from 0, it does nothing."""
    labelled_views = False
    """It looks at a further view of each labelled image."""
    augment: Augment | None = None
    """Policy of the unlabelled images; None: that of the labelled ones."""

    memory: dict[str, Tensor]
    """What a resumed run needs beside parameters and buffers; on the CPU, the same in every process."""

    def __init__(self, *, ratio: float, weight: float) -> None:
        super().__init__()
        if not ratio > 0:
            raise ValueError(
                f"ratio must be greater than 0, found {ratio}; `name: none` trains without unlabelled images"
            )
        if not weight > 0:
            raise ValueError(f"weight must be greater than 0, found {weight}")
        self.ratio, self.weight = ratio, weight
        self.memory = {}

    def attach(self, labelled: ImageSet, unlabelled: ImageSet) -> None:
        """Take a look at the images of the run before its first step."""

    def further_views(self, weak: Tensor, generator: Generator) -> list[Tensor]:
        """Views of a labelled image beyond the one that the supervised loss sees; uint8 (3, H, W) all."""
        return []

    def views(self, weak: Tensor, generator: Generator) -> list[Tensor]:
        """Views of an unlabelled image, the same number of each; uint8 (3, H, W) all."""
        return [weak]

    def start_epoch(self, epoch: int, score: Callable[[], np.ndarray]) -> None:
        """Called before the first step of an epoch.

        score: scores float32 (N, C) of the stream's images, not augmented, by the averaged weights where there are any.
        """

    def outputs(self, extra_logits_XC: Tensor | None, features_NF: Tensor, num_labelled: int) -> Tensor:
        """What the loss needs, of one forward pass; takes part in autocast and in DDP.

        features_NF: of the labelled images, then of the extra ones.  extra_logits_XC: where `scores_unlabelled`.
        """
        raise NotImplementedError

    def cost(self, outputs: Tensor, batch: Batch, loss: nn.Module, world: World) -> Tensor:
        """The loss summed over what this process has of one micro-batch, a scalar.  loss: the supervised one."""
        raise NotImplementedError

    def expected(self, step: Step, loss: nn.Module) -> float:
        """By what the costs of the whole step, all processes together, are divided."""
        raise NotImplementedError

    def factor(self) -> float | Tensor:
        """What the loss is multiplied by in the coming step."""
        return self.weight

    def observe(self, supervised: Tensor, auxiliary: Tensor) -> None:
        """Take in the two losses of the step just made; scalars of the global batch."""


class Assisted(nn.Module):
    """Tagger and method as one module: what the optimiser trains, SAM moves and DDP wraps."""

    def __init__(self, tagger: nn.Module, method: SemiMethod) -> None:
        super().__init__()
        self.tagger, self.method = tagger, method

    def forward(self, images_BCHW: Tensor, extra_XCHW: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Logits (B, C) of the labelled images, and what the method's loss needs; None without extra images."""
        if extra_XCHW is None:
            return self.tagger(images_BCHW), None
        count = len(images_BCHW)
        together = torch.cat([images_BCHW, extra_XCHW])
        scored = None if self.method.scores_unlabelled else count
        logits, features_NF = self.tagger.forward_with_features(together, num_scored=scored)
        extra_logits = logits[count:] if self.method.scores_unlabelled else None
        return logits[:count], self.method.outputs(extra_logits, features_NF, count)


def on_top(augment: Augment, images: ImageSet) -> Policy:
    """Operations on images that already have their final size."""
    return Policy(augment, image_px=images.image_px, resize=images.resize)


def check_semi(method: SemiMethod, unlabelled: ImageSet | None, *, has_ema: bool) -> None:
    """Raise ParamsError when there is nothing to learn from, or nobody to label it."""
    if not unlabelled:
        raise ParamsError(
            "params.yaml: finetune.semi: there is no unlabelled image to learn from. Add a source with `use: pool`, "
            "set finetune.labelled_per_class, or choose `name: none`."
        )
    if method.needs_ema and not has_ema:
        raise ParamsError(
            "params.yaml: finetune.semi: its pseudo-labels come from averaged weights. Set finetune.ema.enabled: true."
        )
