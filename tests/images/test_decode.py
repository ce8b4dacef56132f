"""Every kind of file becomes 8-bit RGB as a person sees it, or is refused with a reason."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest
from PIL import Image

from tasks.core.errors import SourceError
from tasks.images.decode import Unusable, decode, open_rgb, resolve
from tests.images import pictures
from tests.images.pictures import encode, scene


@pytest.mark.parametrize(
    ("data", "notes"),
    [
        (encode(scene(), "JPEG"), []),
        (encode(scene().convert("L"), "PNG"), []),
        (encode(scene().convert("1"), "PNG"), []),
        (encode(scene().convert("CMYK"), "JPEG"), ["cmyk -> rgb"]),
        (encode(scene().convert("P"), "PNG"), ["palette -> rgb"]),
        (encode(scene().convert("YCbCr"), "TIFF"), ["ycbcr -> rgb"]),
        (encode(scene().convert("LA"), "PNG"), ["alpha -> white"]),
        (pictures.transparent(), ["alpha -> white"]),
        (pictures.sixteen_bit(), ["16-bit -> 8-bit"]),
        (pictures.animation("GIF"), ["first of 3 frames", "palette -> rgb"]),
        (pictures.animation("WEBP"), ["first of 3 frames"]),
        (pictures.animation("PNG"), ["first of 3 frames"]),
    ],
)
def test_every_mode_becomes_rgb_and_the_conversion_is_noted(data, notes):
    decoded = decode(data)
    assert decoded.image.mode == "RGB"
    assert decoded.notes == notes


def test_sixteen_bits_keep_their_range():
    grey = np.asarray(open_rgb(pictures.sixteen_bit()))[..., 0]
    assert (grey.min(), grey.max()) == (0, 255)
    assert np.all(np.diff(grey.ravel().astype(int)) >= 0)


def test_transparency_is_laid_on_white():
    pixels = np.asarray(open_rgb(pictures.transparent()))
    assert pixels[0, 0].tolist() == [255, 255, 255]
    assert pixels[0, 15].tolist() == [255, 0, 0]


def test_exif_rotation_is_applied():
    upright = scene(48, 32)
    turned = open_rgb(pictures.rotated_by_exif(upright))
    assert turned.size == (48, 32)
    assert np.abs(np.asarray(turned).astype(int) - np.asarray(upright)).mean() < 4


def test_a_broken_exif_block_is_noted_and_the_pixels_kept():
    exif = Image.Exif()
    exif[0x0112] = 6
    data = bytearray(encode(scene(), "JPEG", exif=exif))
    start = data.index(b"Exif\0\0") + 6
    data[start : start + 8] = b"\xff" * 8
    decoded = decode(bytes(data))
    assert decoded.image.size == (48, 32)


def test_a_second_picture_in_a_phones_jpeg_is_no_animation():
    data = encode(scene(), "MPO", save_all=True, append_images=[scene(seed=1)])
    assert decode(data, animated="quarantine").format == "MPO"


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG"])
def test_an_animation_is_refused_where_it_is_asked(format):
    with pytest.raises(Unusable, match=r"^animated$"):
        decode(pictures.animation(format), animated="quarantine")


JPEG = encode(scene(200, 200), "JPEG")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (b"<html>404</html>", "not an image"),
        (JPEG[: len(JPEG) // 2], "truncated or damaged"),
        (JPEG[:30], "truncated or damaged"),
        (encode(scene(200, 200), "PNG")[:400], "truncated or damaged"),
        (encode(scene(), "GIF")[:60], "not an image"),
        (encode(Image.fromarray(np.ones((8, 8), np.float32)), "TIFF"), "32-bit float"),
    ],
)
def test_what_cannot_be_used_says_why(data, reason):
    with pytest.raises(Unusable, match=reason):
        decode(data)


def test_a_bomb_is_refused_before_it_is_unpacked():
    with pytest.raises(Unusable, match=r"^decompression bomb: more than 178,956,970 px$") as error:
        decode(pictures.huge_header())
    assert error.value.size == (30_000, 30_000)


@pytest.mark.filterwarnings("ignore:Truncated File Read")
@pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF"])
def test_a_file_cut_anywhere_is_decoded_or_refused_but_nothing_else(format):
    data = encode(scene(), format)
    for length in range(0, len(data), max(1, len(data) // 40)):
        with contextlib.suppress(Unusable):
            assert decode(data[:length]).image.size == (48, 32)


def test_open_rgb_names_the_file(tmp_path):
    (tmp_path / "half.jpg").write_bytes(JPEG[: len(JPEG) // 2])
    with pytest.raises(SourceError, match=r"half\.jpg: truncated or damaged\. Replace the file"):
        open_rgb(tmp_path / "half.jpg")
    with pytest.raises(SourceError, match=r"none\.jpg: cannot be read"):
        open_rgb(tmp_path / "none.jpg")


def test_open_rgb_takes_paths_bytes_and_uris(tmp_path):
    import fsspec

    data = encode(scene())
    (tmp_path / "a b#1.png").write_bytes(data)
    with fsspec.open("memory://pictures/a.png", "wb") as file:
        file.write(data)
    expected = np.asarray(Image.open(io.BytesIO(data)))
    for source in (tmp_path / "a b#1.png", f"file://{tmp_path}/a b#1.png", data, "memory://pictures/a.png"):
        assert np.array_equal(np.asarray(open_rgb(source)), expected)


@pytest.mark.parametrize(
    ("uri", "location"),
    [
        ("a/b.jpg", "root/a/b.jpg"),
        ("/abs/b.jpg", "/abs/b.jpg"),
        ("s3://bucket/b.jpg", "s3://bucket/b.jpg"),
        ("file:///abs/b.jpg", "file:///abs/b.jpg"),
    ],
)
def test_relative_uris_start_at_the_root(uri, location, tmp_path):
    assert resolve(uri, "root") == location
