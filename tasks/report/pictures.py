"""Pictures inside the page: small JPEGs as data URIs."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image

SIDE_PX = 192
QUALITY = 80
LARGE_PX = 1024


def data_uri(pixels_HWC: np.ndarray, side_px: int = SIDE_PX) -> str:
    """uint8 (H, W, 3) -> `data:image/jpeg;base64,…` whose longer side is `side_px`; small images are enlarged crisply."""
    image = Image.fromarray(pixels_HWC)
    scale = side_px / max(image.size)
    size = tuple(max(1, round(side * scale)) for side in image.size)
    image = image.resize(size, Image.Resampling.NEAREST if scale > 1.5 else Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def jpeg(image: Image.Image, side_px: int = LARGE_PX) -> bytes:
    """The image as a JPEG whose longer side is at most `side_px`."""
    image.thumbnail((side_px, side_px), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()
