"""What the header of an image file claims, where Pillow refuses to open it for just that. Decodes nothing."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable

from PIL import Image

PREFIX_BYTES = 16
"""What Pillow's formats are recognised by."""


_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_JPEG_XL = (b"\xff\x0a", b"\x00\x00\x00\x0cJXL \r\n\x87\n")


def missing_reader(data: bytes) -> str | None:
    """Which format the bytes begin like that nothing installed here reads, and what would; None for any other."""
    brand = data[8:12] if data[4:8] == b"ftyp" else b""
    if brand in _HEIC_BRANDS and "HEIF" not in Image.OPEN:
        return "HEIC, for which the package pi-heif is missing (pip install pi-heif)"
    if brand in (b"avif", b"avis") and "AVIF" not in Image.OPEN:
        return "AVIF, which this build of Pillow lacks (install Pillow 11.3 or later)"
    if data.startswith(_JPEG_XL):
        return "JPEG XL, which no library here reads (save it as PNG or JPEG)"
    return None


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
