"""Scenes of real handwritten digits on tinted paper, drawn in memory.

Axes: N glyphs, H W pixels, C colours.

The glyphs are the 1,797 of `sklearn.datasets.load_digits` (UCI Optical Recognition of Handwritten Digits, Alpaydin and
Kaynak 1998, CC BY 4.0).
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

NUM_DIGITS_SHARE = (0.08, 0.26, 0.30, 0.22, 0.14)  # share of scenes with 0, 1, … 4 digits
DIGIT_WEIGHT = np.linspace(1.6, 0.4, 10)  # nines four times as rare as zeros, so that resampling has work
GLYPH_SIDE = (0.30, 0.46)  # of the scene's side
TEST_GLYPH_SHARE = 0.25

Box = tuple[int, int, int, int]
"""x, y, width, height in px."""


@dataclass(frozen=True)
class Glyphs:
    """images_NHW: float32 (N, 8, 8), ink in [0, 1].  digits_N: int64 (N,), 0..9."""

    images_NHW: np.ndarray
    digits_N: np.ndarray


@dataclass(frozen=True)
class Drawn:
    """One digit in a scene. area: px covered by ink."""

    digit: int
    box: Box
    area: int


@dataclass(frozen=True)
class Scene:
    """content: the bytes of the image file.  drawn: what is truly there.  given: what the annotations claim."""

    content: bytes
    drawn: tuple[Drawn, ...]
    given: tuple[Drawn, ...]

    @property
    def digits(self) -> set[int]:
        return {d.digit for d in self.drawn}

    @property
    def given_digits(self) -> set[int]:
        return {d.digit for d in self.given}


def load_glyphs() -> Glyphs:
    """scikit-learn's 1,797 handwritten digits, 8 x 8 px."""
    from sklearn.datasets import load_digits

    bundle = load_digits()
    return Glyphs((bundle.images / 16).astype(np.float32), bundle.target)


def split_glyphs(glyphs: Glyphs, rng: np.random.Generator) -> tuple[Glyphs, Glyphs]:
    """Glyphs for every other part, and glyphs for test scenes only; the same share of each digit."""
    theirs, ours = share_glyphs(glyphs, (TEST_GLYPH_SHARE, 1 - TEST_GLYPH_SHARE), rng)
    return ours, theirs


def share_glyphs(glyphs: Glyphs, shares: Sequence[float], rng: np.random.Generator) -> list[Glyphs]:
    """One set of glyphs for each of the `shares`, which sum to 1, disjoint; the same share of every digit."""
    part_N = np.zeros(len(glyphs.digits_N), int)
    for digit in range(10):
        of_digit = rng.permutation(np.flatnonzero(glyphs.digits_N == digit))
        bounds = np.rint(np.cumsum(shares[:-1]) * len(of_digit)).astype(int)
        for part, members in enumerate(np.split(of_digit, bounds)):
            part_N[members] = part
    return [Glyphs(glyphs.images_NHW[part_N == p], glyphs.digits_N[part_N == p]) for p in range(len(shares))]


def draw_scene(glyphs: Glyphs, image_px: int, rng: np.random.Generator) -> Scene:
    """Up to four digits of dark ink on uneven, tinted paper, hardly overlapping; annotated correctly."""
    canvas_HWC = _paper(image_px, rng)
    drawn: list[Drawn] = []
    for digit in rng.choice(10, size=rng.choice(5, p=NUM_DIGITS_SHARE), p=DIGIT_WEIGHT / DIGIT_WEIGHT.sum()):
        glyph = rng.choice(np.flatnonzero(glyphs.digits_N == digit))
        ink_HW = ink(glyphs.images_NHW[glyph], rng.uniform(*GLYPH_SIDE) * image_px, rng.uniform(-12, 12))
        place = free_place(ink_HW.shape, image_px, [d.box for d in drawn], rng)
        if place is None:
            continue
        x, y, (height, width) = *place, ink_HW.shape
        colour = rng.uniform(0, 90, 3)
        region = canvas_HWC[y : y + height, x : x + width]
        region += ink_HW[..., None] * (colour - region)
        drawn.append(Drawn(int(digit), (x, y, width, height), int((ink_HW > 0.5).sum())))
    canvas_HWC += rng.normal(0, 4, canvas_HWC.shape)
    return Scene(jpeg(canvas_HWC), tuple(drawn), tuple(drawn))


def _paper(image_px: int, rng: np.random.Generator) -> np.ndarray:
    """float64 (H, W, 3) in 0..255: a pale tint with soft blotches, so that empty scenes differ too."""
    coarse = Image.fromarray(rng.uniform(-28, 28, (7, 7)).astype(np.float32))
    blotches_HW = np.asarray(coarse.resize((image_px, image_px), Image.Resampling.BICUBIC), np.float64)
    return rng.uniform(185, 240, 3) + blotches_HW[..., None]


def ink(glyph_HW: np.ndarray, side_px: float, degrees: float) -> np.ndarray:
    """Opacity in [0, 1] of one glyph, enlarged smoothly, tilted, and cut to its ink."""
    side = max(8, round(side_px))
    large = Image.fromarray(np.pad(glyph_HW, 1)).resize((2 * side, 2 * side), Image.Resampling.BICUBIC)
    tilted = large.rotate(degrees, Image.Resampling.BICUBIC, expand=True)
    small = tilted.resize((tilted.width // 2, tilted.height // 2), Image.Resampling.BOX)
    ink_HW = np.clip(np.asarray(small, np.float64) * 1.3, 0, 1)
    rows, columns = np.flatnonzero((ink_HW > 0.25).any(1)), np.flatnonzero((ink_HW > 0.25).any(0))
    return ink_HW[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def free_place(
    shape: tuple[int, int], image_px: int, taken: Sequence[Box], rng: np.random.Generator
) -> tuple[int, int] | None:
    """Left and top of a box inside the scene of which `taken` boxes cover at most a tenth, or None."""
    height, width = shape
    for _ in range(50):
        x, y = int(rng.integers(image_px - width + 1)), int(rng.integers(image_px - height + 1))
        covered = sum(_overlap((x, y, width, height), other) for other in taken)
        if covered <= 0.1 * width * height:
            return x, y
    return None


def _overlap(a: Box, b: Box) -> int:
    """Common area of two boxes, px."""
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    return max(width, 0) * max(height, 0)


def jpeg(image_HWC: np.ndarray, quality: int = 90) -> bytes:
    """A JPEG file without chroma subsampling of float (H, W, 3) in 0..255, clipped and rounded."""
    buffer = io.BytesIO()
    pixels = np.clip(np.rint(image_HWC), 0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality, subsampling=0)
    return buffer.getvalue()
