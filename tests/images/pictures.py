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


def huge_png(side: int) -> bytes:
    """A valid black PNG of side x side, 1 bit a pixel: some hundred kilobytes that unpack to side**2 px."""
    row = bytes(1 + -(-side // 8))
    deflate = zlib.compressobj(9)
    packed = b"".join([*(deflate.compress(row) for _ in range(side)), deflate.flush()])

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def icns_around(png: bytes) -> bytes:
    """An ICNS whose largest icon, of 1024 px by its name, is this PNG, whatever its size."""
    body = b"ic10" + struct.pack(">I", 8 + len(png)) + png
    return b"icns" + struct.pack(">I", 8 + len(body)) + body


def ico_around(png: bytes) -> bytes:
    """An ICO that says 256 x 256 and holds this PNG."""
    return struct.pack("<HHHBBBBHHII", 0, 1, 1, 0, 0, 0, 0, 1, 32, len(png), 22) + png


def bmp_of(width: int, height: int) -> bytes:
    """A BMP whose header claims this size, as two 32-bit numbers."""
    data = bytearray(encode(scene(), "BMP"))
    data[18:26] = struct.pack("<II", width & 0xFFFFFFFF, height & 0xFFFFFFFF)
    return bytes(data)


def gif_with_a_large_later_frame() -> bytes:
    """A GIF of 8 x 8 whose second frame claims 65,535 x 65,535."""
    data = encode(Image.new("P", (8, 8)), "GIF", save_all=True, append_images=[Image.new("P", (8, 8), 1)], loop=0)
    second = data.rindex(b"\x2c\0\0\0\0\x08\0\x08\0")
    return data[: second + 5] + struct.pack("<HH", 65_535, 65_535) + data[second + 9 :]
