"""Linear, angular linear and OpenVINO's non-linear head."""

from __future__ import annotations

import torch

from tasks.nn.heads import HEADS
from tests.nn.heads.test_contract import build, features


def test_linear_is_a_linear_map_of_the_average():
    head = build("linear").eval()
    pooled_BF = features().mean((2, 3))
    torch.testing.assert_close(head(features()), pooled_BF @ head.classifier.weight.T + head.classifier.bias)
    assert head.classifier.bias.abs().max() == 0


def test_a_cosine_does_not_see_length():
    head = build("angular_linear").eval()
    torch.testing.assert_close(head(features()), head(features() * 1000))
    head.classifier.weight.data *= 7
    torch.testing.assert_close(
        head(features()), torch.cosine_similarity(features().mean((2, 3))[:, None], head.classifier.weight[None], dim=2)
    )


def test_the_vectors_of_an_angular_head_start_on_the_sphere():
    torch.testing.assert_close(build("angular_linear").classifier.weight.norm(dim=1), torch.ones(7))


def test_a_feature_in_the_direction_of_a_label_has_cosine_one():
    head = HEADS["angular_linear"](2, 2)
    head.classifier.weight.data = torch.tensor([[3.0, 4.0], [-4.0, 3.0]])
    cosines_BC = head(torch.tensor([0.6, 0.8]).reshape(1, 2, 1, 1))
    torch.testing.assert_close(cosines_BC, torch.tensor([[1.0, 0.0]]))


def test_the_nonlinear_head_trains_on_a_batch_of_one():
    head = build("otx_nonlinear")
    before = head.norm.running_mean.clone()
    head(features(1)).sum().backward()
    assert torch.equal(head.norm.running_mean, before)  # one image has no variance to learn from
    head(features(2))
    assert not torch.equal(head.norm.running_mean, before)


def test_the_nonlinear_head_has_a_plain_form():
    assert not build("otx_nonlinear", angular=False).angular
    assert build("otx_nonlinear").angular
