"""What training reads of params.yaml; the sections of tasks.params fit without being imported."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol


class Choice(Protocol):
    """One entry of a registry with its options; `build` calls it."""

    name: str

    @property
    def options(self) -> dict[str, Any]: ...

    def build(self, registry: Mapping[str, Callable], *, where: str, **context: Any) -> Any: ...


class Loss(Choice, Protocol):
    class_weights: str  # none | inverse | effective_number


class Sam(Protocol):
    enabled: bool
    rho: float
    adaptive: bool
    start_epoch: int  # earlier epochs take plain steps


class Ema(Protocol):
    enabled: bool
    decay: float


class EarlyStopping(Protocol):
    rule: str  # a key of STOPPING_RULES
    patience: int  # epochs


class TrainingSettings(Protocol):
    loss: Loss  # of LOSSES
    epochs: int
    batch_size: int  # images an optimiser step sees, over all processes and micro-batches
    accumulate: int  # micro-batches a step
    optimizer: Choice  # of OPTIMIZERS
    schedule: Choice  # of SCHEDULES
    lr: float
    weight_decay: float
    no_bias_decay: bool
    bias_lr_factor: float
    backbone_lr_factor: float
    sam: Sam
    ema: Ema
    clip_grad_norm: float  # largest L2 norm of the gradient; 0 turns clipping off
    precision: str  # fp32 | bf16 | fp16: of the forward pass; weights and losses stay fp32
    channels_last: bool
    compile: bool
    augment: Sequence[Mapping[str, Any]]  # the policy, see augment.py
    early_stopping: EarlyStopping
    checkpoint_every_steps: int  # optimiser steps


class FinetuneSettings(TrainingSettings, Protocol):
    labelled_per_class: int  # 0 keeps the labels of every image
    probe: bool  # the head is fitted on frozen features before the first epoch
    semi: Choice  # of SEMI


class Backbone(Protocol):
    name: str  # of timm
    weights: str | None  # a timm tag, a file, or none
    options: dict[str, Any]
    freeze_batchnorm: bool


class ModelSettings(Protocol):
    image_px: Sequence[int]  # height, width
    resize: str  # stretch | letterbox | crop
    backbone: Backbone
    head: Choice  # of HEADS
    head_init: str  # own | xavier
