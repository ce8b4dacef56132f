from unittest.mock import patch

import pytest
import torch
import torchvision.transforms.v2.functional as F
from PIL import Image

from tasks.core.errors import ParamsError
from tasks.training import AUGMENTATIONS, augment
from tasks.training import pixel_ops as ops
from tasks.training.augment import Policy, resize
from tests.training.test_pixel_ops import photo, pil, tensor


def g(seed=0):
    return torch.Generator().manual_seed(seed)


def build(name, **options):
    return Policy([{"name": name, **options}], image_px=(24, 32), resize="stretch")


# ---------------------------------------------------------------- contract: runs over the registry


@pytest.mark.parametrize("name", AUGMENTATIONS)
@pytest.mark.parametrize("image_px", [(24, 32), (16, 16), (40, 20)])
def test_every_augmentation_gives_the_size_asked_for_in_uint8(name, image_px):
    policy = Policy([{"name": name}], image_px=image_px, resize="stretch")
    for seed in range(5):
        out = policy(photo(30, 50), g(seed))
        assert (out.shape, out.dtype) == ((3, *image_px), torch.uint8)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_every_augmentation_is_a_function_of_its_generator_and_leaves_its_input(name):
    image = photo(30, 50)
    before, policy = image.clone(), build(name)
    outs = []
    for global_seed in (0, 1):
        torch.manual_seed(global_seed)
        outs.append(policy(image, g(7)))
    assert torch.equal(*outs)
    assert torch.equal(image, before)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_a_misspelled_option_is_named(name):
    with pytest.raises(ParamsError, match=rf"augment\[0\]: {name} has no option 'probability'"):
        build(name, probability=0.5)


# ---------------------------------------------------------------- the fixed step


def test_stretching_is_pillows_antialiased_bilinear():
    image = photo(40, 60)
    theirs = tensor(pil(image).resize((32, 24), Image.Resampling.BILINEAR))
    assert (resize(image, (24, 32), "stretch").int() - theirs.int()).abs().max() <= 1


def test_an_image_of_the_right_size_passes_untouched():
    image = photo(24, 32)
    assert all(torch.equal(resize(image, (24, 32), mode), image) for mode in ("stretch", "letterbox", "crop"))


def test_a_letterbox_keeps_the_aspect_between_even_grey_bars():
    wide = torch.full((3, 10, 40), 255, dtype=torch.uint8)
    boxed = resize(wide, (20, 20), "letterbox")  # 5 rows of image, (20 - 5) // 2 = 7 rows above
    assert (boxed[:, :7] == ops.GREY).all()
    assert (boxed[:, 7:12] == 255).all()
    assert (boxed[:, 12:] == ops.GREY).all()


def test_a_crop_covers_the_size_and_keeps_the_centre():
    image = torch.zeros(3, 10, 40, dtype=torch.uint8)
    image[:, :, 15:25] = 255
    assert (resize(image, (10, 10), "crop") == 255).all()


@pytest.mark.parametrize("mode", ["stretch", "letterbox", "crop"])
@pytest.mark.parametrize("size", [(1, 1), (1, 300), (7, 5)])
def test_degenerate_images_are_resized_too(mode, size):
    assert resize(photo(*size), (24, 32), mode).shape == (3, 24, 32)


# ---------------------------------------------------------------- the policy


def test_operations_run_in_the_order_of_the_list():
    image = photo(24, 32)
    flip, box = {"name": "hflip", "p": 1.0}, {"name": "affine", "translate": 0.0, "degrees": 0.0, "scale": [2.0, 2.0]}
    there = Policy([flip, {"name": "vflip", "p": 1.0}], image_px=(24, 32), resize="stretch")(image, g())
    assert torch.equal(there, image.flip(1, 2))
    assert not torch.equal(Policy([box], image_px=(24, 32), resize="stretch")(image, g()), image)


def test_an_empty_policy_only_resizes():
    image = photo(30, 50)
    assert torch.equal(Policy([], image_px=(24, 32), resize="crop")(image, g()), resize(image, (24, 32), "crop"))


def test_an_unknown_name_gets_the_nearest_one():
    with pytest.raises(ParamsError, match=r"augment\[1\]: 'rand_agument' is no .* Did you mean 'rand_augment'"):
        Policy([{"name": "hflip"}, {"name": "rand_agument"}], image_px=(8, 8), resize="stretch")


def test_a_random_crop_elsewhere_than_first_is_refused():
    with pytest.raises(ParamsError, match=r"augment\[1\]: random_resized_crop replaces resizing; put it first"):
        Policy([{"name": "hflip"}, {"name": "random_resized_crop"}], image_px=(8, 8), resize="stretch")


def test_a_random_crop_works_on_the_stored_image():
    image = torch.zeros(3, 64, 64, dtype=torch.uint8)
    image[:, ::2] = 255  # a one-pixel pattern survives only without resizing down first
    policy = Policy(
        [{"name": "random_resized_crop", "scale": [0.0156, 0.0157], "ratio": [1.0, 1.0]}],
        image_px=(8, 8),
        resize="stretch",
    )
    assert set(policy(image, g()).unique().tolist()) == {0, 255}


@pytest.mark.parametrize("image_px", [(8, 8), (24, 32), (90, 70)])
def test_a_random_crop_has_the_pixels_of_torchvisions(image_px):
    decoded = photo(48, 64).permute(1, 2, 0).contiguous().permute(2, 0, 1)  # as images are decoded, colours together
    policy = Policy([{"name": "random_resized_crop", "scale": [0.3, 0.9]}], image_px=image_px, resize="stretch")
    for seed in range(20):
        with patch.object(augment, "_scaled", side_effect=lambda part, *px: F.resize(part, [*px], antialias=True)):
            expected = policy(decoded, g(seed))
        assert torch.equal(policy(decoded, g(seed)), expected)


def test_a_random_crop_that_never_fits_takes_the_centre():
    image = photo(4, 400)
    policy = Policy([{"name": "random_resized_crop", "scale": [1.0, 1.0]}], image_px=(8, 8), resize="stretch")
    assert policy(image, g()).shape == (3, 8, 8)


@pytest.mark.parametrize("name", ["hflip", "vflip", "cutout", "rotate", "affine"])
def test_probability_zero_is_never_and_one_is_always(name):
    image = photo(24, 32)
    strong = {"affine": {"degrees": 20.0}}.get(name, {})
    assert all(torch.equal(build(name, p=0.0, **strong)(image, g(seed)), image) for seed in range(10))
    changed = [not torch.equal(build(name, p=1.0, **strong)(image, g(seed)), image) for seed in range(10)]
    assert all(changed)


def test_cutout_paints_one_solid_square_of_the_share_asked_for():
    image = torch.zeros(3, 20, 30, dtype=torch.uint8)
    areas = []
    for seed in range(300):
        out = Policy([{"name": "cutout", "p": 1.0, "size": 0.4}], image_px=(20, 30), resize="stretch")(image, g(seed))
        painted = (out != 0).any(dim=0)
        areas.append(int(painted.sum()))
        assert len({tuple(c.tolist()) for c in out[:, painted].T}) <= 1
    assert max(areas) == 8 * 8  # 0.4 of the short side of 20 px


def test_translation_uncovers_at_most_its_limit_on_each_side():
    image = torch.zeros(3, 50, 50, dtype=torch.uint8)
    policy = Policy([{"name": "affine", "translate": 0.1}], image_px=(50, 50), resize="stretch")
    uncovered = [(policy(image, g(seed))[0] == ops.GREY) for seed in range(50)]
    rows = [int(grey.all(dim=1).sum()) for grey in uncovered]
    columns = [int(grey.all(dim=0).sum()) for grey in uncovered]
    assert 3 <= max(rows) <= 5  # 0.1 of 50 px
    assert 3 <= max(columns) <= 5
