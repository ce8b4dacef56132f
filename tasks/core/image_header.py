"""What the header of an image file claims, where Pillow refuses to open it for just that. Decodes nothing."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable

from PIL import Image

PREFIX_BYTES = 16
"""What Pillow's formats are recognised by."""


def claimed_size(data: bytes, formats: Iterable[str]) -> tuple[int, int] | None:
    """(width, height) in px by the header of the first of `formats` that accepts the bytes; None where none tells."""
    for factory, accept in (Image.OPEN[name] for name in formats):
        if accept and accept(data[:PREFIX_BYTES]) is True:
            with contextlib.suppress(Exception):
                return factory(io.BytesIO(data), "").size
    return None


def other_format(data: bytes, formats: Iterable[str]) -> str | None:
    """The format outside `formats` that the bytes begin like; None where they begin like no image."""
    allowed = set(formats)
    for name, (_, accept) in Image.OPEN.items():
        if name not in allowed and accept and accept(data[:PREFIX_BYTES]) is True:
            return name
    return None
