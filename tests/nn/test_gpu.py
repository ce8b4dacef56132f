"""Heads and losses on a CUDA device: the same numbers as on the CPU, and finite in half precision."""

from __future__ import annotations

import pytest
import torch

from tasks.nn.heads import HEADS
from tasks.nn.losses import LOSSES
from tests.nn.heads.test_contract import build as build_head
from tests.nn.heads.test_contract import features
from tests.nn.losses.test_contract import batch
from tests.nn.losses.test_contract import build as build_loss

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.mark.parametrize("name", sorted(HEADS))
def test_a_head_gives_the_logits_of_the_cpu(name):
    head = build_head(name).eval()
    expected = head(features())
    torch.testing.assert_close(head.cuda()(features().cuda()).cpu(), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", sorted(HEADS))
def test_a_head_and_its_loss_train_in_half_precision(name, dtype):
    head = build_head(name).cuda()
    loss = build_loss("aam" if head.angular else "asl", 7)
    with torch.autocast("cuda", dtype=dtype):
        logits_BC = head(features().cuda())
        value = loss(logits_BC, torch.ones(3, 7).cuda(), torch.ones(3, 7).cuda())
    value.backward()
    assert value.dtype == torch.float32
    assert value.isfinite()
    assert all(p.grad.isfinite().all() for p in head.parameters())


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_a_loss_gives_the_value_of_the_cpu(name):
    logits_NC, targets_NC, known_NC = batch()
    loss = build_loss(name)
    expected = loss(logits_NC, targets_NC, known_NC)
    loss.start_epoch(0)
    value = loss.cuda()(logits_NC.cuda(), targets_NC.cuda(), known_NC.cuda())
    torch.testing.assert_close(value.cpu(), expected, rtol=1e-5, atol=1e-6)
