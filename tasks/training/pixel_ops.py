"""Single image operations with a strength, shared by the randomised policies; uint8 (3, H, W) in and out.

`amount` is what the operation is defined by: degrees, a share of the side, bits, an enhancement factor.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as TF
import torchvision.transforms.v2.functional as F
from torch import Generator, Tensor

GREY = 128
"""Fill of uncovered places."""


def uniform(generator: Generator, low: float = 0.0, high: float = 1.0) -> float:
    """A number in [low, high)."""
    return low + (high - low) * torch.rand((), generator=generator).item()


def index(generator: Generator, count: int) -> int:
    """An integer in [0, count)."""
    return int(torch.randint(count, (), generator=generator))


def happens(generator: Generator, p: float) -> bool:
    """True with probability p."""
    return uniform(generator) < p


def sign(generator: Generator) -> int:
    """-1 or 1."""
    return 1 if happens(generator, 0.5) else -1


def affine(
    image: Tensor,
    *,
    degrees: float = 0.0,
    shift_px: tuple[float, float] = (0.0, 0.0),
    scale: float = 1.0,
    shear: tuple[float, float] = (0.0, 0.0),
) -> Tensor:
    """Rotate (counter-clockwise), scale and shear about the centre, then shift by (x, y) px; bilinear, grey fill.

    shear: horizontal and vertical displacement per px of distance from the centre.  torchvision's own, on four channels
    with a mask, took 1.5 times as long.
    """
    height, width = image.shape[1:]
    radians, (dx, dy), (sx, sy) = math.radians(-degrees), shift_px, shear
    a = math.cos(radians) + math.sin(radians) * sy  # a b / c d: where a pixel goes, before scale; its determinant is 1
    c = math.sin(radians) - math.cos(radians) * sy
    b, d = -a * sx - math.sin(radians), -c * sx + math.cos(radians)
    x = torch.arange(0.5 - width / 2, width / 2)  # px from the centre
    y = torch.arange(0.5 - height / 2, height / 2)[:, None]
    from_x = (x - dx) * (d / scale) - (y - dy) * (b / scale)
    from_y = (y - dy) * (a / scale) - (x - dx) * (c / scale)
    grid = torch.stack([from_x * (2 / width), from_y * (2 / height)], dim=-1)[None]  # -1 to 1 on each side
    lifted = image.to(torch.float32).sub_(GREY)[None]  # so that the zeros around it are grey
    moved = TF.grid_sample(lifted, grid, mode="bilinear", padding_mode="zeros", align_corners=False)[0]
    return moved.add_(GREY).round_().clamp_(0, 255).to(torch.uint8)


def translate(image: Tensor, x_share: float, y_share: float) -> Tensor:
    """Shift by whole pixels, shares of width and height."""
    dx, dy = round(x_share * image.shape[2]), round(y_share * image.shape[1])
    moved = torch.full_like(image, GREY)
    height, width = image.shape[1] - abs(dy), image.shape[2] - abs(dx)
    if height > 0 and width > 0:
        moved[:, max(dy, 0) : max(dy, 0) + height, max(dx, 0) : max(dx, 0) + width] = image[
            :, max(-dy, 0) : max(-dy, 0) + height, max(-dx, 0) : max(-dx, 0) + width
        ]
    return moved


def paint_square(image: Tensor, generator: Generator, side_px: int, colour: Tensor) -> Tensor:
    """A square whose centre is uniform over the image, clipped at its borders.  colour: uint8 (3,)."""
    height, width = image.shape[1:]
    top = index(generator, height) - side_px // 2
    left = index(generator, width) - side_px // 2
    image = image.clone()
    image[:, max(top, 0) : max(top + side_px, 0), max(left, 0) : max(left + side_px, 0)] = colour[:, None, None]
    return image


def contrast(image: Tensor, factor: float) -> Tensor:
    """Blend with the mean grey; 1 leaves the image. The mean is summed in integers, so threads cannot change it."""
    grey = F.rgb_to_grayscale(image, num_output_channels=1)
    mean = grey.sum(dtype=torch.int64).item() / grey.numel()
    return blend(torch.full_like(image, round(mean)), image, factor)


def solarize(image: Tensor, threshold: float) -> Tensor:
    """Invert the values from `threshold` up; 256 leaves the image."""
    return torch.where(image >= threshold, 255 - image, image)


def blend(other: Tensor, image: Tensor, factor: float) -> Tensor:
    """other + factor * (image - other), rounded and clipped to uint8; a factor above 1 extrapolates."""
    mixed = torch.lerp(other.float(), image.float(), factor)
    return mixed.round_().clamp_(0, 255).to(torch.uint8)


def colour(image: Tensor, factor: float) -> Tensor:
    """Saturation; 0 is grey, 1 leaves the image."""
    return F.adjust_saturation(image, factor)


def brightness(image: Tensor, factor: float) -> Tensor:
    """0 is black, 1 leaves the image."""
    return F.adjust_brightness(image, factor)


def sharpness(image: Tensor, factor: float) -> Tensor:
    """Blend with the image smoothed by (1 1 1, 1 5 1, 1 1 1) / 13; 1 leaves the image, the outermost pixels stay.

    Sums of shifted integers: torchvision's convolution took ten times as long at 448 px on one core.
    """
    if min(image.shape[1:]) < 3:
        return image
    wide = image.to(torch.int16)
    rows = wide[:, :-2] + wide[:, 1:-1] + wide[:, 2:]
    boxes = rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:]
    smooth = (boxes + 4 * wide[:, 1:-1, 1:-1] + 6) // 13
    sharpened = image.clone()
    sharpened[:, 1:-1, 1:-1] = blend(smooth, image[:, 1:-1, 1:-1], factor)
    return sharpened
