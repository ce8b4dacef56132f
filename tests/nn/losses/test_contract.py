"""What every entry of LOSSES must hold to; a new entry is tested here before anyone writes a test for it.

Axes: N images, C labels.
"""

from __future__ import annotations

import inspect

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.nn.losses import LOSSES

EVERY = pytest.mark.parametrize("name", sorted(LOSSES))
REDUCTIONS = ("mean", "sum", "batch")
GROUPS = [[0, 1, 2]]


def build(name: str, num_labels: int = 5, **options):
    context = {"groups": GROUPS} if "groups" in inspect.signature(LOSSES[name]).parameters and num_labels >= 3 else {}
    return LOSSES[name](num_labels, **context, **options)


def batch(seed: int = 0, n: int = 4, c: int = 5):
    generator = torch.Generator().manual_seed(seed)
    logits_NC = torch.randn(n, c, generator=generator).tanh().requires_grad_()
    targets_NC = torch.rand(n, c, generator=generator) < 0.4
    known_NC = torch.rand(n, c, generator=generator) < 0.7
    return logits_NC, targets_NC.to(torch.uint8), known_NC


@EVERY
def test_options_are_keyword_only_and_have_defaults(name):
    parameters = list(inspect.signature(LOSSES[name]).parameters.values())
    assert parameters[0].name == "num_labels"
    options = [p for p in parameters if p.kind is p.KEYWORD_ONLY]
    assert "reduction" in {p.name for p in options}
    assert all(p.default is not p.empty for p in options)


@EVERY
@settings(max_examples=15)
@given(seed=st.integers(0, 2**16))
def test_unknown_labels_do_not_change_the_loss_unless_it_says_that_it_uses_them(name, seed):
    loss = build(name)
    if loss.uses_unknown:
        pytest.skip(f"{name} uses unknown labels with its default options")
    logits_NC, targets_NC, known_NC = batch(seed)
    flipped_NC = torch.where(known_NC, targets_NC, 1 - targets_NC)
    shifted_NC = torch.where(known_NC, logits_NC, logits_NC + 3)
    # In a softmax the logits of unknown members share the denominator, so there only the targets may be anything.
    other_logits_NC = logits_NC if loss.softmax_groups else shifted_NC
    assert torch.equal(loss(logits_NC, targets_NC, known_NC), loss(other_logits_NC, flipped_NC, known_NC))


@EVERY
def test_the_gradient_of_an_unknown_entry_is_zero_unless_the_loss_uses_them(name):
    loss = build(name)
    if loss.uses_unknown:
        pytest.skip(f"{name} uses unknown labels with its default options")
    logits_NC, targets_NC, known_NC = batch()
    known_NC[:, :3] = False  # the whole exclusive group
    loss(logits_NC, targets_NC, known_NC).backward()
    assert torch.equal(logits_NC.grad != 0, known_NC & (logits_NC.grad != 0))


@EVERY
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_a_batch_without_known_labels_costs_a_differentiable_zero(name, reduction):
    loss = build(name, reduction=reduction)
    logits_NC, targets_NC, known_NC = batch()
    value = loss(logits_NC, targets_NC, torch.zeros_like(known_NC))
    value.backward()
    assert logits_NC.grad.isfinite().all()
    if name != "large_loss":  # which assumes that unknown is absent
        assert value == 0
        assert (logits_NC.grad == 0).all()


@EVERY
@pytest.mark.parametrize("value", [0.0, 1e-9, 1.0, 50.0, 1e4, 1e8])
@pytest.mark.parametrize("epoch", [0, 3])
def test_value_and_gradient_are_finite_however_large_the_logits(name, value, epoch):
    loss = build(name, num_labels=4)
    loss.start_epoch(epoch)
    logits_NC = torch.tensor([[value, -value, value, -value], [-value, value, 0.0, value]], requires_grad=True)
    for targets in ([[1, 1, 0, 0], [0, 0, 1, 1]], [[0, 0, 0, 0], [1, 1, 1, 1]]):
        logits_NC.grad = None
        result = loss(logits_NC, torch.tensor(targets), torch.tensor([[True, True, True, False]] * 2))
        result.backward()
        assert result.isfinite()
        assert result >= 0
        assert logits_NC.grad.isfinite().all()


@EVERY
def test_reductions_differ_only_by_their_divisor(name):
    logits_NC, targets_NC, known_NC = batch(n=4)
    mean, total, per_image = (build(name, reduction=r)(logits_NC, targets_NC, known_NC) for r in REDUCTIONS)
    summed, count = build(name).sum_and_count(logits_NC, targets_NC, known_NC)
    torch.testing.assert_close(summed, total)
    torch.testing.assert_close(mean * count, total)
    torch.testing.assert_close(per_image * 4, total)


@EVERY
def test_half_precision_and_autocast_compute_in_single_precision(name):
    logits_NC, targets_NC, known_NC = batch()
    coarse_NC = logits_NC.detach().bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = build(name)(coarse_NC, targets_NC, known_NC)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, build(name)(coarse_NC.float(), targets_NC, known_NC), rtol=0, atol=0)


@EVERY
@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (3, 1)])
def test_one_image_and_one_label_are_enough(name, shape):
    logits_NC = torch.zeros(shape, requires_grad=True)
    value = build(name, num_labels=shape[1])(logits_NC, torch.ones(shape), torch.ones(shape, dtype=torch.bool))
    value.backward()
    assert value.ndim == 0
    assert logits_NC.grad.isfinite().all()


@EVERY
def test_the_gradient_is_that_of_the_value(name):
    options = {"detach_focusing": False} if "detach_focusing" in inspect.signature(LOSSES[name]).parameters else {}
    if name == "selective":
        options = {"gamma_pos": 0.0, "gamma_neg": 0.0, "gamma_unknown": 0.0}  # its factors are constants by definition
    loss = build(name, **options)
    logits_NC, targets_NC, known_NC = batch()
    double_NC = logits_NC.detach().double().requires_grad_()
    assert torch.autograd.gradcheck(lambda z: loss(z, targets_NC, known_NC), double_NC)


@EVERY
def test_an_unknown_reduction_is_refused_by_name(name):
    with pytest.raises(ValueError, match="reduction 'average' is unknown; use one of mean, sum, batch"):
        build(name, reduction="average")


@EVERY
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_equal_class_weights_change_nothing(name, reduction):
    loss, (logits_NC, targets_NC, known_NC) = build(name, reduction=reduction), batch()
    plain = loss(logits_NC, targets_NC, known_NC)
    loss.weigh_labels(torch.ones(5))
    assert torch.equal(loss(logits_NC, targets_NC, known_NC), plain)


@EVERY
def test_the_weight_of_a_label_multiplies_its_gradient(name):
    loss, (logits_NC, targets_NC, known_NC) = build(name, reduction="sum"), batch()
    loss(logits_NC, targets_NC, known_NC).backward()
    plain_NC, logits_NC.grad = logits_NC.grad, None
    loss.weigh_labels(torch.tensor([2.0, 2.0, 2.0, 0.5, 3.0]))  # the first three may be a softmax
    loss(logits_NC, targets_NC, known_NC).backward()
    torch.testing.assert_close(logits_NC.grad, plain_NC * torch.tensor([2.0, 2.0, 2.0, 0.5, 3.0]))
