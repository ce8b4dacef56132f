"""BCE, focal and ASL against numbers worked out elsewhere, torch, torchvision and timm."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from timm.loss import AsymmetricLossMultiLabel, BinaryCrossEntropy
from torchvision.ops import sigmoid_focal_loss

from tasks.nn.losses import LOSSES


def one(loss, logit: float, target: int) -> float:
    """The loss of a single known entry."""
    return loss(torch.tensor([[logit]], dtype=torch.float64), torch.tensor([[target]]), torch.tensor([[True]])).item()


@pytest.fixture
def entries():
    generator = torch.Generator().manual_seed(0)
    logits_NC = torch.randn(6, 7, generator=generator) * 4
    return logits_NC, (torch.rand(6, 7, generator=generator) < 0.3).float(), torch.ones(6, 7, dtype=torch.bool)


def test_bce_is_torch_s(entries):
    logits_NC, targets_NC, _ = entries
    expected = F.binary_cross_entropy_with_logits(logits_NC, targets_NC)
    torch.testing.assert_close(LOSSES["bce"](7)(*entries), expected)


def test_bce_with_soft_targets_is_timm_s(entries):
    logits_NC, targets_NC, known_NC = entries
    smooth_NC = targets_NC * 0.8 + 0.1
    expected = BinaryCrossEntropy(smoothing=0.0)(logits_NC, smooth_NC)
    torch.testing.assert_close(LOSSES["bce"](7)(logits_NC, smooth_NC, known_NC), expected)


def test_bce_averages_over_known_labels_only():
    # -log s(0) = 0.6931 twice, over two known of four
    known_NC = torch.tensor([[True, False], [False, True]])
    value = LOSSES["bce"](2)(torch.zeros(2, 2), torch.ones(2, 2), known_NC)
    assert value.item() == pytest.approx(0.693147, abs=1e-6)


@pytest.mark.parametrize(("gamma", "alpha"), [(2.0, 0.25), (0.0, 0.5), (3.5, -1.0), (0.5, 0.9)])
def test_focal_is_torchvision_s(entries, gamma, alpha):
    logits_NC, targets_NC, known_NC = entries
    expected = sigmoid_focal_loss(logits_NC, targets_NC, alpha=alpha, gamma=gamma, reduction="mean")
    torch.testing.assert_close(LOSSES["focal"](7, gamma=gamma, alpha=alpha)(logits_NC, targets_NC, known_NC), expected)


@pytest.mark.parametrize(
    ("logit", "target", "expected"),
    [(0.5, 1, 0.47407698), (0.5, 0, 0.09125300), (2.0, 0, 0.84641495), (-3.0, 0, 0.0)],
)
def test_asl_gives_the_published_formula_s_values(logit, target, expected):
    assert one(LOSSES["asl"](1), logit, target) == pytest.approx(expected, abs=5e-8)


@pytest.mark.parametrize(
    ("gamma_neg", "gamma_pos", "clip"), [(4, 0, 0.05), (4, 1, 0.05), (2, 0, 0.0), (0, 0, 0.0), (1, 1, 0.2)]
)
@pytest.mark.parametrize("detach", [True, False])
def test_asl_and_its_gradient_are_timm_s(entries, gamma_neg, gamma_pos, clip, detach):
    logits_NC, targets_NC, known_NC = entries
    ours_NC, theirs_NC = logits_NC.clone().requires_grad_(), logits_NC.clone().requires_grad_()
    options = {"gamma_neg": gamma_neg, "gamma_pos": gamma_pos, "clip": clip}
    ours = LOSSES["asl"](7, **options, detach_focusing=detach)(ours_NC, targets_NC, known_NC)
    oracle = AsymmetricLossMultiLabel(**options, disable_torch_grad_focal_loss=detach, reduction="sum")
    theirs = oracle(theirs_NC, targets_NC)
    ours.backward()
    theirs.backward()
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(ours_NC.grad, theirs_NC.grad, rtol=1e-4, atol=1e-5)


def test_asl_still_pulls_where_the_clamped_logarithm_of_the_published_code_gives_up():
    logits_NC = torch.tensor([[-50.0]], requires_grad=True)
    LOSSES["asl"](1)(logits_NC, torch.ones(1, 1), torch.ones(1, 1)).backward()
    assert logits_NC.grad.item() == pytest.approx(-1)


def test_asl_with_equal_exponents_and_no_clip_is_focal_without_weights(entries):
    asl = LOSSES["asl"](7, gamma_neg=2.0, gamma_pos=2.0, clip=0.0, detach_focusing=False, reduction="mean")
    torch.testing.assert_close(asl(*entries), LOSSES["focal"](7, gamma=2.0, alpha=-1.0)(*entries))
