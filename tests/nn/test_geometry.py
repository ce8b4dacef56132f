from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tasks.nn.geometry import GREY, RESIZES, fit_to
from tasks.training.data import ImageSet, inference_batches
from tests.training.toy import ToyReader


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


@settings(max_examples=200)
@given(
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    image_px=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    resize=st.sampled_from(RESIZES),
)
def test_any_image_comes_out_at_the_size_asked_for(height, width, image_px, resize):
    found = fit_to(picture(height, width), image_px, resize)
    assert found.shape == (*image_px, 3)
    assert found.dtype == np.uint8


@pytest.mark.parametrize("resize", RESIZES)
def test_an_image_of_that_size_already_is_left_as_it_is(resize):
    image = picture(20, 30)
    assert np.array_equal(fit_to(image, (20, 30), resize), image)


def test_letterbox_keeps_the_aspect_and_fills_evenly_with_grey():
    # 10 x 40 into 20 x 20: 5 x 20 px remain, with bars of 7 and 8 rows
    found = fit_to(np.full((10, 40, 3), 255, np.uint8), (20, 20), "letterbox")
    assert np.array_equal(found[:7], np.full((7, 20, 3), GREY))
    assert np.array_equal(found[7:12], np.full((5, 20, 3), 255))
    assert np.array_equal(found[12:], np.full((8, 20, 3), GREY))


def test_crop_takes_the_largest_centred_part():
    image = picture(20, 60)
    covering = Image.fromarray(image).resize((30, 10), Image.Resampling.BILINEAR)
    assert np.array_equal(fit_to(image, (10, 10), "crop"), np.asarray(covering)[:, 10:20])


def test_stretch_ignores_the_aspect():
    image = picture(10, 40)
    expected = Image.fromarray(image).resize((20, 20), Image.Resampling.BILINEAR)
    assert np.array_equal(fit_to(image, (20, 20), "stretch"), np.asarray(expected))


@pytest.mark.parametrize("resize", RESIZES)
def test_a_very_long_image_fits_too(resize):
    assert fit_to(picture(1, 20_000), (32, 32), resize).shape == (32, 32, 3)


@pytest.mark.parametrize("resize", RESIZES)
def test_training_and_its_inference_fit_images_by_this_very_function(resize):
    reader = ToyReader(3, 37, 53)
    images = ImageSet(reader, reader.image_ids, (24, 32), resize)
    (batch_BCHW,) = inference_batches(images, [0, 1, 2], batch_size=3)
    expected = np.stack([fit_to(reader[i], (24, 32), resize) for i in range(3)])
    assert np.array_equal(batch_BCHW.permute(0, 2, 3, 1).numpy(), expected)
