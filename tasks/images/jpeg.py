"""Plain JPEGs to pixels and back: what the shards store, and the quick way to what Pillow decodes.

simplejpeg hands a whole file to libjpeg-turbo outside the interpreter lock; Pillow, with the same library, passes it on
in pieces and copies. Both give equal pixels, so a machine without simplejpeg only takes longer.
"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

try:
    import simplejpeg
except ModuleNotFoundError:  # prediction alone needs Pillow and numpy
    simplejpeg = None

MAX_SIDE_PX = 65_500
"""Of libjpeg: the format's own limit is 65,535."""


def quick_pixels(data: bytes | memoryview, width: int, height: int, *, scaled: bool = False) -> np.ndarray | None:
    """uint8 (height, width, 3) of a JPEG of colour or grey, not turned; None where the careful way must look.

    width, height: px, as the header says, or, `scaled`, 1/2, 1/4 or 1/8 of it, rounded up.
    None: without simplejpeg, and for whatever libjpeg warns of, be it truncated or only odd.
    """
    if simplejpeg is None:
        return None
    least = {"min_height": height, "min_width": width} if scaled else {}
    try:
        # The buffer holds what the header told Pillow, so no other reading of it can ask for more memory.
        buffer_HWC = np.empty((height, width, 3), np.uint8)
        pixels_HWC = simplejpeg.decode_jpeg(data, "RGB", buffer=buffer_HWC, **least)
    except ValueError:
        return None
    return pixels_HWC if pixels_HWC.shape == buffer_HWC.shape else None


def stored_jpeg_pixels(data: bytes | memoryview, width: int, height: int) -> np.ndarray:
    """uint8 (height, width, 3) of what `encode` gave, or of a small JPEG kept as it came. Raises OSError if damaged."""
    pixels_HWC = quick_pixels(data, width, height)
    if pixels_HWC is None:
        with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
            pixels_HWC = np.array(image.convert("RGB"))
    return pixels_HWC


def encode(image: Image.Image, quality: int) -> bytes:
    """A JPEG of an RGB image: colours at half resolution (4:2:0), no metadata. Equal pixels give equal bytes.

    Always Pillow's, so that what is packed on one machine and predicted on another is rounded alike.
    Raises ValueError for a side beyond `MAX_SIDE_PX`.
    """
    if max(image.size) > MAX_SIDE_PX:
        raise ValueError(f"a side of {max(image.size):,} px is more than a JPEG holds")
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality, subsampling="4:2:0", comment="")
    return buffer.getvalue()
