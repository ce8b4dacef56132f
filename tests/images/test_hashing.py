"""The perceptual hash against the package that defines its bits."""

from __future__ import annotations

import imagehash
import numpy as np
import pytest
from PIL import Image

from tasks.images.decode import decode
from tasks.images.hashing import phash
from tasks.images.near_duplicates import FLAT_BITS
from tests.images.pictures import encode, scene


def oracle(image: Image.Image) -> int:
    return int(str(imagehash.phash(image)), 16)


def distance(a: int, b: int) -> int:
    return (a ^ b).bit_count()


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("size", [(8, 8), (31, 200), (640, 480)])
def test_the_bits_are_those_of_imagehash(seed, size):
    image = scene(*size, seed=seed)
    assert phash(image) == oracle(image)
    assert phash(image.convert("L")) == oracle(image.convert("L"))


def test_the_bits_of_real_photographs_are_those_of_imagehash(real_data):
    files = sorted((real_data / "coco" / "images").glob("*.jpg"))[:40]
    for path in files:
        assert phash(decode(path.read_bytes()).image) == oracle(Image.open(path))


def test_a_recompressed_and_resized_copy_is_near_and_another_picture_far(real_data):
    first, second = (decode(p.read_bytes()).image for p in sorted((real_data / "coco" / "images").glob("*.jpg"))[:2])
    copy = decode(encode(first.resize((first.width // 2, first.height // 2)), "JPEG", quality=60)).image
    assert distance(phash(first), phash(copy)) <= 4
    assert distance(phash(first), phash(second)) > 12


@pytest.mark.parametrize("grey", [0, 1, 128, 255])
def test_a_flat_picture_sets_no_more_bits_than_the_flat_rule_allows(grey):
    assert phash(Image.new("RGB", (100, 60), (grey,) * 3)).bit_count() <= 1


def test_pictures_that_vary_along_one_axis_fall_under_the_flat_rule():
    rng = np.random.default_rng(0)
    for line in (np.linspace(0, 255, 64), rng.integers(0, 256, 64), np.repeat([0, 255], 32)):
        across = np.tile(line.astype(np.uint8), (64, 1))
        assert phash(Image.fromarray(across)).bit_count() <= FLAT_BITS
        assert phash(Image.fromarray(across.T.copy())).bit_count() <= FLAT_BITS


def test_ordinary_pictures_do_not_fall_under_the_flat_rule():
    assert all(phash(scene(seed=s)).bit_count() > 20 for s in range(50))
