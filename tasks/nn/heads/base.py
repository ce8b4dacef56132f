"""What all heads share: cosines in single precision, results cached while weights stand still, labels carried by name.

Axes: B images, C labels, F channels of the feature map, H W its positions, D any inner width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Head(nn.Module):
    """Feature map (B, F, H, W) -> logits (B, C).

    Implementing a new head: `__init__(self, num_features, num_labels, *, <options>)`, `forward(features_BFHW)` without
    control flow that depends on values, and the two class attributes that tell `carry_over` where labels live.
    """

    angular: bool = False
    """Logits are cosines (plus a bias, in ML-Decoder) and want an angular loss."""
    label_axes: Mapping[str, int] = {}
    """State entries with one row a label, and the axis of the labels; with the default `carry_over`."""
    vocabulary_state: tuple[str, ...] = ()
    """State entries computed from the vocabulary itself (label graph, word vectors), never carried over."""

    def carry_over(self, old_state: Mapping[str, Tensor], pairs: Sequence[tuple[int, int]]) -> list[int]:
        """Copy what a head of another vocabulary learned; returns the new indices of the labels carried.

        old_state: state dict of a head of the same kind.  pairs: (old index, new index) of the labels both know.
        Nothing is copied, and [] returned, when the parts that all labels share differ in shape.
        """
        own = {name: value for name, value in self.state_dict().items() if name not in self.vocabulary_state}
        return [new for _, new in pairs] if copy_shared(own, old_state, pairs, self.label_axes) else []


class WeightsOnly(nn.Module):
    """A tensor that depends on weights and on no image: computed every step in training, once in evaluation.

    In evaluation the result is kept in a buffer until a weight changes (an in-place update, a loaded state, a move to
    another device or dtype), so inference and export pay nothing for it. A write through `param.data`, which PyTorch
    does not count, is noticed at the next call of `train()`.
    """

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.register_buffer("cached", torch.zeros(shape), persistent=False)
        self._cached_for: tuple | None = None

    def compute(self) -> Tensor:
        """The tensor itself, with its graph."""
        raise NotImplementedError

    def forward(self) -> Tensor:
        if self.training:
            return self.compute()
        if torch.jit.is_tracing() or torch.compiler.is_compiling():  # fingerprints cannot be read there
            return self.compute() if self._cached_for is None else self.cached
        fingerprint = self._fingerprint()
        if self._cached_for != fingerprint:
            with torch.no_grad():
                self.cached.copy_(self.compute())
            self._cached_for = fingerprint
        return self.cached

    def train(self, mode: bool = True) -> WeightsOnly:
        if mode:
            self._cached_for = None
        return super().train(mode)

    def _load_from_state_dict(self, *args, **kwargs) -> None:
        self._cached_for = None
        super()._load_from_state_dict(*args, **kwargs)

    def _fingerprint(self) -> tuple:
        weights = [w for w in [*self.parameters(), *self.buffers()] if w is not self.cached]
        return tuple((w.data_ptr(), w._version) for w in weights)


def copy_shared(
    own: Mapping[str, Tensor],
    old: Mapping[str, Tensor],
    pairs: Sequence[tuple[int, int]],
    label_axes: Mapping[str, int],
) -> bool:
    """Copy `old` into the tensors of `own`: whole, or row by row where labels have an axis.

    pairs: (old index, new index) of the shared labels.  label_axes: entry -> axis of its labels.
    Returns False, and copies nothing, when an entry is missing or differs in another axis.
    """

    def fits(name: str, value: Tensor) -> bool:
        axis = label_axes.get(name)
        if name not in old or old[name].ndim != value.ndim:
            return False
        return all(old[name].shape[i] == value.shape[i] for i in range(value.ndim) if i != axis)

    if not all(fits(name, value) for name, value in own.items()):
        return False
    old_rows, new_rows = (torch.tensor([pair[side] for pair in pairs], dtype=torch.long) for side in (0, 1))
    with torch.no_grad():
        for name, value in own.items():
            source = old[name].to(value.device, value.dtype)
            if name not in label_axes:
                value.copy_(source)
            elif pairs:
                axis = label_axes[name]
                rows = source.index_select(axis, old_rows.to(value.device))
                value.index_copy_(axis, new_rows.to(value.device), rows)
    return True


def full_precision(tensor: Tensor) -> AbstractContextManager:
    """Autocast off where it is on; nothing otherwise, so that exporters do not see a context they cannot write."""
    device = tensor.device.type
    return torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else nullcontext()


def cosines(features_BD: Tensor, weight_CD: Tensor) -> Tensor:
    """Cosine of each image's feature and each label's vector, (B, C) in [-1, 1], in single precision."""
    with full_precision(features_BD):
        return F.linear(unit(features_BD, -1), unit(weight_CD, -1)).clamp(-1, 1)


def unit(tensor: Tensor, dim: int) -> Tensor:
    """Single-precision copy with unit length along `dim`; zeros stay zero."""
    return F.normalize(tensor if tensor.dtype == torch.float64 else tensor.float(), dim=dim)


def unit_normal(*shape: int) -> Tensor:
    """Random directions: rows of unit length."""
    return F.normalize(torch.randn(*shape), dim=-1)
