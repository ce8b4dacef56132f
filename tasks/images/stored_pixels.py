"""How pixels are stored for training, and hence what serving must start from. Pillow and numpy only."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from tasks.images.decode import MAX_PIXELS, open_rgb


def stored_pixels(source: str | Path | bytes, short_side_px: int, *, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """uint8 (H, W, 3) with min(H, W) <= short_side_px and the image's aspect, up to rounding.

    A JPEG at least twice as large is decoded at a fraction of its size first, see `decode`; packing, prediction and
    serving all come through here.
    source: path, fsspec URI or encoded bytes.  Raises SourceError where `open_rgb` does.
    """
    return np.asarray(shrink(open_rgb(source, max_pixels=max_pixels, least_px=short_side_px), short_side_px))


def shrink(image: Image.Image, short_side_px: int) -> Image.Image:
    """The image reduced to that short side, or itself when it is not larger."""
    short = min(image.size)
    if short <= short_side_px:
        return image
    size = tuple(max(1, round(side * short_side_px / short)) for side in image.size)
    return image.resize(size, Image.Resampling.BICUBIC)
