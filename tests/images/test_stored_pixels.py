"""Large JPEGs are decoded at a fraction of their size; everything else keeps its pixels; one place for all who look."""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from tasks.core.errors import SourceError
from tasks.images import decode as decoding
from tasks.images import jpeg
from tasks.images.decode import Unusable, decode, open_rgb
from tasks.images.shards import ShardReader, write_shards
from tasks.images.stored_pixels import shrink, stored_jpeg, stored_pixels
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


def photograph(**options) -> bytes:
    """640 x 480, with edges and noise, as a decoder and an encoder meet them."""
    noise = np.random.default_rng(0).normal(0, 8, (480, 640, 3))
    pixels = np.clip(np.asarray(scene(640, 480)) + noise, 0, 255).astype(np.uint8)
    return encode(Image.fromarray(pixels), "JPEG", **options)


def with_exif(orientation: int, size: tuple[int, int]) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encode(scene(*size), "JPEG", exif=exif)


SMALL = encode(scene(80, 60), "JPEG", quality=70)
FILES = {
    "large.jpg": photograph(quality=92),
    "grey.jpg": encode(scene(300, 200).convert("L"), "JPEG"),
    "small.jpg": SMALL,
    "small_grey.jpg": encode(scene(80, 60).convert("L"), "JPEG"),
    "progressive.jpg": photograph(progressive=True, subsampling=0),
    "cmyk.jpg": encode(scene(300, 200).convert("CMYK"), "JPEG"),
    "turned.jpg": with_exif(6, (70, 50)),
    "turned_large.jpg": with_exif(3, (700, 500)),
    "small.png": encode(scene(50, 70)),
    "odd.webp": encode(scene(333, 201), "WEBP"),
    "one_pixel.png": encode(scene(1, 1)),
}


@pytest.mark.parametrize("jpeg_quality", [None, 85])
def test_packing_starts_from_the_pixels_of_prediction_and_of_the_service(tmp_path, jpeg_quality):
    """To the bit, whatever the file: re-encoding is part of what both do."""
    for name, data in FILES.items():
        (tmp_path / name).write_bytes(data)
    images = pa.table({"image_id": list(FILES), "uri": list(FILES)})
    write_shards(
        images, tmp_path / "shards", root=tmp_path, short_side_px=64, jpeg_quality=jpeg_quality, images_per_file=4
    )
    reader = ShardReader(tmp_path / "shards")
    for name, data in FILES.items():
        packed = reader[reader.index[name]]
        assert np.array_equal(packed, stored_pixels(tmp_path / name, 64, jpeg_quality)), name  # `predict` reads paths
        assert np.array_equal(packed, stored_pixels(data, 64, jpeg_quality)), name  # `serve` reads bytes
    large = reader[reader.index["large.jpg"]]
    # Else the cases above would prove nothing.
    assert not np.array_equal(large, at_full_size(FILES["large.jpg"], 64))
    assert np.array_equal(large, stored_pixels(FILES["large.jpg"], 64)) == (jpeg_quality is None)


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("small.jpg", True),
        ("small_grey.jpg", True),
        ("large.jpg", False),
        ("turned.jpg", False),
        ("cmyk.jpg", False),
        ("small.png", False),
    ],
)
def test_an_upright_jpeg_that_is_small_enough_keeps_its_bytes_and_everything_else_is_encoded_once(name, kept):
    stored = stored_jpeg(FILES[name], 64, 85)
    assert (stored.jpeg == FILES[name]) is stored.original is kept
    assert min(stored.image.size) <= 64
    assert np.array_equal(stored.image, stored_pixels(FILES[name], 64))
    with Image.open(io.BytesIO(stored.jpeg)) as again:
        assert again.size == stored.image.size
        assert again.info.keys() <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}


def test_a_jpeg_that_is_mostly_metadata_is_encoded_anew():
    heavy = encode(scene(80, 60), "JPEG", comment=b"x" * 20_000)
    assert len(stored_jpeg(heavy, 64, 85).jpeg) < 5_000


def test_a_higher_quality_is_nearer_and_larger():
    stored = {quality: stored_jpeg(FILES["large.jpg"], 64, quality) for quality in (50, 95)}
    assert len(stored[50].jpeg) < len(stored[95].jpeg)
    exact = stored_pixels(FILES["large.jpg"], 64).astype(int)
    error = {q: np.abs(stored_pixels(FILES["large.jpg"], 64, q) - exact).mean() for q in stored}
    assert error[95] < error[50] < 6


def test_a_side_that_no_jpeg_holds_is_one_line():
    with pytest.raises(SourceError, match=r"70,000 px is more than a JPEG holds\. Leave it out, or .*encoding: raw"):
        stored_jpeg(encode(Image.new("RGB", (70_000, 1))), 64, 85)


# ---------------------------------------------------------------- the quick way and the careful way


def both_ways(data: bytes, least_px: int, monkeypatch) -> tuple[np.ndarray, np.ndarray]:
    quick = np.asarray(decode(data, least_px=least_px).image)
    with monkeypatch.context() as patched:
        patched.setattr(jpeg, "simplejpeg", None)
        return quick, np.asarray(decode(data, least_px=least_px).image)


@pytest.mark.parametrize("name", [name for name in FILES if name.endswith(".jpg")])
@pytest.mark.parametrize("least_px", [25, 60, 120, 1000])
def test_with_and_without_simplejpeg_the_pixels_are_equal(name, least_px, monkeypatch):
    quick, careful = both_ways(FILES[name], least_px, monkeypatch)
    assert np.array_equal(quick, careful)


def test_a_machine_without_simplejpeg_predicts_from_the_pixels_that_were_packed(monkeypatch):
    packed = {name: stored_pixels(data, 64, 85) for name, data in FILES.items()}
    monkeypatch.setattr(jpeg, "simplejpeg", None)
    for name, data in FILES.items():
        assert np.array_equal(packed[name], stored_pixels(data, 64, 85)), name


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize("size", [(1, 1), (3, 5), (7, 7), (15, 9), (17, 33), (255, 257)])
def test_pixels_are_equal_at_odd_sizes_and_every_subsampling(size, subsampling, monkeypatch):
    data = encode(scene(*size), "JPEG", subsampling=subsampling)
    for least_px in (1, 8, 300):
        quick, careful = both_ways(data, least_px, monkeypatch)
        assert np.array_equal(quick, careful), least_px


def test_the_quick_way_is_taken_for_plain_jpegs_alone(monkeypatch):
    taken = []
    monkeypatch.setattr(decoding, "quick_pixels", lambda *args, **options: taken.append(args))
    for data in FILES.values():
        decode(data, least_px=64)
    plain = [name for name in FILES if name.endswith(".jpg") and name != "cmyk.jpg"]
    assert len(taken) == len(plain)
    decode(FILES["large.jpg"])  # as `ingest` does
    assert len(taken) == len(plain)


def test_what_libjpeg_warns_of_goes_the_careful_way():
    data = FILES["large.jpg"]
    assert jpeg.quick_pixels(data, 640, 480) is not None
    assert jpeg.quick_pixels(data[: len(data) // 2], 640, 480) is None
    assert jpeg.quick_pixels(data, 640, 479) is None  # a header that libjpeg reads otherwise
    assert jpeg.quick_pixels(b"no picture", 640, 480) is None


def test_real_photographs_have_equal_pixels_both_ways(real_data, monkeypatch):
    for path in sorted((real_data / "coco" / "images").glob("*.jpg"))[:8]:
        for least_px in (100, 200, 1000):
            quick, careful = both_ways(path.read_bytes(), least_px, monkeypatch)
            assert np.array_equal(quick, careful), (path.name, least_px)
