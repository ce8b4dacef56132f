"""Learning-rate schedules as functions of the optimiser step; only `plateau` remembers anything.

A schedule says by what every group's own learning rate is multiplied at `step` (0-based) of `num_steps`, and, where it
cycles it, what the momentum (SGD) or the first beta (AdamW) is. A run that stops early does not shorten the schedule.
The factories at the end take `num_steps` and `steps_per_epoch` from the loop and their options as keywords.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


def _cosine(start: float, end: float, share: float) -> float:
    """From `start` at share 0 to `end` at share 1 along half a cosine."""
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


@dataclass
class Schedule:
    """Constant factor 1; what the others override."""

    num_steps: int

    def factor(self, step: int) -> float:
        """Multiplier of the learning rate at `step` in [0, num_steps)."""
        return 1.0

    def momentum(self, step: int) -> float | None:
        """Momentum at `step`; None leaves the optimiser's own."""
        return None

    def rising(self, step: int) -> bool:
        """Whether the learning rate is still being raised at `step`."""
        return False

    def observe(self, score: float) -> None:
        """Take in the validation score of a finished epoch, higher is better."""

    def state_dict(self) -> dict[str, float]:
        return {}

    def load_state_dict(self, state: dict[str, float]) -> None:
        assert not state, state


@dataclass
class OneCycle(Schedule):
    """Up along a cosine for `rise` of the steps, down along another; momentum mirrors it.

    Source: Smith & Topin 2018; the shape and defaults of torch.optim.lr_scheduler.OneCycleLR, with the sources'
    div_factor 100, final_div_factor 1000 and rise 0.2.
    """

    rise: float
    div_factor: float
    final_div_factor: float
    base_momentum: float = 0.85
    max_momentum: float = 0.95

    def _at(self, step: int, first: float, peak: float, last: float) -> float:
        top = self.rise * self.num_steps - 1
        if step <= top:
            return _cosine(first, peak, step / top if top > 0 else 1.0)
        return _cosine(peak, last, (step - top) / (self.num_steps - 1 - top))

    def factor(self, step: int) -> float:
        return self._at(step, 1 / self.div_factor, 1.0, 1 / (self.div_factor * self.final_div_factor))

    def momentum(self, step: int) -> float:
        return self._at(step, self.max_momentum, self.base_momentum, self.max_momentum)

    def rising(self, step: int) -> bool:
        return step < self.rise * self.num_steps


@dataclass
class WarmupCosine(Schedule):
    """Linear from 0 over `warmup_steps` (step k gets (k + 1) / warmup_steps), then (1 + cos(pi t / T)) / 2."""

    warmup_steps: int

    def factor(self, step: int) -> float:
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        return _cosine(1.0, 0.0, (step - self.warmup_steps) / max(1, self.num_steps - self.warmup_steps))

    def rising(self, step: int) -> bool:
        return step < self.warmup_steps


@dataclass
class Polynomial(Schedule):
    """(1 - t / T) ^ power."""

    power: float

    def factor(self, step: int) -> float:
        return (1 - step / self.num_steps) ** self.power


@dataclass
class Plateau(Schedule):
    """Linear warm-up, then multiply by `decay` after more than `patience` epochs without a better score.

    Same counting as torch.optim.lr_scheduler.ReduceLROnPlateau(mode="max", threshold=0).
    """

    warmup_steps: int
    decay: float
    patience: int
    min_factor: float
    current: float = 1.0
    best: float = -math.inf
    bad_epochs: int = 0

    def factor(self, step: int) -> float:
        return self.current * min(1.0, (step + 1) / self.warmup_steps if self.warmup_steps else 1.0)

    def rising(self, step: int) -> bool:
        return step < self.warmup_steps

    def observe(self, score: float) -> None:
        if score > self.best:
            self.best, self.bad_epochs = score, 0
            return
        self.bad_epochs += 1
        if self.bad_epochs > self.patience:
            self.current = max(self.min_factor, self.current * self.decay)
            self.bad_epochs = 0

    def state_dict(self) -> dict[str, float]:
        return {"current": self.current, "best": self.best, "bad_epochs": self.bad_epochs}

    def load_state_dict(self, state: dict[str, float]) -> None:
        self.current, self.best, self.bad_epochs = state["current"], state["best"], int(state["bad_epochs"])


def constant(num_steps: int) -> Schedule:
    """The same learning rate throughout."""
    return Schedule(num_steps)


def one_cycle(
    num_steps: int, *, rise: float = 0.2, div_factor: float = 100.0, final_div_factor: float = 1000.0
) -> Schedule:
    """One-Cycle with momentum cycling 0.95 -> 0.85 -> 0.95.

    rise: share of the steps until the peak, in (0, 1).  div_factor: peak over first learning rate.
    final_div_factor: first over last learning rate.
    """
    if not 0 < rise < 1:
        raise ValueError(f"rise must lie in (0, 1), found {rise}")
    return OneCycle(num_steps, rise, div_factor, final_div_factor)


def cosine(num_steps: int, steps_per_epoch: int, *, warmup_epochs: float = 1.0) -> Schedule:
    """Cosine to 0 after a linear warm-up of `warmup_epochs` >= 0."""
    return WarmupCosine(num_steps, min(num_steps, round(warmup_epochs * steps_per_epoch)))


def poly(num_steps: int, *, power: float = 0.5) -> Schedule:
    """(1 - t / T) ^ power without a warm-up; 0.5 is that of the SESEMI study."""
    if not power > 0:
        raise ValueError(f"power must be greater than 0, found {power}")
    return Polynomial(num_steps, power)


def plateau(
    num_steps: int, *, decay: float = 0.5, patience: int = 0, min_factor: float = 1e-4, warmup_steps: int = 1
) -> Schedule:
    """Multiply by `decay` when the validation score stops improving (defaults: the OTX 1.x recipe).

    patience: epochs without a better score that are forgiven; OTX's own patience of 1 forgives none.
    min_factor: lowest multiple of the learning rate.  warmup_steps: linear warm-up, optimiser steps.
    """
    return Plateau(num_steps, warmup_steps, decay, patience, min_factor)
