"""RandAugment and AugMix in the forms that the published recipes used."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torchvision.transforms.v2.functional as F
from torch import Generator, Tensor

from tasks.training import pixel_ops as ops

LeveledOp = Callable[[Tensor, float, Generator], Tensor]
"""(image, strength in [0, 1], generator) -> image; the generator gives signs and places."""


def _enhanced(enhance: Callable[[Tensor, float], Tensor]) -> LeveledOp:
    """Factor 1 + or - up to 0.9."""
    return lambda image, strength, g: enhance(image, 1 + 0.9 * strength * ops.sign(g))


def _sheared(horizontal: bool) -> LeveledOp:
    def op(image: Tensor, strength: float, g: Generator) -> Tensor:
        shear = 0.3 * strength * ops.sign(g)
        return ops.affine(image, shear=(shear, 0.0) if horizontal else (0.0, shear))

    return op


def _translated(horizontal: bool, most: float) -> LeveledOp:
    def op(image: Tensor, strength: float, g: Generator) -> Tensor:
        share = most * strength * ops.sign(g)
        return ops.translate(image, share, 0.0) if horizontal else ops.translate(image, 0.0, share)

    return op


def _small_cutout(image: Tensor, strength: float, g: Generator) -> Tensor:
    return ops.paint_square(image, g, round(20 * strength), torch.tensor([125, 122, 113], dtype=torch.uint8))


RAND_AUGMENT_OPS: dict[str, LeveledOp] = {
    "invert": lambda image, strength, g: F.invert(image),
    "cutout": _small_cutout,
    "sharpness": _enhanced(ops.sharpness),
    "autocontrast": lambda image, strength, g: F.autocontrast(image),
    "posterize": lambda image, strength, g: F.posterize(image, round(8 - 4 * strength)),
    "shear_x": _sheared(horizontal=True),
    "shear_y": _sheared(horizontal=False),
    "translate_x": _translated(horizontal=True, most=150 / 331),
    "translate_y": _translated(horizontal=False, most=150 / 331),
    "rotate": lambda image, strength, g: ops.affine(image, degrees=30 * strength * ops.sign(g)),
    "equalize": lambda image, strength, g: F.equalize(image),
    "contrast": _enhanced(ops.contrast),
    "colour": _enhanced(ops.colour),
    "solarize": lambda image, strength, g: ops.solarize(image, 256 * (1 - strength)),
    "brightness": _enhanced(ops.brightness),
}
"""The operations of the `randaugment` package that the multi-label codes import."""

NUM_MAGNITUDES = 9


def rand_augment(*, num_ops: int = 2, p: float = 0.5) -> Callable[[Tensor, Generator], Tensor]:
    """`num_ops` operations drawn with replacement from 15 operations x 9 magnitudes, each applied with probability p.

    Not torchvision's or timm's RandAugment: with the defaults a quarter of the images stay untouched.
    Source: PyPI randaugment 1.0.2, as used by Ridnik et al. and Prokofiev & Sovrasov.
    """
    names = list(RAND_AUGMENT_OPS)

    def op(image: Tensor, g: Generator) -> Tensor:
        for _ in range(num_ops):
            name, magnitude = names[ops.index(g, len(names))], 1 + ops.index(g, NUM_MAGNITUDES)
            if ops.happens(g, p):
                image = RAND_AUGMENT_OPS[name](image, magnitude / NUM_MAGNITUDES, g)
        return image

    return op


AUGMIX_OPS: dict[str, LeveledOp] = {
    "autocontrast": lambda image, strength, g: F.autocontrast(image),
    "colour": _enhanced(ops.colour),
    "contrast": _enhanced(ops.contrast),
    "brightness": _enhanced(ops.brightness),
    "sharpness": _enhanced(ops.sharpness),
    "equalize": lambda image, strength, g: F.equalize(image),
    "posterize": lambda image, strength, g: F.posterize(image, max(1, 4 - int(4 * strength))),
    "solarize": lambda image, strength, g: ops.solarize(image, 256 * (1 - strength)),
    "shear_x": _sheared(horizontal=True),
    "shear_y": _sheared(horizontal=False),
    "translate_x": _translated(horizontal=True, most=0.45),
    "translate_y": _translated(horizontal=False, most=0.45),
}
"""The 12 operations of OTX's AugMix: no rotation, but colour, contrast, brightness and sharpness."""

MAX_LEVEL = 10


def augmix(*, magnitude: float = 5.0, width: int = 3) -> Callable[[Tensor, Generator], Tensor]:
    """Mix `width` chains of one to three operations with the image; level ~ U(0, magnitude) of 10. OTX's m5-w3.

    Chain weights ~ Dirichlet(1, ...), share of the mixture ~ Beta(1, 1) = U(0, 1). No Jensen-Shannon term.
    Source: Hendrycks et al., ICLR 2020; operations and levels as in OpenVINO Training Extensions 1.x.
    """
    names = list(AUGMIX_OPS)

    def op(image: Tensor, g: Generator) -> Tensor:
        # Exponentials divided by their sum are Dirichlet(1, ..., 1).
        weights = torch.empty(width).exponential_(generator=g)
        weights = weights / weights.sum()
        share = ops.uniform(g)
        mixture = torch.zeros(image.shape)
        for weight in weights.tolist():
            chained = image
            for _ in range(1 + ops.index(g, 3)):
                strength = ops.uniform(g, 0, magnitude) / MAX_LEVEL
                chained = AUGMIX_OPS[names[ops.index(g, len(names))]](chained, strength, g)
            mixture += weight * chained
        return torch.lerp(image.float(), mixture, share).round_().clamp_(0, 255).to(torch.uint8)

    return op
