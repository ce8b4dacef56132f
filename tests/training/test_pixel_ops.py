import math
import random

import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as F
from PIL import Image, ImageEnhance, ImageOps
from torchvision.transforms import InterpolationMode

from tasks.training import pixel_ops as ops
from tasks.training.randomised import RAND_AUGMENT_OPS


def photo(height=24, width=32, seed=0):
    """Smooth in places, noisy in others; uint8 (3, H, W)."""
    g = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 4, 4, generator=g)
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")[0]
    return ((0.8 * smooth + 0.2 * torch.rand(3, height, width, generator=g)) * 255).to(torch.uint8)


def pil(image):
    return Image.fromarray(image.permute(1, 2, 0).numpy())


def tensor(image):
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def g(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("factor", [0.1, 0.55, 1.0, 1.9])
@pytest.mark.parametrize(
    ("op", "enhancer"),
    [
        (ops.contrast, ImageEnhance.Contrast),
        (ops.colour, ImageEnhance.Color),
        (ops.brightness, ImageEnhance.Brightness),
        (ops.sharpness, ImageEnhance.Sharpness),
    ],
)
def test_enhancements_are_those_of_pillow(op, enhancer, factor):
    image = photo()
    difference = op(image, factor).int() - tensor(enhancer(pil(image)).enhance(factor)).int()
    assert difference.abs().max() <= 2  # rounding of the grey level, times the factor


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("invert", ImageOps.invert),
        ("autocontrast", ImageOps.autocontrast),
        ("posterize", lambda image: ImageOps.posterize(image, 4)),
        ("solarize", lambda image: ImageOps.solarize(image, 0)),
    ],
)
def test_ops_at_full_strength_are_those_of_pillow(name, theirs):
    image = photo()
    difference = RAND_AUGMENT_OPS[name](image, 1.0, g()).int() - tensor(theirs(pil(image))).int()
    assert difference.abs().max() <= 1


def test_equalize_flattens_the_histogram_as_pillow_does():
    image = photo(64, 64)
    difference = RAND_AUGMENT_OPS["equalize"](image, 1.0, g()).int() - tensor(ImageOps.equalize(pil(image))).int()
    assert difference.abs().float().mean() <= 1.5


def test_translation_moves_whole_pixels_and_fills_with_grey():
    image = photo(10, 20)
    moved = ops.translate(image, 0.25, -0.1)  # 5 px right, 1 px up
    assert torch.equal(moved[:, :9, 5:], image[:, 1:, :15])
    assert (moved[:, :, :5] == ops.GREY).all()
    assert (moved[:, 9:] == ops.GREY).all()
    assert (ops.translate(image, 1.0, 0.0) == ops.GREY).all()


def test_rotation_is_counter_clockwise():
    image = photo(9, 9)
    assert torch.equal(ops.affine(image, degrees=90), torch.rot90(image, 1, (1, 2)))


def test_shear_moves_rows_in_proportion_to_their_distance_from_the_centre():
    image = torch.full((3, 21, 21), 255, dtype=torch.uint8)
    image[:, :, 10] = 0  # a black vertical line through the centre
    sheared = ops.affine(image, shear=(0.3, 0.0))
    columns = sheared[0].float().argmin(dim=1)
    assert columns[10] == 10
    assert abs(int(columns[0]) - int(columns[20])) == pytest.approx(0.3 * 20, abs=1)


@pytest.mark.parametrize("seed", range(8))
def test_an_affine_map_moves_pixels_as_torchvision_does(seed):
    draw = random.Random(seed)
    degrees, scale = draw.uniform(-40, 40), draw.uniform(0.8, 1.4)
    shear, shift = (draw.uniform(-0.3, 0.3), draw.uniform(-0.3, 0.3)), (draw.uniform(-5, 5), draw.uniform(-5, 5))
    image = photo(40, 56, seed)
    moved = ops.affine(image, degrees=degrees, scale=scale, shear=shear, shift_px=shift)
    arguments = {"translate": list(shift), "scale": scale, "shear": [math.degrees(math.atan(s)) for s in shear]}
    bilinear = InterpolationMode.BILINEAR
    theirs = F.affine(image, -degrees, **arguments, interpolation=bilinear, fill=ops.GREY)
    covered = F.affine(torch.full_like(image, 255), -degrees, **arguments, interpolation=bilinear, fill=0) == 255
    assert covered.float().mean() > 0.3
    assert (moved.int() - theirs.int())[covered].abs().max() <= 1
    uncovered = F.affine(torch.full_like(image, 255), -degrees, **arguments, interpolation=bilinear, fill=0) == 0
    assert (moved[uncovered].int() - ops.GREY).abs().max() <= 6  # torchvision multiplies by its mask twice


def test_a_square_is_clipped_at_the_borders():
    image = torch.zeros(3, 8, 8, dtype=torch.uint8)
    white = torch.full((3,), 255, dtype=torch.uint8)
    areas = {int((ops.paint_square(image, g(seed), 4, white)[0] > 0).sum()) for seed in range(200)}
    assert max(areas) == 16
    assert min(areas) >= 4  # the centre lies inside, so at least a quarter does
    assert (image == 0).all()


def test_contrast_does_not_depend_on_the_number_of_threads():
    image = photo(512, 512)
    one = ops.contrast(image, 1.7)
    torch.set_num_threads(2)
    assert torch.equal(ops.contrast(image, 1.7), one)


def test_draws_cover_their_ranges():
    generator = g()
    assert {ops.index(generator, 3) for _ in range(100)} == {0, 1, 2}
    assert {ops.sign(generator) for _ in range(100)} == {-1, 1}
    assert all(2 <= ops.uniform(generator, 2, 3) < 3 for _ in range(100))
    hits = sum(ops.happens(generator, 0.3) for _ in range(2000))
    assert abs(hits - 600) < 4 * math.sqrt(2000 * 0.3 * 0.7)
