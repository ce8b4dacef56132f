"""The 64-bit perceptual hash: equal for copies, a few bits apart for re-encoded, resized or slightly edited ones.

Definition: luma (ITU-R 601) of the EXIF-rotated RGB image, resized to 32 x 32 by Lanczos; two-dimensional DCT-II; of
its 8 x 8 lowest frequencies, the bit of a coefficient is set where it exceeds their median. The first coefficient is
the most significant bit, rows first: the bits of `imagehash.phash`. JPEGs are decoded at full size; a decoder's faster
half-size output (Pillow's `draft`) has other pixels and would give other bits.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

SIDE_PX, LOWEST = 32, 8

DCT_KX = 2 * np.cos(np.pi * np.arange(LOWEST)[:, None] * (2 * np.arange(SIDE_PX) + 1) / (2 * SIDE_PX))
"""The K lowest cosines at the X pixels of one axis; DCT-II without normalisation."""


def phash(image: Image.Image) -> int:
    """The hash of an RGB or grey image, in [0, 2**64)."""
    pixels_XX = np.asarray(image.convert("L").resize((SIDE_PX, SIDE_PX), Image.Resampling.LANCZOS), np.float64)
    # Coefficients that are 0 in theory come out as rounding noise, different on each machine: without rounding,
    # symmetric and flat images would get random bits.
    lowest_KK = np.round(DCT_KX @ pixels_XX @ DCT_KX.T, 6)
    return int.from_bytes(np.packbits(lowest_KK > np.median(lowest_KK)).tobytes(), "big")
