"""Any image to the size that the network takes; the same pixels in training and in serving, on every machine.

Pillow's integer arithmetic, because torch's own resampling gives other grey levels. No torch here: the exported model
is served without it.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

GREY = 128
"""Fill of the bars of a letterbox."""

RESIZES = ("stretch", "letterbox", "crop")


def fit_to(pixels_HWC: np.ndarray, image_px: tuple[int, int], resize: str) -> np.ndarray:
    """uint8 (*image_px, 3): bilinear with antialiasing.

    pixels_HWC: uint8 (H, W, 3), of any size.  image_px: (height, width).
    resize: "stretch" ignores the aspect; "letterbox" keeps it and pads evenly with mid grey; "crop" keeps it and takes
    the largest centred part that has the aspect of `image_px`.
    """
    height, width = image_px
    if pixels_HWC.shape[:2] == (height, width):
        return pixels_HWC.copy()
    image = Image.fromarray(pixels_HWC)
    ratios = (height / image.height, width / image.width)
    if resize == "stretch":
        return _scaled(image, width, height)
    if resize == "crop":
        # The part is cut by the resampling itself: covering a 20,000 x 1 image first would take gigabytes.
        part_width = min(width / max(ratios), image.width)  # rounding may exceed the image by a hair
        part_height = min(height / max(ratios), image.height)
        left, top = (image.width - part_width) / 2, (image.height - part_height) / 2
        return _scaled(image, width, height, box=(left, top, left + part_width, top + part_height))
    assert resize == "letterbox", resize
    new_height, new_width = (max(1, round(side * min(ratios))) for side in (image.height, image.width))
    top, left = (height - new_height) // 2, (width - new_width) // 2
    canvas_HWC = np.full((height, width, 3), GREY, np.uint8)
    canvas_HWC[top : top + new_height, left : left + new_width] = _scaled(image, new_width, new_height)
    return canvas_HWC


def _scaled(image: Image.Image, width: int, height: int, box: tuple[float, ...] | None = None) -> np.ndarray:
    # A copy, because torch wants arrays that may be written.
    return np.array(image.resize((width, height), Image.Resampling.BILINEAR, box=box))
