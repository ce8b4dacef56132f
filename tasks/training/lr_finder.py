"""Learning-rate search: the range test, and Optuna over whole trials where it is installed."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from torch import nn

from tasks.core.errors import ModelError
from tasks.training.data import ImageSet, Step, StepPlan, training_batches
from tasks.training.distributed import World, default_device
from tasks.training.settings import TrainingSettings
from tasks.training.step import Stepper, build_stepper

SKIPPED_FIRST, SKIPPED_LAST = 10, 5
"""Points of a sweep that are left out: the first are noise, the last diverge. As in the sources."""


LEAST_STEPS = 40
"""Of a sweep; a small data set is gone through several times."""


class RangeTest(NamedTuple):
    """lr: suggestion.  lrs, losses: the sweep, float64 (T,); the losses are smoothed."""

    lr: float
    lrs: np.ndarray
    losses: np.ndarray


def sweep_lr(
    model: nn.Module, loss: nn.Module, train_set: ImageSet, settings: TrainingSettings, *, seed: int, **sweep: float
) -> RangeTest:
    """`range_test` over one epoch, or as many as LEAST_STEPS take, in this process; `model` keeps its weights.

    sweep: min_lr, max_lr, smoothing, divergence of `range_test`.
    """
    epochs = math.ceil(LEAST_STEPS / math.ceil(len(train_set) / settings.batch_size))
    plan = StepPlan(
        len(train_set), batch_size=settings.batch_size, accumulate=settings.accumulate, epochs=epochs, seed=seed
    )
    stepper = build_stepper(model, loss, settings, seed=seed, device=default_device(), world=World())
    steps = training_batches(train_set, plan, augment=settings.augment)
    return range_test(stepper, steps, num_steps=plan.num_steps, **sweep)


def range_test(
    stepper: Stepper,
    steps: Iterable[Step],
    *,
    num_steps: int,
    min_lr: float = 0.004,
    max_lr: float = 0.03,
    smoothing: float = 0.01,
    divergence: float = 5.0,
) -> RangeTest:
    """Raise the learning rate exponentially from step to step and suggest the one where the loss falls fastest.

    Each group keeps its ratio to the others. Weights, buffers, optimiser and loss are put back; SAM and the average of
    the weights rest, as in the sources.
    num_steps: length of the sweep, one epoch in the sources.  min_lr, max_lr: > 0. Choose them with the loss in mind: a
        summed loss wants far smaller rates than a mean.
    smoothing: weight of the newest loss in the running mean.  divergence: the sweep ends when the running mean exceeds
        this multiple of its best.
    Raises ModelError when too few points are left.
    Source: Smith 2017; constants of Prokofiev & Sovrasov's released code and of torch-lr-finder.
    """
    plain = replace(stepper, sam=None, ema=None)
    parts = (stepper.model, stepper.loss, stepper.optimizer)
    kept = [copy.deepcopy(part.state_dict()) for part in parts]
    lrs: list[float] = []
    losses: list[float] = []
    for i, step in zip(range(num_steps), steps, strict=False):
        lr = min_lr * (max_lr / min_lr) ** (i / max(1, num_steps - 1))
        for group in stepper.optimizer.param_groups:
            group["lr"] = group["base_lr"] * lr / stepper.settings.lr
        loss = plain(step).item()
        smoothed = loss if not losses else smoothing * loss + (1 - smoothing) * losses[-1]
        if not math.isfinite(smoothed) or (losses and smoothed > divergence * min(losses)):
            break
        lrs.append(lr)
        losses.append(smoothed)
    for part, state in zip(parts, kept, strict=True):
        part.load_state_dict(state)
    return RangeTest(steepest_descent(lrs, losses), np.array(lrs), np.array(losses))


def steepest_descent(lrs: list[float], losses: list[float]) -> float:
    """The learning rate where the loss, as a function of the step, has its most negative slope.

    Raises ModelError when fewer than two points are left after the first 10 and the last 5.
    """
    inner = slice(SKIPPED_FIRST, len(losses) - SKIPPED_LAST)
    if len(losses) < SKIPPED_FIRST + SKIPPED_LAST + 2:
        raise ModelError(
            f"learning-rate search: the loss diverged or the data ended after {len(losses)} steps, at least "
            f"{SKIPPED_FIRST + SKIPPED_LAST + 2} are needed. Lower max_lr or the batch size."
        )
    return lrs[inner][int(np.argmin(np.gradient(losses[inner])))]


def search_lr(
    objective: Callable[[float, Callable[[int, float], None]], float],
    *,
    min_lr: float,
    max_lr: float,
    seed: int,
    num_trials: int = 15,
    num_startup: int = 5,
) -> float:
    """The learning rate with the highest objective, by tree-structured Parzen estimation on a log scale.

    objective(lr, report): train with `lr` from the same start, call report(epoch, score) after each epoch (a hopeless
    trial is cut short there), return the best score. The sources draw from a linear grid of [1e-5, 1e-3], which cannot
    reach the rates that their own angular losses use; choose the bounds with the loss in mind.
    Raises ModelError where Optuna is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        raise ModelError("learning-rate search: Optuna is not installed. Install the `search` extra.") from error

    def trial_score(trial: optuna.Trial) -> float:
        def report(epoch: int, score: float) -> None:
            trial.report(score, epoch)
            if trial.should_prune():
                raise optuna.TrialPruned

        return objective(trial.suggest_float("lr", min_lr, max_lr, log=True), report)

    study = optuna.create_study(
        direction="maximize",
        sampler=optuna.samplers.TPESampler(n_startup_trials=num_startup, seed=seed),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=num_startup),
    )
    study.optimize(trial_score, n_trials=num_trials)
    return study.best_params["lr"]
