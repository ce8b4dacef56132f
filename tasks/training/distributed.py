"""Several processes that train one model: who we are, sums over everyone, BatchNorm over the global batch.

`torchrun` starts the processes and sets RANK, WORLD_SIZE and LOCAL_RANK; without it there is one process and nothing
here communicates. Gloo carries CPU tensors, NCCL CUDA ones.
"""

from __future__ import annotations

import atexit
import os
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from tasks.core.environment import device_name
from tasks.core.errors import ModelError


@dataclass(frozen=True)
class World:
    """This process among `size`; rank 0 writes, logs and shows progress."""

    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """Sum of `values` over all processes, the same bits on each; changes `values`."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def sum_with_gradient(self, values: Tensor) -> Tensor:
        """As `sum`, for use inside a loss; leaves `values` alone."""
        return _SumOverProcesses.apply(values) if self.size > 1 else values

    def barrier(self) -> None:
        """Wait until every process is here."""
        if self.size > 1:
            dist.barrier()


def is_main_process() -> bool:
    """Whether this process is the one that writes files, before, in and after a run."""
    return int(os.environ.get("RANK", "0")) == 0


def default_device() -> torch.device:
    """TAGWRIGHT_DEVICE where it is set (e.g. "cpu"), else the CUDA device of this process, else the CPU.

    Raises ModelError when TAGWRIGHT_DEVICE is no device of this machine.
    """
    if name := device_name():
        try:
            return torch.zeros((), device=name).device
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            raise ModelError(
                f"TAGWRIGHT_DEVICE: '{name}' cannot be used here. Use 'cpu', or 'cuda' where torch finds a GPU."
            ) from error
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device("cpu")


def join(device: torch.device) -> World:
    """The World of this process. The first call joins the group that torchrun announced; the process leaves it at exit.

    One group serves all runs of a process: a second one would meet what the store remembers of the first.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return World()
    if not dist.is_initialized():
        if device.type == "cuda":
            torch.cuda.set_device(device)
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        atexit.register(dist.destroy_process_group)
    return World(dist.get_rank(), dist.get_world_size())


# ---------------------------------------------------------------- BatchNorm over the global batch


def synchronise_batchnorm(model: nn.Module, device: torch.device) -> None:
    """Let every BatchNorm of `model` see the batch of all processes, in place; names in the state dict stay.

    Without it N processes normalise by other statistics than one process with the same global batch.
    """
    kind = _FusedGlobalBatchNorm if device.type == "cuda" else _GlobalBatchNorm
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, _BatchNorm) and not isinstance(child, kind):
                setattr(parent, name, kind.like(child))


class _TakesOver:
    """Replaces a norm layer: same parameters and buffers, and the dropout and activation that a fused one carries."""

    @classmethod
    def like(cls, norm: _BatchNorm) -> _BatchNorm:
        made = cls(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
        made._parameters.update(norm._parameters)
        made._buffers.update(norm._buffers)
        made.drop = getattr(norm, "drop", nn.Identity())
        made.act = getattr(norm, "act", nn.Identity())
        return made.train(norm.training)

    def forward(self, input: Tensor) -> Tensor:
        return self.act(self.drop(super().forward(input)))


class _SummedBatchNorm(_BatchNorm):
    """BatchNorm whose mean and variance are summed over processes; torch's own SyncBatchNorm refuses the CPU."""

    def _check_input_dim(self, input: Tensor) -> None:
        """Any number of spatial axes."""

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        dims = [d for d in range(input.ndim) if d != 1]
        shape = [1, -1, *[1] * (input.ndim - 2)]
        count = _SumOverProcesses.apply(input.new_tensor([input.numel() / input.shape[1]]))
        mean = _SumOverProcesses.apply(input.sum(dims)) / count
        centred = input - mean.view(shape)
        variance = _SumOverProcesses.apply((centred * centred).sum(dims)) / count
        if self.track_running_stats:
            with torch.no_grad():
                self.num_batches_tracked.add_(1)
                share = self.momentum if self.momentum is not None else 1 / float(self.num_batches_tracked)
                self.running_mean.lerp_(mean, share)
                self.running_var.lerp_(variance * (count / (count - 1).clamp(min=1)), share)
        normalised = centred * torch.rsqrt(variance + self.eps).view(shape)
        return normalised * self.weight.view(shape) + self.bias.view(shape) if self.affine else normalised


class _GlobalBatchNorm(_TakesOver, _SummedBatchNorm):
    """On the CPU."""


class _FusedGlobalBatchNorm(_TakesOver, nn.SyncBatchNorm):
    """On CUDA."""


class _SumOverProcesses(torch.autograd.Function):
    """All-reduce that can be differentiated: everyone's output depends on everyone's input, so gradients are summed."""

    @staticmethod
    def forward(ctx, values: Tensor) -> Tensor:
        values = values.clone()
        dist.all_reduce(values)
        return values

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        gradient = gradient.clone()
        dist.all_reduce(gradient)
        return gradient
