"""What images look like: embeddings and tones of one pass, which leaves the model as it was."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image, ImageStat

from tasks.training.fitting import score_images
from tasks.training.folds import look_of, tones
from tests.training import toy


def test_tones_of_pictures_of_one_colour_by_hand():
    colours = torch.tensor([[0, 0, 0], [255, 255, 255], [255, 0, 0], [10, 20, 60]], dtype=torch.uint8)
    images_BCHW = colours[:, :, None, None].expand(-1, -1, 3, 5)
    np.testing.assert_allclose(tones(images_BCHW), [[0, 0, 0], [255, 0, 0], [85, 255, 255], [30, 50, 212]])


def test_brightness_and_saturation_are_those_that_pillow_finds():
    rng = np.random.default_rng(0)
    pixels_HWC = rng.integers(0, 256, (17, 23, 3), np.uint8)
    brightness, _, saturation = tones(torch.from_numpy(pixels_HWC).permute(2, 0, 1)[None])[0].tolist()
    picture = Image.fromarray(pixels_HWC)
    assert brightness == pytest.approx(np.mean(ImageStat.Stat(picture).mean))
    assert saturation == pytest.approx(ImageStat.Stat(picture.convert("HSV")).mean[1])


def test_how_memory_lies_changes_no_bit():
    rng = np.random.default_rng(0)
    images_BCHW = torch.from_numpy(rng.integers(0, 256, (4, 3, 64, 48), np.uint8))
    assert torch.equal(tones(images_BCHW), tones(images_BCHW.to(memory_format=torch.channels_last)))


@pytest.mark.parametrize("training", [True, False])
def test_a_look_has_the_embeddings_of_the_model_and_leaves_its_mode(training):
    model, images = toy.tagger(width=5).train(training), toy.image_set(7)
    look = look_of(model, [images, images.take([2, 0])])
    assert model.training == training
    np.testing.assert_array_equal(look.embeddings_ND[:7], look_of(model, [images]).embeddings_ND)
    alone_ND = score_images(model, images, with_embeddings=True).embeddings_ND
    np.testing.assert_allclose(look.embeddings_ND[:7], alone_ND, rtol=1e-3)
    expected_N2 = tones(torch.stack([images.image(n) for n in (2, 0)]))
    np.testing.assert_array_equal(look.tones_NT[7:], expected_N2)
    assert (look.embeddings_ND.dtype, look.tones_NT.dtype) == (np.float16, np.float32)
