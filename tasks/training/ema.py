"""Exponential moving average of the weights, kept beside the model and evaluated beside it."""

from __future__ import annotations

import copy

import torch
from torch import nn


class Ema:
    """ema <- d * ema + (1 - d) * weights after every optimiser step; buffers (BatchNorm statistics) are copied.

    decay: the published value, e.g. 0.9997.  The effective decay of update t = 1, 2, ... is
    d_t = min(decay, t / (t + 9)), so that a run of a few hundred steps does not end as an average of its
    initialisation. The published codes have no such warm-up; for 0.9997 the two agree after 30,000 updates.
    """

    def __init__(self, model: nn.Module, *, decay: float) -> None:
        assert 0 <= decay <= 1, decay
        self.decay = decay
        self.num_updates = 0
        self.module = copy.deepcopy(model).eval().requires_grad_(False)
        self._weights, self._buffers = list(self.module.parameters()), list(self.module.buffers())

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take in the weights of `model`, which has the same modules as the one this was made from."""
        self.num_updates += 1
        decay = min(self.decay, self.num_updates / (self.num_updates + 9))
        torch._foreach_lerp_(self._weights, list(model.parameters()), 1 - decay)
        if self._buffers:
            torch._foreach_copy_(self._buffers, list(model.buffers()))
