"""AM-binary and AAM against numbers worked out elsewhere, and the roles of their options."""

from __future__ import annotations

import pytest
import torch

from tasks.nn.losses import LOSSES
from tasks.nn.losses.angular import automatic_scale
from tests.nn.losses.test_binary import one


@pytest.mark.parametrize(
    ("cosine", "target", "gamma_pos", "gamma_neg", "clip", "expected"),
    [
        (0.3, 1, 0, 0, 0.05, 0.00003066),
        (0.3, 0, 0, 0, 0.05, 0.09001314),  # both exponents 0: the clip is not in force
        (0.3, 0, 0, 1, 0.05, 0.03877566),
        (0.3, 1, 0, 1, 0.05, 0.00003066),
        (0.05, 1, 1, 2, 0.05, 0.00243198),
        (0.05, 0, 1, 2, 0.05, 0.00930136),
        (-0.2, 1, 1, 2, 0.05, 0.14030440),
        (-0.2, 0, 1, 2, 0.05, 0.0),
        (0.05, 1, 2, 1, 0.05, 0.00070646),  # the two exponents exchanged
        (0.05, 0, 2, 1, 0.05, 0.01224651),
    ],
)
def test_aam_gives_the_published_formula_s_values(cosine, target, gamma_pos, gamma_neg, clip, expected):
    loss = LOSSES["aam"](1, s=23.0, m=0.0, k=0.7, gamma_pos=gamma_pos, gamma_neg=gamma_neg, clip=clip)
    assert one(loss, cosine, target) == pytest.approx(expected, abs=2e-8)


def test_am_binary_is_aam_without_focusing():
    for cosine in (-0.9, -0.1, 0.0, 0.3, 1.0):
        for target in (0, 1):
            plain = LOSSES["aam"](1, s=17.0, m=0.1, k=0.6, gamma_neg=0, gamma_pos=0)
            assert one(LOSSES["am_binary"](1, s=17.0, m=0.1, k=0.6), cosine, target) == one(plain, cosine, target)


def test_the_margin_asks_more_of_both_sides():
    without, with_margin = LOSSES["am_binary"](1, m=0.0), LOSSES["am_binary"](1, m=0.2)
    assert one(with_margin, 0.3, 1) > one(without, 0.3, 1)
    assert one(with_margin, -0.3, 0) > one(without, -0.3, 0)
    # positives need c > m: at c = m the cost is that of an undecided logit, k / s log 2
    assert one(with_margin, 0.2, 1) == pytest.approx(0.7 / 23 * 0.693147, rel=1e-5)


def test_a_larger_gamma_neg_forgives_easy_absences_and_leaves_present_labels_alone():
    soft, hard = LOSSES["aam"](1, gamma_neg=0.5), LOSSES["aam"](1, gamma_neg=3.0)
    assert one(hard, 0.0, 0) < one(soft, 0.0, 0)
    assert one(hard, 0.0, 1) == one(soft, 0.0, 1)


@pytest.mark.parametrize(
    ("num_labels", "expected"), [(1, 7.0), (2, 7.0), (20, 7.0), (80, 9.77), (500, 13.89), (10**7, 30.0)]
)
def test_the_automatic_scale_grows_with_the_logarithm_of_the_vocabulary(num_labels, expected):
    # sqrt(5) ln(79) = 2.23607 * 4.36945 = 9.770
    assert automatic_scale(num_labels) == pytest.approx(expected, abs=0.005)
    assert LOSSES["aam"](num_labels, s=23.0, auto_scale=True).logit_scale == automatic_scale(num_labels)


def test_inference_uses_the_scale_and_drops_the_margin():
    assert LOSSES["aam"](3, s=17.0, m=0.3).logit_scale == 17.0
    assert LOSSES["am_binary"](3).logit_scale == 23.0
    assert LOSSES["asl"](3).logit_scale == 1.0


def test_detached_focusing_changes_the_gradient_and_not_the_value():
    cosines_NC, targets_NC, known_NC = torch.tensor([[0.1, -0.1]]), torch.tensor([[0, 1]]), torch.ones(1, 2)
    values, gradients = [], []
    for detach in (False, True):
        z_NC = cosines_NC.clone().requires_grad_()
        value = LOSSES["aam"](2, gamma_neg=2, gamma_pos=1, detach_focusing=detach)(z_NC, targets_NC, known_NC)
        value.backward()
        values.append(value.item())
        gradients.append(z_NC.grad)
    assert values[0] == values[1]
    assert not torch.allclose(*gradients)


def test_only_the_angular_losses_ask_for_cosines():
    assert {name for name, loss in LOSSES.items() if loss.angular} == {"aam", "am_binary"}
