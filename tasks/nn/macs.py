"""Multiply-accumulates and parameters of a model, counted without running it.

The "GFLOPs" columns of the papers are multiply-accumulates (MACs); so are these. Convolutions, matrix products and
attention count; norms, activations and pooling do not (about 1 % of EfficientNetV2-S).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from tasks.nn.heads.base import WeightsOnly


@dataclass(frozen=True)
class Cost:
    """Cost of one image. macs: all of them.  macs_by_layer: class name of a layer -> its share.  parameters: count."""

    macs: int
    macs_by_layer: dict[str, int]
    parameters: int


def count_cost(model: nn.Module, image_px: tuple[int, int]) -> Cost:
    """Cost of one RGB image of (height, width) px in evaluation mode.

    What depends on weights alone (the label graph of a graph head) is computed once a model, not once an image, and
    does not count. Nothing else is computed: tensors are fake.
    """
    was_training = model.training
    model.eval()
    device = next(model.parameters()).device
    for module in model.modules():
        if isinstance(module, WeightsOnly):
            module()
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.empty(1, 3, *image_px, device=device))
    model.train(was_training)
    macs = {name: sum(ops.values()) // 2 for name, ops in counter.get_flop_counts().items()}
    return Cost(counter.get_total_flops() // 2, _by_layer(model, macs), sum(p.numel() for p in model.parameters()))


def _by_layer(model: nn.Module, macs: dict[str, int]) -> dict[str, int]:
    """Class name of a layer -> MACs of its own, without those of layers inside it.

    macs: MACs of each module that was called, its inner ones included, under "<class of the model>.<name>".
    """
    own = {name: count for name, count in macs.items() if name != "Global"}
    for name in list(own):
        outer = name.rpartition(".")[0]
        while outer and outer not in own:
            outer = outer.rpartition(".")[0]
        if outer:
            own[outer] -= macs[name]
    classes = {
        f"{type(model).__name__}.{name}".rstrip("."): type(module).__name__ for name, module in model.named_modules()
    }
    by_layer: dict[str, int] = {}
    for name, count in own.items():
        if count:
            by_layer[classes[name]] = by_layer.get(classes[name], 0) + count
    return by_layer
