"""Optimisers and the parameter groups that decide who is decayed and how fast it learns."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from tasks.training.schedules import Schedule

ParamGroup = dict[str, Any]

AXES = re.compile(r"_[A-Z]+$")
"""The axis letters that our own parameters carry: bias_C is a bias."""


def parameter_groups(
    model: nn.Module,
    *,
    lr: float,
    weight_decay: float,
    no_bias_decay: bool,
    bias_lr_factor: float = 1.0,
    backbone_lr_factor: float = 1.0,
) -> list[ParamGroup]:
    """Trainable parameters of `model` in groups with their own learning rate and weight decay, without frozen ones.

    no_bias_decay: three groups, as in the sources' NBD: "decayed"; "bias", names that end in `bias` (lr times
    bias_lr_factor, no decay); "undecayed", one-dimensional weights (norms, PReLU) and the weight of any module called
    norm or query_embed. Otherwise one group. Empty groups are left out.
    backbone_lr_factor: unless 1, `backbone` of the model, or of the `tagger` in it, has groups of its own, with lr
    times this factor: "backbone …".
    Returns dicts with keys name, params, lr, base_lr, weight_decay, names.
    """
    rates = {"decayed": (lr, weight_decay), "bias": (lr * bias_lr_factor, 0.0), "undecayed": (lr, 0.0)}
    slower = {f"backbone {kind}": (own_lr * backbone_lr_factor, decay) for kind, (own_lr, decay) in rates.items()}
    members: dict[str, list[tuple[str, nn.Parameter]]] = {kind: [] for kind in (*rates, *slower)}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            part = (
                "backbone " if backbone_lr_factor != 1 and name.removeprefix("tagger.").startswith("backbone.") else ""
            )
            members[part + (_kind(name, parameter) if no_bias_decay else "decayed")].append((name, parameter))
    return [
        {
            "name": kind,
            "names": [n for n, _ in members[kind]],
            "params": [p for _, p in members[kind]],
            "lr": group_lr,
            "base_lr": group_lr,
            "weight_decay": decay,
        }
        for kind, (group_lr, decay) in (rates | slower).items()
        if members[kind]
    ]


def _kind(name: str, parameter: nn.Parameter) -> str:
    owner, _, leaf = name.rpartition(".")
    if AXES.sub("", leaf).endswith("bias"):
        return "bias"
    if parameter.ndim <= 1 or (name.endswith("weight") and ("norm" in owner or "query_embed" in owner)):
        return "undecayed"
    return "decayed"


def sgd(param_groups: Sequence[ParamGroup], *, momentum: float = 0.9, nesterov: bool = False) -> torch.optim.Optimizer:
    """Stochastic gradient descent; momentum in [0, 1). A schedule that cycles the momentum overrides it."""
    return torch.optim.SGD(param_groups, lr=0.0, momentum=momentum, nesterov=nesterov, fused=True)


def adamw(
    param_groups: Sequence[ParamGroup], *, beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8
) -> torch.optim.Optimizer:
    """AdamW, decoupled weight decay. A schedule that cycles the momentum overrides beta1."""
    return torch.optim.AdamW(param_groups, lr=0.0, betas=(beta1, beta2), eps=eps, fused=True)


def follow(schedule: Schedule, optimizer: torch.optim.Optimizer, step: int) -> float:
    """Give every group of `optimizer` its learning rate and momentum for `step`. Returns the factor applied."""
    factor, momentum = schedule.factor(step), schedule.momentum(step)
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor
        if momentum is not None and "betas" in group:
            group["betas"] = (momentum, group["betas"][1])
        elif momentum is not None and group["momentum"] > 0:
            group["momentum"] = momentum
    return factor
