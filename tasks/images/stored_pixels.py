"""How pixels are stored for training, and hence what serving must start from. Pillow and numpy only."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from tasks.core.errors import SourceError
from tasks.images.decode import MAX_PIXELS, open_decoded
from tasks.images.jpeg import encode, stored_jpeg_pixels


class Stored(NamedTuple):
    """image: RGB, of the stored size.  jpeg: the bytes that stand for it.  original: they are those of the file."""

    image: Image.Image
    jpeg: bytes
    original: bool


def stored_pixels(
    source: str | Path | bytes, short_side_px: int, jpeg_quality: int | None = None, *, max_pixels: int = MAX_PIXELS
) -> np.ndarray:
    """uint8 (H, W, 3) with min(H, W) <= short_side_px and the image's aspect, up to rounding.

    A JPEG at least twice as large is decoded at a fraction of its size first, see `decode`; packing, prediction and
    serving all come through here.
    source: path, fsspec URI or encoded bytes.  jpeg_quality: what shards of JPEGs hold, rounding of the encoder
    included; None: raw pixels.  Raises SourceError where `open_rgb` and `stored_jpeg` do.
    """
    if jpeg_quality is None:
        _, decoded = open_decoded(source, max_pixels=max_pixels, least_px=short_side_px)
        return np.asarray(shrink(decoded.image, short_side_px))
    stored = stored_jpeg(source, short_side_px, jpeg_quality, max_pixels=max_pixels)
    return np.asarray(stored.image) if stored.original else stored_jpeg_pixels(stored.jpeg, *stored.image.size)


def stored_jpeg(
    source: str | Path | bytes, short_side_px: int, quality: int, *, max_pixels: int = MAX_PIXELS
) -> Stored:
    """An image at its stored size, and as a JPEG: its own bytes where those are one of that size, upright and smaller
    than the raw pixels; else encoded once.

    quality: 1 to 100, as libjpeg counts.  Raises SourceError where `open_rgb` does, and for a side that no JPEG has.
    """
    data, decoded = open_decoded(source, max_pixels=max_pixels, least_px=short_side_px)
    image = shrink(decoded.image, short_side_px)
    width, height = image.size
    if decoded.format == "JPEG" and decoded.plain and image is decoded.image and len(data) < 3 * width * height:
        return Stored(image, data, True)
    try:
        return Stored(image, encode(image, quality), False)
    except ValueError as error:
        name = "image" if isinstance(source, bytes) else source
        raise SourceError(f"{name}: {error}. Leave it out, or store raw pixels (shard.encoding: raw).") from error


def shrink(image: Image.Image, short_side_px: int) -> Image.Image:
    """The image reduced to that short side, or itself when it is not larger."""
    short = min(image.size)
    if short <= short_side_px:
        return image
    size = tuple(max(1, round(side * short_side_px / short)) for side in image.size)
    return image.resize(size, Image.Resampling.BICUBIC)
