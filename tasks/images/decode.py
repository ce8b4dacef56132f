"""Bytes of an image file -> 8-bit RGB as a person sees it: rotated by EXIF, first frame, opaque.

Everything that looks at pixels decodes here, so that hashing, training and serving see the same image.
"""

from __future__ import annotations

import contextlib
import io
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from tasks.core.errors import SourceError
from tasks.core.image_header import claimed_size, missing_reader, other_format
from tasks.images.jpeg import quick_pixels

with contextlib.suppress(ImportError):  # optional: phones' HEIC
    from pi_heif import register_heif_opener

    register_heif_opener()
Image.init()  # all plugins now, so that threads do not race to load them
warnings.simplefilter("error", Image.DecompressionBombWarning)

KNOWN = ("JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "PPM", "AVIF", "JPEG2000", "HEIF")
FORMATS = tuple(name for name in KNOWN if name in Image.OPEN)
"""What is decoded. Pillow knows more: containers such as ICNS and ICO unpack pictures inside them whose size their
header does not tell, EPS starts an interpreter, and others are rarely looked at."""

MAX_PIXELS = 178_956_970
"""Where Pillow refuses by default: 2 x 256 MiB of 24-bit RGB."""

UPRIGHT = 1
"""EXIF orientation of a picture that need not be turned."""

Animated = Literal["first_frame", "quarantine"]


class Unusable(Exception):
    """The bytes are no image that can be used.

    str() is the reason, alike for all images with that fault, so that they can be counted by it.  size: (width, height)
    in px as far as the header told.
    """

    def __init__(self, reason: str, size: tuple[int, int] | None = None) -> None:
        super().__init__(reason)
        self.size = size


@dataclass(frozen=True)
class Decoded:
    """image: mode RGB.  format: Pillow's name of the real format, e.g. JPEG.  notes: what was converted.

    plain: whether the pixels are those of the file's first picture as they lie in it: not turned, scaled or converted.
    """

    image: Image.Image
    format: str
    notes: Sequence[str]
    plain: bool


def open_rgb(source: str | Path | bytes, *, max_pixels: int = MAX_PIXELS, least_px: int | None = None) -> Image.Image:
    """The image of a path, fsspec URI or encoded bytes, as mode RGB after EXIF rotation.

    CMYK, 16-bit, palette and grey pixels are converted; transparency is laid on white; an animation gives its first
    frame.
    least_px: as in `decode`.
    Raises SourceError naming the file when it is absent, truncated, no image, or larger than `max_pixels`.
    """
    return open_decoded(source, max_pixels=max_pixels, least_px=least_px)[1].image


def open_decoded(
    source: str | Path | bytes, *, max_pixels: int = MAX_PIXELS, least_px: int | None = None
) -> tuple[bytes, Decoded]:
    """The encoded bytes, and what `open_rgb` makes of them."""
    name = "image" if isinstance(source, bytes) else str(source)
    try:
        data = source if isinstance(source, bytes) else read_bytes(name)
        return data, decode(data, max_pixels=max_pixels, least_px=least_px)
    except Unusable as error:
        raise SourceError(f"{name}: {error}. Replace the file or leave it out.") from error
    except OSError as error:
        raise SourceError(f"{name}: cannot be read ({error}). Check the path and its permissions.") from error


def read_bytes(location: str) -> bytes:
    """All bytes of a local path or fsspec URI. Raises OSError."""
    if is_local(location):
        with open(local_path(location), "rb") as file:
            return file.read()
    import fsspec  # only here: prediction from local files does without it

    with fsspec.open(location, "rb") as file:
        return file.read()


def is_local(location: str) -> bool:
    """Whether a location is a path of this machine rather than a URI of another."""
    return "://" not in location or location.startswith("file://")


def local_path(location: str) -> str:
    """The path of a local location."""
    return location.removeprefix("file://")


def resolve(uri: str, root: Path) -> str:
    """Where an images table's `uri` lies: a path relative to `root` joined to it, anything else as it is."""
    return os.path.join(root, uri) if is_local(uri) and not uri.startswith("file://") else uri


def decode(
    data: bytes,
    *,
    max_pixels: int = MAX_PIXELS,
    animated: Animated = "first_frame",
    least_px: int | None = None,
) -> Decoded:
    """Decode to the end of the file, so that truncation shows. Raises Unusable with the reason.

    least_px: a JPEG whose short side is at least twice that is decoded at 1/2, 1/4 or 1/8 of its size, the smallest
        that keeps the short side at `least_px` or more. Every other image has its own size.
        Without it, Pillow alone decodes, as `ingest` has every file looked at.
    """
    if not data:
        raise Unusable("empty file")
    # Pillow looks at this for what is inside a file, too: later frames, embedded pictures. One value a process.
    Image.MAX_IMAGE_PIXELS = max_pixels
    bomb = f"decompression bomb: more than {max_pixels:,} px"
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError as error:
        if missing := missing_reader(data):
            raise Unusable(missing) from error
        other = other_format(data, FORMATS)
        raise Unusable(f"format not allowed: {other}" if other else "not an image") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise Unusable(bomb, claimed_size(data, FORMATS)) from error
    except MemoryError:
        raise
    except Exception as error:  # Pillow's parsers raise whatever a broken header makes them stumble over
        raise Unusable("truncated or damaged") from error
    if image.width * image.height > max_pixels:
        raise Unusable(bomb, image.size)
    notes, size = [], image.size
    try:
        # A phone's JPEG may carry a second picture (MPO: depth, preview); that is no animation.
        frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
        image = _loaded(image, data, least_px)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise Unusable(bomb, size) from error
    except MemoryError:
        raise
    except Exception as error:  # as above; the commonest is OSError "image file is truncated"
        raise Unusable("truncated or damaged", size) from error
    if frames > 1:
        if animated == "quarantine":
            raise Unusable("animated", image.size)
        notes.append(f"first of {frames} frames")
    plain = image.size == size and image.mode in ("RGB", "L")
    try:
        plain &= image.getexif().get(ExifTags.Base.Orientation, UPRIGHT) == UPRIGHT
        ImageOps.exif_transpose(image, in_place=True)
    except MemoryError:
        raise
    except Exception:  # a broken EXIF block says nothing about the pixels
        notes.append("unreadable EXIF ignored")
    rgb, note = _to_rgb(image)
    return Decoded(rgb, image.format or "", [*notes, note] if note else notes, plain and not note)


def _loaded(image: Image.Image, data: bytes, least_px: int | None) -> Image.Image:
    """The opened image with its pixels, or another with equal pixels, format and metadata."""
    size, has_plain_pixels = image.size, image.format == "JPEG" and image.mode in ("RGB", "L")
    if least_px is not None:
        image.draft(None, (least_px, least_px))  # Pillow knows it for JPEG alone
        if has_plain_pixels:
            pixels_HWC = quick_pixels(data, *image.size, scaled=image.size != size)
            if pixels_HWC is not None:
                quick = Image.fromarray(pixels_HWC)
                quick.format, quick.info = image.format, image.info
                return quick
    image.load()
    return image


def _to_rgb(image: Image.Image) -> tuple[Image.Image, str]:
    """8-bit RGB of any mode, and what was lost; '' for RGB and 8-bit grey."""
    mode = image.mode
    if mode.startswith("I"):  # I;16 in its byte orders, and 32-bit integers that hold 16-bit values
        grey_HW = np.asarray(image)
        grey_HW = (grey_HW if grey_HW.dtype == np.uint16 else np.clip(grey_HW, 0, 65535)) // 257
        return Image.fromarray(grey_HW.astype(np.uint8)).convert("RGB"), "16-bit -> 8-bit"
    if mode == "F":
        raise Unusable("32-bit float pixels, whose range is unknown", image.size)
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB"), "alpha -> white"
    if mode == "RGB":
        return image, ""
    notes = {"CMYK": "cmyk -> rgb", "P": "palette -> rgb", "L": "", "1": ""}
    return image.convert("RGB"), notes.get(mode, f"{mode.lower()} -> rgb")
