"""Formats of phones and of the web that a library may be missing for: read, or a reason that names what is missing."""

from __future__ import annotations

import base64
import importlib.util

import pytest

from tasks.core.image_suffixes import IMAGE_SUFFIXES
from tasks.images.decode import Unusable, decode

HEIC = base64.b64decode(
    "AAAAHGZ0eXBoZWljAAAAAG1pZjFoZWljbWlhZgAAAXxtZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAAAAAAAAAAAAAAACJpbG9jAAAA"
    "AERAAAEAAQAAAAABoAABAAAAAAAAACoAAAAjaWluZgAAAAAAAQAAABVpbmZlAgAAAAABAABodmMxAAAAAA5waXRtAAAAAAABAAAA/GlwcnAAAADc"
    "aXBjbwAAAHVodmNDAQNwAAAAkAAAAAAAHvAA/P34+AAADwNgAAEAGEABDAH//wNwAAADAJAAAAMAAAMAHroCQGEAAQApQgEBA3AAAAMAkAAAAwAA"
    "AwAeoCCBBZbqrprm4CGgwIAAAAyAAAADAIRiAAEABkQBwXPBiQAAABNjb2xybmNseAABAA0ABoAAAAAUaXNwZQAAAAAAAABAAAAAQAAAAChjbGFw"
    "AAAAEAAAAAEAAAAQAAAAAf///9AAAAAC////0AAAAAIAAAAQcGl4aQAAAAADCAgIAAAAGGlwbWEAAAAAAAAAAQABBYECAwWEAAAAMm1kYXQAAAAm"
    "KAGvGSFeQkDvXaW//34+/1mF/iVbfKZKppcE14iZCwOBgI2RnTg="
)
"""16 x 16 px of (200, 30, 30), as a phone writes it."""

JPEG_XL = (b"\xff\x0a\x00\x00", b"\x00\x00\x00\x0cJXL \r\n\x87\n\x00\x00")


@pytest.mark.skipif(not importlib.util.find_spec("pi_heif"), reason="pi-heif is not installed (optional)")
def test_heic_is_read_where_its_library_is_installed():
    assert decode(HEIC).image.getpixel((8, 8)) == pytest.approx((200, 30, 30), abs=6)


@pytest.mark.skipif(bool(importlib.util.find_spec("pi_heif")), reason="pi-heif is installed")
def test_heic_without_its_library_names_what_is_missing():
    with pytest.raises(Unusable, match=r"HEIC, for which the package pi-heif is missing"):
        decode(HEIC)


@pytest.mark.parametrize("data", JPEG_XL)
def test_jpeg_xl_says_that_no_library_here_reads_it(data):
    with pytest.raises(Unusable, match="JPEG XL, which no library here reads"):
        decode(data)


def test_folders_are_searched_for_them():
    assert {".heic", ".heif", ".hif", ".jxl", ".avif"} <= set(IMAGE_SUFFIXES)
