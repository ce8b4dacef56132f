import math

import pytest
import torch

from tasks.training.randomised import AUGMIX_OPS, RAND_AUGMENT_OPS, augmix, rand_augment
from tests.training.test_pixel_ops import photo


def g(seed):
    return torch.Generator().manual_seed(seed)


def test_rand_augment_has_the_fifteen_published_operations():
    assert len(RAND_AUGMENT_OPS) == 15
    assert {"invert", "cutout", "solarize", "equalize"} <= RAND_AUGMENT_OPS.keys()


def test_augmix_has_the_twelve_operations_of_otx_and_no_rotation():
    assert len(AUGMIX_OPS) == 12
    assert "rotate" not in AUGMIX_OPS


@pytest.mark.parametrize("ops", [RAND_AUGMENT_OPS, AUGMIX_OPS])
@pytest.mark.parametrize("strength", [0.0, 1 / 9, 1.0])
def test_every_operation_keeps_shape_and_type_and_its_input(ops, strength):
    for name, op in ops.items():
        image = photo(17, 23)
        before = image.clone()
        out = op(image, strength, g(0))
        assert (out.shape, out.dtype) == (image.shape, torch.uint8), name
        assert torch.equal(image, before), name


def test_a_quarter_of_the_images_is_left_alone_by_rand_augment():
    image, policy, trials = photo(8, 8), rand_augment(), 800
    untouched = sum(torch.equal(policy(image, g(seed)), image) for seed in range(trials))
    # Both coins fail in 1/4 of the cases; a few operations happen to change nothing (posterize to 8 bits, cutout).
    assert 0.25 - 4 * math.sqrt(0.25 * 0.75 / trials) < untouched / trials < 0.34


def test_two_operations_with_probability_one_change_nearly_every_image():
    image, policy = photo(), rand_augment(p=1.0)
    assert sum(torch.equal(policy(image, g(seed)), image) for seed in range(100)) <= 3


def test_augmix_of_magnitude_zero_keeps_what_its_weakest_operations_keep(monkeypatch):
    image = photo()
    only = {"brightness": AUGMIX_OPS["brightness"]}
    monkeypatch.setattr("tasks.training.randomised.AUGMIX_OPS", only)
    assert torch.equal(augmix(magnitude=0.0)(image, g(0)), image)


@pytest.mark.parametrize("policy", [rand_augment(), augmix()])
def test_the_generator_decides_everything(policy):
    image = photo()
    torch.manual_seed(0)
    first = policy(image, g(3))
    torch.manual_seed(1)
    assert torch.equal(policy(image, g(3)), first)
    assert any(not torch.equal(policy(image, g(seed)), first) for seed in range(4, 9))
