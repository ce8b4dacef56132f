"""Sharpness-aware minimisation around any optimiser.

Per optimiser step, with w the weights and g the gradient of the whole (global, accumulated) batch:

    SAM   e = rho * g / (||g|| + 1e-12)            Foret et al., ICLR 2021, eq. 2
    ASAM  e = rho * w^2 * g / (|| |w| * g || + 1e-12)   Kwon et al., ICML 2021, eq. 6 without its additive eta

The gradient is taken again at w + e on the same images under the same augmentation and the same dropout masks, w is
put back from a saved copy (subtracting e would leave rounding behind), and the optimiser applies the second gradient.

What the combination with other machinery needs:

- gradient scaling: e does not change when g is scaled, so the first gradient needs no unscaling. If it overflowed, e
  and therefore the second gradient are not finite and the scaler skips the update as it does without SAM.
- several processes, accumulation: g must be the gradient of the global batch before its norm is taken, so only the
  last micro-batch of a pass synchronises and both passes see every micro-batch.
- BatchNorm: the published codes let both passes update the running statistics. Here the second pass leaves no trace
  in any buffer: statistics at w + e belong to no model that is ever evaluated.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


@contextmanager
def perturbed(model: nn.Module, *, rho: float, adaptive: bool = False) -> Iterator[Tensor]:
    """Within the block `model` has the weights w + e; afterwards it has w and the buffers it entered with, bit for bit.

    model: its parameters with a gradient are moved; the gradients must already be those of the global batch.
    rho: radius of the neighbourhood, > 0 (0.05 in the sources).  adaptive: ASAM, radius relative to |w|.
    Yields the norm that divided the gradient, a float scalar tensor.
    """
    moved = [p for p in model.parameters() if p.grad is not None]
    buffers = list(model.buffers())
    with torch.no_grad():
        saved_weights = [p.detach().clone() for p in moved]
        saved_buffers = [b.detach().clone() for b in buffers]
        directions = [p.grad for p in moved]
        if adaptive:
            directions = torch._foreach_mul(torch._foreach_abs(moved), directions)
        norm = torch.nn.utils.get_total_norm(directions)
        if adaptive:
            directions = torch._foreach_mul(torch._foreach_abs(moved), directions)
        torch._foreach_add_(moved, torch._foreach_mul(directions, rho / (norm + 1e-12)))
    try:
        yield norm
    finally:
        with torch.no_grad():
            _copy(moved, saved_weights)
            _copy(buffers, saved_buffers)


def _copy(into: list[Tensor], values: list[Tensor]) -> None:
    if into:
        torch._foreach_copy_(into, values)
