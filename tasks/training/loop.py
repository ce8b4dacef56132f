"""The training loop: epochs of steps, a validation after each, a checkpoint now and then, the best weights in the end.

What is guaranteed:

- On a CPU, with one build of torch and one number of threads, a run gives the same bytes each time, and so does a run
  that was killed at any moment and started again. Another number of threads sums in another order: last bits change.
- Loader workers change nothing. Processes (torchrun) and micro-batches change only the order of sums, as long as there
  is no dropout, which each process draws for itself.
"""

from __future__ import annotations

import itertools
import logging
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tasks.training import SCHEDULES, STOPPING_RULES, checkpoint
from tasks.training.data import ImageSet, Replicas, Step, StepPlan, training_batches
from tasks.training.distributed import default_device, join
from tasks.training.inference import infer
from tasks.training.late_losses import LateLosses
from tasks.training.optim import follow
from tasks.training.progress import Progress
from tasks.training.run import Run
from tasks.training.semi.base import SemiMethod, check_semi
from tasks.training.semi.stream import with_unlabelled
from tasks.training.settings import TrainingSettings
from tasks.training.step import Stepper, build_stepper
from tasks.training.validation import mean_average_precision

logger = logging.getLogger(__name__)

EXIT_TERMINATED = 143
"""Exit status after SIGTERM: the state is saved, the same command goes on from there."""

METRICS_EVERY_STEPS = 50

Score = Callable[[np.ndarray, np.ndarray, np.ndarray], float]
"""scores_NC, targets_NC, known_NC -> higher is better, e.g. mean average precision."""
OnMetrics = Callable[[dict[str, float], int], None]
"""(name -> number, optimiser step they belong to)."""


@dataclass(frozen=True)
class TrainingResult:
    """The best epoch of a run.

    raw_state, ema_state: weights and buffers on the CPU; ema_state is None without EMA.
    kind: which of the two scored better, "raw" or "ema".
    best_score: its validation score; -inf when nothing could be measured.  best_epoch: counted from 0.
    history: a row an epoch with epoch, loss, lr, val_raw, val_ema (None: not measured); follows from the inputs alone.
    speed: a row an epoch that this process ran: images_per_s and data_wait_share, the share of the time spent waiting
        for the loader. Wall time, so it is kept apart from the history.
    """

    raw_state: dict[str, Tensor]
    ema_state: dict[str, Tensor] | None
    kind: str
    best_score: float
    best_epoch: int
    history: list[dict[str, Any]]
    speed: list[dict[str, float]]

    @property
    def state(self) -> dict[str, Tensor]:
        """The weights that `kind` names."""
        return self.ema_state if self.kind == "ema" else self.raw_state


@dataclass(frozen=True)
class TrainingData:
    """train: with labels.  val: picks the best epoch; None keeps the last, as EMA when there is one.

    unlabelled: what a method of tasks/training/semi draws from.  replicas: how often each train image is drawn in an
    epoch; None: once.
    """

    train: ImageSet
    val: ImageSet | None = None
    unlabelled: ImageSet | None = None
    replicas: Replicas | None = None


@dataclass(frozen=True)
class Surroundings:
    """Where a run takes place; nothing here changes a number, but for the device's last bits.

    checkpoint_dir: its state; the checkpoints stay, `checkpoint.remove` them once the result is written.
    on_metrics: called in the first process alone.  device: the best there is when None.  num_workers: loader processes.
    """

    checkpoint_dir: Path
    on_metrics: OnMetrics | None = None
    device: torch.device | None = None
    num_workers: int = 0


def train(
    model: nn.Module,
    loss: nn.Module,
    data: TrainingData,
    settings: TrainingSettings,
    *,
    seed: int,
    surroundings: Surroundings,
    semi: SemiMethod | None = None,
    score: Score = mean_average_precision,
) -> TrainingResult:
    """Train `model` in place and return the weights of its best epoch; goes on from the last checkpoint where it can.

    model: uint8 (B, 3, H, W) -> logits (B, C). Initialise it from a seed: a checkpoint is recognised by the initial
    weights among other things.  loss: a MultiLabelLoss.
    semi: learns from `data.unlabelled`; None trains on labelled images alone.
    score: measures the validation scores of raw and of EMA weights.
    Raises ParamsError when `semi` cannot work with these images and settings; NonFiniteLossError; SystemExit(143) after
    SIGTERM, with the state saved; ModelError when the images cannot be shared among the processes.
    """
    _check_options(data, settings, semi)
    device = surroundings.device or default_device()
    world = join(device)
    with _deterministic(device), _termination() as terminated:
        plan = StepPlan(
            len(data.train),
            batch_size=settings.batch_size,
            accumulate=settings.accumulate,
            epochs=settings.epochs,
            seed=seed,
            replicas=data.replicas,
            num_processes=world.size,
        )
        stepper = build_stepper(model, loss, settings, seed=seed, device=device, world=world, semi=semi)
        run = _resumed_run(stepper, plan, data, surroundings.checkpoint_dir)
        now, num_workers = run.now, surroundings.num_workers
        steps = _steps(run, plan, data, num_workers)
        losses = LateLosses(data.train.image_ids)
        publish = surroundings.on_metrics if surroundings.on_metrics and world.is_main else _ignore
        speed = []
        with Progress(plan.num_steps, done=now.num_steps, shown=world.is_main) as progress:
            while now.epoch < settings.epochs and not now.stopped:
                _start_epoch(run, data.unlabelled, num_workers)
                steps_of_epoch = itertools.islice(steps, plan.steps[now.epoch] - now.step)
                speed.append(_train_epoch(run, steps_of_epoch, losses, terminated, progress, publish))
                row = run.finish_epoch(*_validate(stepper, data.val, score, num_workers))
                run.save()
                progress.say(_summary(row, speed[-1]))
                metrics = {name: v for name, v in {**row, **speed[-1]}.items() if name != "epoch" and v is not None}
                publish(metrics, now.num_steps)
        if world.sum(torch.tensor(float(terminated.is_set()), device=device)) > 0:  # during the last validation
            raise SystemExit(EXIT_TERMINATED)
        return _result(run, speed)


def _check_options(data: TrainingData, settings: TrainingSettings, semi: SemiMethod | None) -> None:
    """Say which options have no effect; raise ParamsError where `semi` cannot work."""
    if data.val is None and (settings.early_stopping.rule != "none" or settings.schedule.name == "plateau"):
        logger.warning("there is no validation set: early stopping and the plateau schedule have no effect")
    if semi is not None:
        check_semi(semi, data.unlabelled, has_ema=settings.ema.enabled)
        semi.attach(data.train, data.unlabelled)


def _resumed_run(stepper: Stepper, plan: StepPlan, data: TrainingData, folder: Path) -> Run:
    """The run at its last checkpoint, or at its beginning."""
    settings = stepper.settings
    schedule = settings.schedule.build(
        SCHEDULES, where="schedule", num_steps=plan.num_steps, steps_per_epoch=plan.steps[0]
    )
    stopping = STOPPING_RULES[settings.early_stopping.rule](settings.early_stopping.patience)
    fingerprint = _fingerprint(stepper, plan, data.train, data.val, data.unlabelled)
    run = Run(stepper, schedule, stopping, Path(folder), fingerprint)
    run.resume()
    return run


def _steps(run: Run, plan: StepPlan, data: TrainingData, num_workers: int) -> Iterator[Step]:
    """All steps from where the run stands to its end."""
    stepper = run.stepper
    loading = {
        "augment": stepper.settings.augment,
        "cursor": (run.now.epoch, run.now.step),
        "rank": stepper.world.rank,
        "num_workers": num_workers,
        "pin_memory": stepper.device.type == "cuda",
    }
    steps = training_batches(data.train, plan, **loading)
    if stepper.semi is not None:
        steps = with_unlabelled(steps, stepper.semi, data.train, data.unlabelled, plan, **loading)
    return steps


def _start_epoch(run: Run, unlabelled: ImageSet | None, num_workers: int) -> None:
    """Let the semi-supervised method score its images; later in an epoch the checkpoint remembers what it decided."""
    stepper = run.stepper
    if stepper.semi is not None and run.now.step == 0:
        teacher = stepper.model if stepper.ema is None else stepper.ema.module
        stepper.semi.start_epoch(run.now.epoch, partial(_scores, stepper, teacher, unlabelled, num_workers))


def _train_epoch(
    run: Run,
    steps: Iterator[Step],
    losses: LateLosses,
    terminated: threading.Event,
    progress: Progress,
    publish: OnMetrics,
) -> dict[str, float]:
    """Take the remaining steps of an epoch. Returns its speed. Raises SystemExit, the state saved, after SIGTERM."""
    now, stepper, settings = run.now, run.stepper, run.stepper.settings
    stepper.loss.start_epoch(now.epoch)
    num_images, waited, began = 0, 0.0, time.perf_counter()
    while True:
        waiting_since = time.perf_counter()
        step = next(steps, None)
        waited += time.perf_counter() - waiting_since
        if step is None:
            break
        lr = settings.lr * follow(run.schedule, stepper.optimizer, step.number)
        loss = stepper(step)
        now.loss_sum += losses.resolve()
        losses.put(step, lr, loss, stop=stepper.world.sum(loss.new_tensor(float(terminated.is_set()))))
        now.step, now.num_steps = now.step + 1, now.num_steps + 1
        num_images += len(step.rows)
        progress.advance(step.epoch, len(step.rows), losses.last)
        if now.num_steps % METRICS_EVERY_STEPS == 0:
            publish({"step/loss": losses.last, "step/lr": lr}, now.num_steps - 1)  # the loss is that of the step before
        if losses.stop or now.num_steps % settings.checkpoint_every_steps == 0:
            now.loss_sum += losses.resolve()
            run.save()
        if losses.stop:
            raise SystemExit(EXIT_TERMINATED)
    now.loss_sum += losses.resolve()
    elapsed = max(time.perf_counter() - began, 1e-9)
    return {"images_per_s": num_images / elapsed, "data_wait_share": waited / elapsed}


def _result(run: Run, speed: list[dict[str, float]]) -> TrainingResult:
    """The weights of the best epoch, in every process."""
    now, world = run.now, run.stepper.world
    world.barrier()  # the first process wrote what all read now, and may delete it after the second barrier
    raw_state, ema_state = run.best_weights()
    world.barrier()
    return TrainingResult(raw_state, ema_state, now.best_kind, now.best_score, now.best_epoch, now.history, speed)


def _fingerprint(stepper: Stepper, plan: StepPlan, *sets: ImageSet | None) -> str:
    """Hash of all that the result follows from; of the pixels, those of a few images."""
    data = [fact for images in filter(None, sets) for fact in images.facts()]
    layers = re.sub(r" at 0x[0-9a-f]+", "", repr(stepper.trained))  # dropout, strides: what the weights do not show
    learned = [group["names"] for group in stepper.optimizer.param_groups]
    groups = stepper.loss.softmax_groups, getattr(stepper.semi, "groups", None)
    return checkpoint.fingerprint(
        stepper.settings, stepper.seed, plan.steps, plan.copies(0), layers, learned, groups, *data,
        *stepper.trained.state_dict().values(),
    )  # fmt: skip


def _validate(
    stepper: Stepper, val_set: ImageSet | None, score: Score, num_workers: int
) -> tuple[float | None, float | None]:
    """Scores of the raw and of the averaged weights; None where there is nothing to measure."""
    if val_set is None:
        return None, None

    def score_of(model: nn.Module) -> float:
        scores_NC = _scores(stepper, model, val_set, num_workers)
        return float(score(scores_NC, val_set.targets_NC, val_set.known_NC))

    return score_of(stepper.model), None if stepper.ema is None else score_of(stepper.ema.module)


def _scores(stepper: Stepper, model: nn.Module, images: ImageSet, num_workers: int) -> np.ndarray:
    """float32 (N, C)."""
    return infer(
        model,
        images,
        batch_size=stepper.settings.batch_size,
        device=stepper.device,
        precision=stepper.settings.precision,
        num_workers=num_workers,
        world=stepper.world,
    ).scores_NC


def _summary(row: dict[str, Any], speed: dict[str, float]) -> str:
    scores = [f"{kind} {row[f'val_{kind}']:.4f}" for kind in ("raw", "ema") if row[f"val_{kind}"] is not None]
    return ", ".join(
        [f"epoch {row['epoch']}: loss {row['loss']:.4f}", *scores, f"{speed['images_per_s']:.1f} images/s"]
    )


def _ignore(metrics: dict[str, float], step: int) -> None:
    """Metrics that nobody records."""


@contextmanager
def _deterministic(device: torch.device) -> Iterator[None]:
    """On a CPU: refuse kernels that do not repeat themselves. On CUDA some layers have no other kernel."""
    before, filled = torch.are_deterministic_algorithms_enabled(), torch.utils.deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(before or device.type == "cpu")
    torch.utils.deterministic.fill_uninitialized_memory = False  # costs time and hides nothing here
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
        torch.utils.deterministic.fill_uninitialized_memory = filled


@contextmanager
def _termination() -> Iterator[threading.Event]:
    """An event that SIGTERM sets within the block; never set outside the main thread, where no handler is allowed."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    before = signal.signal(signal.SIGTERM, lambda *_: event.set())
    try:
        yield event
    finally:
        signal.signal(signal.SIGTERM, before)
