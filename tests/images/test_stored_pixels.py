"""Large JPEGs are decoded at a fraction of their size; everything else keeps its pixels; one place for all who look."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from tasks.core.errors import SourceError
from tasks.images.decode import Unusable, decode, open_rgb
from tasks.images.shards import training_pixels
from tasks.images.stored_pixels import shrink, stored_pixels
from tests.images import pictures
from tests.images.pictures import encode, scene


def at_full_size(source, short_side_px: int) -> np.ndarray:
    return np.asarray(shrink(open_rgb(source), short_side_px))


@pytest.mark.parametrize(
    ("size", "least_px", "decoded"),
    [
        ((400, 300), 151, (400, 300)),
        ((400, 300), 150, (200, 150)),
        ((400, 300), 75, (100, 75)),
        ((400, 300), 38, (100, 75)),
        ((400, 300), 37, (50, 38)),
        ((401, 4000), 20, (51, 500)),
        ((400, 3), 300, (400, 3)),
    ],
)
def test_a_jpeg_is_decoded_at_the_smallest_fraction_that_keeps_the_short_side(size, least_px, decoded):
    assert decode(encode(scene(*size), "JPEG"), least_px=least_px).image.size == decoded


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF"])
def test_a_jpeg_below_twice_the_size_and_every_other_format_keep_their_pixels(format):
    size = (127, 200) if format == "JPEG" else (640, 700)
    data = encode(scene(*size), format)
    assert np.array_equal(stored_pixels(data, 64), at_full_size(data, 64))


@pytest.mark.parametrize(("mode", "format"), [("RGB", "JPEG"), ("L", "JPEG"), ("CMYK", "JPEG"), ("RGB", "MPO")])
def test_a_large_photograph_of_any_mode_looks_as_decoded_at_full_size(mode, format):
    data = encode(scene(800, 600).convert(mode), format, quality=95)
    ours, full = stored_pixels(data, 100).astype(int), at_full_size(data, 100).astype(int)
    assert ours.shape == full.shape == (100, 133, 3)
    assert np.abs(ours - full).mean() < 3


def test_a_large_photograph_is_turned_by_its_exif():
    data = pictures.rotated_by_exif(scene(300, 200))
    ours = stored_pixels(data, 50).astype(int)
    assert ours.shape == (75, 50, 3) or ours.shape == (50, 75, 3)
    assert np.abs(ours - at_full_size(data, 50)).mean() < 3


def test_a_large_photograph_cut_short_is_refused_with_its_own_size():
    data = encode(scene(800, 600), "JPEG")
    with pytest.raises(Unusable, match="truncated or damaged") as error:
        decode(data[: len(data) // 2], least_px=64)
    assert error.value.size == (800, 600)


def test_the_limit_is_held_against_the_size_of_the_file():
    data = encode(scene(800, 600), "JPEG")
    with pytest.raises(SourceError, match="decompression bomb"):
        stored_pixels(data, 10, max_pixels=800 * 600 - 1)


@pytest.mark.parametrize("short_side_px", [64, 200, 400])
def test_photographs_below_twice_the_size_are_stored_as_ever_and_larger_ones_nearly_so(short_side_px, real_data):
    photographs = sorted((real_data / "coco" / "images").glob("*.jpg"))[:40]
    assert photographs
    for path in photographs:
        ours, full = stored_pixels(path, short_side_px), at_full_size(path, short_side_px)
        with Image.open(path) as image:
            large = min(image.size) >= 2 * short_side_px
        # One pixel: a fraction of an odd size is rounded up.
        assert np.abs(np.subtract(ours.shape, full.shape)).max() <= (1 if large else 0), path.name
        assert np.array_equal(ours, full) or large, path.name
        if ours.shape == full.shape:
            assert np.abs(ours.astype(int) - full).mean() < 6, path.name


def test_packing_starts_from_the_pixels_of_prediction_and_of_the_service(tmp_path):
    data = encode(scene(800, 600), "JPEG")
    (tmp_path / "a.jpg").write_bytes(data)
    packed = training_pixels("a", str(tmp_path / "a.jpg"), 64)
    assert np.array_equal(packed, stored_pixels(tmp_path / "a.jpg", 64))  # `predict` reads paths
    assert np.array_equal(packed, stored_pixels(data, 64))  # `serve` reads bytes
    assert not np.array_equal(packed, at_full_size(data, 64))  # else the case above would prove nothing
