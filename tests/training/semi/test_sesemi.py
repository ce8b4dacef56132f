import math

import pytest
import torch

from tasks.core.errors import ParamsError
from tasks.training.data import ImageSet, Step
from tasks.training.distributed import World
from tasks.training.semi.sesemi import Sesemi, transformations
from tests.training import toy

IMAGE = torch.tensor([[1, 2], [3, 4]])[None]


def test_the_six_transformations_by_hand():
    assert [image[0].tolist() for image in transformations(IMAGE)] == [
        [[1, 2], [3, 4]],  # 0: as it is
        [[2, 4], [1, 3]],  # 1: a quarter turn counter-clockwise
        [[4, 3], [2, 1]],  # 2: half a turn
        [[3, 1], [4, 2]],  # 3: three quarters
        [[2, 1], [4, 3]],  # 4: left and right exchanged
        [[3, 4], [1, 2]],  # 5: up and down exchanged
    ]


def test_copies_that_are_recognised_cost_nothing_and_a_guess_costs_log_six():
    method = Sesemi(4)
    # Two images: the copies stand together by transformation, 0 0 1 1 2 2 3 3 4 4 5 5.
    sure = 100 * torch.eye(6).repeat_interleave(2, dim=0)
    step = Step(0, 0, [], rows=[0], num_known=3, unlabelled_rows=[3, 8])
    assert float(method.cost(sure, None, None, World())) == pytest.approx(0, abs=1e-6)
    guess = method.cost(torch.zeros(12, 6), None, None, World()) / method.expected(step, None)
    assert float(guess) == pytest.approx(math.log(6))


def test_only_the_extra_images_reach_the_proxy_layer():
    method, features = Sesemi(4), torch.randn(9, 4)
    torch.testing.assert_close(method.outputs(None, features, num_labelled=3), method.proxy(features[3:]))


def test_the_weight_of_the_study_is_one_throughout():
    assert Sesemi(4).factor() == 1.0


def test_mirroring_before_the_proxy_task_is_refused():
    with pytest.raises(ParamsError, match="semi: sesemi: augment holds hflip, which is one of the transformations"):
        toy.method("sesemi", augment=[{"name": "hflip"}])


def test_an_oblong_image_cannot_be_turned():
    images = toy.image_set()
    oblong = ImageSet(images.reader, images.image_ids, (8, 6), "stretch", images.targets_NC, images.known_NC)
    with pytest.raises(ParamsError, match=r"model\.image_px: sesemi turns images by 90 degrees.* \[8, 6\]"):
        Sesemi(4).attach(oblong, oblong)


def test_an_unknown_kind_of_images_is_named():
    with pytest.raises(ParamsError, match="images must be all, unlabelled or labelled, found 'pool'"):
        toy.method("sesemi", images="pool")
