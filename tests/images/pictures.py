"""Image files of every awkward kind, made in the test."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image


def scene(width: int = 48, height: int = 32, seed: int = 0) -> Image.Image:
    """A smooth colour picture that differs by seed."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (6, 8, 3), np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def encode(image: Image.Image, format: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def rotated_by_exif(image: Image.Image) -> bytes:
    """A JPEG stored on its side: orientation 6, to be turned by 90 degrees clockwise."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return encode(image.transpose(Image.Transpose.ROTATE_90), "JPEG", quality=95, subsampling=0, exif=exif)


def sixteen_bit() -> bytes:
    ramp = np.linspace(0, 65535, 32 * 32).reshape(32, 32).astype(np.uint16)
    return encode(Image.fromarray(ramp), "PNG")


def animation(format: str) -> bytes:
    frames = [scene(seed=s) for s in range(3)]
    return encode(frames[0], format, save_all=True, append_images=frames[1:], duration=50)


def transparent() -> bytes:
    """Red that is fully transparent on the left half, opaque on the right."""
    rgba = np.zeros((16, 16, 4), np.uint8)
    rgba[..., 0] = 255
    rgba[:, 8:, 3] = 255
    return encode(Image.fromarray(rgba), "PNG")


def huge_header() -> bytes:
    """A small PNG that claims to hold 30,000 x 30,000 pixels."""
    data = bytearray(encode(Image.new("L", (8, 8)), "PNG"))
    data[16:24] = struct.pack(">II", 30_000, 30_000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return bytes(data)
