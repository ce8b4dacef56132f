"""Augmentation policies: an ordered list of operations on uint8 images (3, H, W), and the fixed step that gives a size.

    augment:
      - {name: hflip, p: 0.5}
      - {name: rand_augment}
      - {name: cutout, p: 0.5, size: 0.4}

The image is resized first (stretch, letterbox or crop to image_px, which need not be square) and then augmented in the
order of the list; only `random_resized_crop`, which must stand first, works on the stored image and replaces the
resizing. Every draw comes from the generator that is passed in, so that an image's augmentation is a function of
(seed, epoch, image, copy) and of nothing else.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torchvision.transforms.v2.functional as F
from pydantic import ValidationError, validate_call
from torch import Generator, Tensor

from tasks.core.errors import ParamsError, did_you_mean
from tasks.nn.geometry import fit_to
from tasks.training import pixel_ops as ops
from tasks.training.randomised import augmix, rand_augment

ImageOp = Callable[[Tensor, Generator], Tensor]
"""(uint8 (3, H, W), generator) -> uint8 (3, H', W')."""


# ---------------------------------------------------------------- the fixed step


def resize(image: Tensor, image_px: tuple[int, int], mode: str) -> Tensor:
    """uint8 (3, *image_px), as `nn.geometry.fit_to` makes it for serving too."""
    fitted_HWC = fit_to(image.permute(1, 2, 0).numpy(), image_px, mode)
    return torch.from_numpy(fitted_HWC).permute(2, 0, 1).contiguous()


def _scaled(image: Tensor, height: int, width: int) -> Tensor:
    if image.shape[1:] == (height, width):
        return image
    # Torch scales pixels that lie densely, colours together, twice as fast as a part of an image; to equal values.
    dense = image.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    return F.resize(dense, [height, width], antialias=True).contiguous()


# ---------------------------------------------------------------- operations


def _sometimes(p: float, op: ImageOp) -> ImageOp:
    """Apply `op` with probability p."""
    return lambda image, g: op(image, g) if ops.happens(g, p) else image


def hflip(*, p: float = 0.5) -> ImageOp:
    """Mirror left and right."""
    return _sometimes(p, lambda image, g: F.horizontal_flip(image))


def vflip(*, p: float = 0.5) -> ImageOp:
    """Mirror top and bottom."""
    return _sometimes(p, lambda image, g: F.vertical_flip(image))


def cutout(*, p: float = 0.5, size: float = 0.4) -> ImageOp:
    """One square of `size` times the short side in a random solid colour.

    Source: DeVries & Taylor 2017; p and size as in Prokofiev & Sovrasov's released code.
    """

    def op(image: Tensor, g: Generator) -> Tensor:
        colour = torch.randint(256, (3,), generator=g, dtype=torch.uint8)
        return ops.paint_square(image, g, round(size * min(image.shape[1:])), colour)

    return _sometimes(p, op)


def rotate(*, p: float = 0.35, degrees: float = 10.0) -> ImageOp:
    """Rotate by up to `degrees` either way (defaults: OTX)."""
    return _sometimes(p, lambda image, g: ops.affine(image, degrees=ops.uniform(g, -degrees, degrees)))


def affine(
    *,
    p: float = 1.0,
    degrees: float = 0.0,
    translate: float = 0.0,
    scale: Sequence[float] = (1.0, 1.0),
    shear: float = 0.0,
) -> ImageOp:
    """Rotation, translation, scale and shear at once, each uniform within its limit.

    degrees: either way.  translate: share of each side.  scale: smallest and largest factor.  shear: px per px.
    """
    low, high = scale

    def op(image: Tensor, g: Generator) -> Tensor:
        height, width = image.shape[1:]
        return ops.affine(
            image,
            degrees=ops.uniform(g, -degrees, degrees),
            shift_px=(width * ops.uniform(g, -translate, translate), height * ops.uniform(g, -translate, translate)),
            scale=ops.uniform(g, low, high),
            shear=(ops.uniform(g, -shear, shear), ops.uniform(g, -shear, shear)),
        )

    return _sometimes(p, op)


def random_resized_crop(
    *, image_px: tuple[int, int], scale: Sequence[float] = (0.08, 1.0), ratio: Sequence[float] = (3 / 4, 4 / 3)
) -> ImageOp:
    """A random part of the stored image, resized to image_px.

    scale: share of the area.  ratio: width over height, drawn evenly on a log scale.  After ten draws that do not fit
    the largest centred part of an allowed ratio is taken.  Source: Szegedy et al. 2015, as in torchvision.
    """

    def op(image: Tensor, g: Generator) -> Tensor:
        height, width = image.shape[1:]
        for _ in range(10):
            area = height * width * ops.uniform(g, *scale)
            aspect = math.exp(ops.uniform(g, math.log(ratio[0]), math.log(ratio[1])))
            w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if 0 < w <= width and 0 < h <= height:
                top, left = ops.index(g, height - h + 1), ops.index(g, width - w + 1)
                return _scaled(image[:, top : top + h, left : left + w], *image_px)
        aspect = min(max(width / height, ratio[0]), ratio[1])
        w, h = min(width, round(height * aspect)), min(height, round(width / aspect))
        return _scaled(F.center_crop(image, [h, w]), *image_px)

    return op


AUGMENTATIONS: dict[str, Callable[..., ImageOp]] = {
    "hflip": hflip,
    "vflip": vflip,
    "rand_augment": rand_augment,
    "cutout": cutout,
    "augmix": augmix,
    "rotate": rotate,
    "affine": affine,
    "random_resized_crop": random_resized_crop,
}


# ---------------------------------------------------------------- the policy


class Policy:
    """Stored image -> network-size image, augmented.

    augment: entries {name: ..., option: ...} in order; [] only resizes.  image_px: (height, width).
    resize: stretch | letterbox | crop.  where: the key in params.yaml, for messages.
    Raises ParamsError for an unknown name or option, a value of another type, or random_resized_crop elsewhere than
    first.
    """

    def __init__(
        self, augment: Sequence[Mapping[str, Any]], *, image_px: tuple[int, int], resize: str, where: str = "augment"
    ) -> None:
        self.image_px, self.resize = tuple(image_px), resize
        self.ops = [_build(entry, f"{where}[{i}]", self.image_px) for i, entry in enumerate(augment)]
        crops = [i for i, entry in enumerate(augment) if entry["name"] == "random_resized_crop"]
        if crops not in ([], [0]):
            raise ParamsError(f"{where}[{crops[-1]}]: random_resized_crop replaces resizing; put it first.")
        self.crops = bool(crops)

    def __call__(self, image: Tensor, generator: Generator) -> Tensor:
        """image: uint8 (3, H, W) of any size.  Returns uint8 (3, *image_px)."""
        if not self.crops:
            image = resize(image, self.image_px, self.resize)
        for op in self.ops:
            image = op(image, generator)
        return image


def _build(entry: Mapping[str, Any], where: str, image_px: tuple[int, int]) -> ImageOp:
    options = dict(entry)
    name = options.pop("name", None)
    if name not in AUGMENTATIONS:
        raise ParamsError(f"{where}: '{name}' is no augmentation. {did_you_mean(str(name), AUGMENTATIONS)}")
    accepted = inspect.signature(AUGMENTATIONS[name]).parameters
    context = {"image_px": image_px} if "image_px" in accepted else {}
    known = [option for option in accepted if option not in context]
    for option in options:
        if option not in known:
            raise ParamsError(f"{where}: {name} has no option '{option}'. {did_you_mean(option, known)}")
    try:
        return validate_call(AUGMENTATIONS[name])(**context, **options)
    except ValidationError as error:
        problem = error.errors()[0]
        raise ParamsError(f"{where}: {name}: {problem['loc'][0]}: {problem['msg']}.") from error
