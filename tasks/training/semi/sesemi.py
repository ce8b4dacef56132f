"""SESEMI: tell by which of six transformations an image was turned or mirrored."""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from tasks.core.errors import ParamsError
from tasks.training.data import Batch, ImageSet, Step
from tasks.training.distributed import World
from tasks.training.semi.base import Augment, SemiMethod

NUM_TRANSFORMATIONS = 6
SHIFT: Augment = ({"name": "affine", "translate": 2 / 32},)
"""Up to 2 px of 32, as in the study; its noise of 0.15 standard deviations is left out."""
MIRRORING = ("hflip", "vflip")


def transformations(image_3HW: Tensor) -> list[Tensor]:
    """Labels 0 to 3: turned counter-clockwise by 0, 90, 180, 270 degrees; 4: left-right, 5: up-down mirrored."""
    return [*(torch.rot90(image_3HW, k, (-2, -1)) for k in range(4)), image_3HW.flip(-1), image_3HW.flip(-2)]


class Sesemi(SemiMethod):
    """Six copies of each image, and a linear layer on the pooled features that must name the transformation.

    Loss: weight * mean cross-entropy over the copies, the same weight throughout, as in the study.
    Source: Tran, "Exploring Self-Supervised Regularization for Supervised and Semi-Supervised Learning", 2019.

    ratio: 16 images (96 copies) beside 96 labelled ones in the study.
    weight: the study's 1 stands beside a cross-entropy an image; beside a mean over C labels 1 / C is as strong.
    images: all, as in the study; unlabelled; or labelled, which then needs no unlabelled image.
    augment: of the images before the six copies are made; mirroring would contradict their labels.
    """

    def __init__(
        self,
        num_features: int,
        *,
        ratio: float = 1 / 6,
        weight: float = 1.0,
        images: Literal["all", "unlabelled", "labelled"] = "all",
        augment: Augment = SHIFT,
    ) -> None:
        super().__init__(ratio=ratio, weight=weight)
        if images not in get_args(Literal["all", "unlabelled", "labelled"]):
            raise ValueError(f"images must be all, unlabelled or labelled, found '{images}'")
        mirrors = [entry["name"] for entry in augment if entry.get("name") in MIRRORING]
        if mirrors:
            raise ValueError(f"augment holds {mirrors[0]}, which is one of the transformations to be told apart")
        self.draws_from, self.augment = images, augment
        self.proxy = nn.Linear(num_features, NUM_TRANSFORMATIONS)

    def attach(self, labelled: ImageSet, unlabelled: ImageSet) -> None:
        height, width = unlabelled.image_px
        if height != width:
            raise ParamsError(
                f"params.yaml: model.image_px: sesemi turns images by 90 degrees, which needs a square, found "
                f"[{height}, {width}]."
            )

    def views(self, weak: Tensor, generator: Generator) -> list[Tensor]:
        return transformations(weak)

    def outputs(self, extra_logits_XC: Tensor | None, features_NF: Tensor, num_labelled: int) -> Tensor:
        """Logits (6 U, 6) of the transformations."""
        return self.proxy(features_NF[num_labelled:])

    def cost(self, outputs: Tensor, batch: Batch, loss: nn.Module, world: World) -> Tensor:
        copies = torch.arange(NUM_TRANSFORMATIONS, device=outputs.device)
        labels = copies.repeat_interleave(len(outputs) // NUM_TRANSFORMATIONS)
        return F.cross_entropy(outputs.float(), labels, reduction="sum")

    def expected(self, step: Step, loss: nn.Module) -> float:
        return NUM_TRANSFORMATIONS * len(step.unlabelled_rows)
