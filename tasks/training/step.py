"""One optimiser step: the gradient of the global batch, taken once or (SAM) twice, clipped, applied.

How a loss is averaged over micro-batches and processes: the losses give a sum and a count of the entries in it. Each
micro-batch is differentiated as sum / expected, where `expected` is known before the first of them (all known labels of
the step), and the gradients are multiplied by expected / counted once every count is in. So the result is that of one
process with one large batch, and half precision never sees the gradient of a plain sum. Beside a loss that picks its
entries (large_loss, selective) the last factor reaches the term of the unlabelled images too.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from tasks.core.errors import ModelError
from tasks.nn.backbone import freeze
from tasks.training import OPTIMIZERS, seeds
from tasks.training.data import Batch, Step
from tasks.training.distributed import World, synchronise_batchnorm
from tasks.training.ema import Ema
from tasks.training.inference import autocast
from tasks.training.optim import parameter_groups
from tasks.training.sam import perturbed
from tasks.training.semi.base import Assisted, SemiMethod
from tasks.training.settings import Sam, TrainingSettings


@dataclass
class Stepper:
    """Everything that a step changes or needs.

    model: the tagger, which is averaged, validated and kept.  trained: what learns: `model`, or Assisted around it.
    forward: what to call: `trained`, or DDP and torch.compile around it.  semi: what learns from unlabelled images.
    """

    model: nn.Module
    trained: nn.Module
    forward: nn.Module
    semi: SemiMethod | None
    loss: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    sam: Sam | None
    ema: Ema | None
    settings: TrainingSettings
    seed: int
    device: torch.device
    world: World

    def __call__(self, step: Step) -> Tensor:
        """Update the weights (and their average) by one step. Returns its loss before the update, a scalar tensor."""
        memory_format = torch.channels_last if self.settings.channels_last else torch.contiguous_format
        batches = [batch.to(self.device, memory_format) for batch in step.batches]
        step = replace(step, batches=batches)

        loss, auxiliary = self._differentiate(step)
        if self.sam is not None and step.epoch >= self.sam.start_epoch:
            with perturbed(self.trained, rho=self.sam.rho, adaptive=self.sam.adaptive):
                self._differentiate(step)
        if self.settings.clip_grad_norm > 0:
            # The sources clip the first gradient of SAM only, which its normalisation undoes; we clip what is applied.
            self.scaler.unscale_(self.optimizer)
            torch.nn.utils.clip_grad_norm_(self.trained.parameters(), self.settings.clip_grad_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.ema is not None:
            self.ema.update(self.model)
        if self.semi is not None and step.unlabelled_rows:
            factor = self.semi.factor()
            self.semi.observe(loss, auxiliary)
            loss = loss + factor * auxiliary
        return loss

    def _differentiate(self, step: Step) -> tuple[Tensor, Tensor]:
        """Leave the gradient of the global batch's loss in `.grad` (scaled by the scaler).

        Returns the supervised loss, and that of the unlabelled images before its factor: 0 where there are none.
        """
        # The same masks in both passes of SAM, and in a resumed run; other ones in each process.
        torch.manual_seed(seeds.stream_seed(self.seed, seeds.DROPOUT, step.number, self.world.rank))
        self.optimizer.zero_grad()
        expected = {"mean": max(step.num_known, 1), "batch": len(step.rows), "sum": 1}[self.loss.reduction]
        expected_cost = self.semi.expected(step, self.loss) if self.semi and step.unlabelled_rows else 1
        sums = []
        for i, batch in enumerate(step.batches):
            is_last = i == len(step.batches) - 1
            with nullcontext() if is_last or self.world.size == 1 else self.forward.no_sync():
                logits_BC, extra = self._forward(batch)
                total, count = self.loss.sum_and_count(logits_BC, batch.targets_BC, batch.known_BC)
                # DDP averages over processes; a sum is what is wanted.
                objective, cost = total * (self.world.size / expected), total.new_zeros(())
                if extra is not None:
                    cost = self.semi.cost(extra, batch, self.loss, self.world)
                    objective = objective + cost * (self.semi.factor() * (self.world.size / expected_cost))
                self.scaler.scale(objective).backward()
            sums.append(torch.stack([total.detach(), count.to(total.dtype), cost.detach()]))
        total, counted, cost = self.world.sum(torch.stack(sums).sum(dim=0))
        if self.loss.reduction != "mean":
            return total / expected, cost / expected_cost
        counted = counted.clamp(min=1)
        gradients = [p.grad for p in self.trained.parameters() if p.grad is not None]
        torch._foreach_mul_(gradients, expected / counted)
        return total / counted, cost / expected_cost

    def _forward(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """Logits of the labelled images, and what `semi` needs of the extra ones."""
        try:
            with autocast(self.device, self.settings.precision):
                if self.semi is None:
                    return self.forward(batch.images_BCHW), None
                return self.forward(batch.images_BCHW, batch.extra and batch.extra.images_XCHW)
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise ModelError(
                "training: a micro-batch of one image cannot pass BatchNorm over vectors. "
                "Raise batch_size or lower accumulate."
            ) from error


def build_stepper(
    model: nn.Module,
    loss: nn.Module,
    settings: TrainingSettings,
    *,
    seed: int,
    device: torch.device,
    world: World,
    semi: SemiMethod | None = None,
) -> Stepper:
    """Model, optimiser and averages on the device, wrapped for several processes and compiled where asked."""
    if settings.backbone_lr_factor == 0:
        freeze(model.backbone)
    trained = model if semi is None else Assisted(model, semi)
    trained.to(device, memory_format=torch.channels_last if settings.channels_last else torch.preserve_format).train()
    loss.to(device)
    forward = trained
    if world.size > 1:
        synchronise_batchnorm(trained, device)
        forward = DistributedDataParallel(trained, device_ids=[device.index] if device.type == "cuda" else None)
    groups = parameter_groups(
        trained,
        lr=settings.lr,
        weight_decay=settings.weight_decay,
        no_bias_decay=settings.no_bias_decay,
        bias_lr_factor=settings.bias_lr_factor,
        backbone_lr_factor=settings.backbone_lr_factor,
    )
    return Stepper(
        model=model,
        trained=trained,
        semi=semi,
        forward=torch.compile(forward) if settings.compile else forward,
        loss=loss,
        optimizer=settings.optimizer.build(OPTIMIZERS, where="optimizer", param_groups=groups),
        scaler=torch.amp.GradScaler(device.type, enabled=settings.precision == "fp16"),
        sam=settings.sam if settings.sam.enabled else None,
        ema=Ema(model, decay=settings.ema.decay) if settings.ema.enabled else None,
        settings=settings,
        seed=seed,
        device=device,
        world=world,
    )
