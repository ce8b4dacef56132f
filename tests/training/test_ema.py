import pytest
import torch
from torch import nn

from tasks.training.ema import Ema


def scalar(value):
    model = nn.Module()
    model.w = nn.Parameter(torch.tensor(float(value)))
    model.register_buffer("count", torch.tensor(0))
    return model


def test_the_first_updates_forget_the_initialisation():
    model = scalar(0.0)
    ema = Ema(model, decay=0.9997)
    model.w.data.fill_(1.0)
    ema.update(model)
    assert ema.module.w.item() == pytest.approx(0.9)  # decay 1 / 10
    ema.update(model)
    assert ema.module.w.item() == pytest.approx(1 - 0.1 * 2 / 11)  # decay 2 / 11


def test_later_updates_use_the_published_decay():
    model = scalar(0.0)
    ema = Ema(model, decay=0.5)
    ema.num_updates = 100
    model.w.data.fill_(1.0)
    ema.update(model)
    assert ema.module.w.item() == pytest.approx(0.5)


def test_buffers_are_copied_not_averaged():
    model = scalar(0.0)
    ema = Ema(model, decay=0.9)
    model.count.fill_(7)
    ema.update(model)
    assert ema.module.count.item() == 7


def test_the_average_has_no_gradient_and_stays_in_evaluation_mode():
    ema = Ema(nn.Sequential(nn.Linear(2, 2), nn.Dropout()).train(), decay=0.9)
    assert not ema.module.training
    assert not any(p.requires_grad for p in ema.module.parameters())
