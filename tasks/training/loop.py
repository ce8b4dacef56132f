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
import math
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tasks.core.errors import NonFiniteLossError
from tasks.training import SCHEDULES, STOPPING_RULES, checkpoint
from tasks.training.data import ImageSet, Replicas, Step, StepPlan, training_batches
from tasks.training.distributed import default_device, join
from tasks.training.inference import infer
from tasks.training.optim import follow
from tasks.training.progress import Progress
from tasks.training.run import Run
from tasks.training.semi.base import SemiMethod, check_semi
from tasks.training.semi.stream import with_unlabelled
from tasks.training.settings import TrainingSettings
from tasks.training.step import Stepper, build_stepper

logger = logging.getLogger(__name__)

EXIT_TERMINATED = 143
"""Exit status after SIGTERM: the state is saved, the same command goes on from there. torchrun itself exits with 1."""

METRICS_EVERY_STEPS = 50
SHOWN_IDS = 16
FINGERPRINTED_IMAGES = 16

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


def train(
    model: nn.Module,
    loss: nn.Module,
    train_set: ImageSet,
    val_set: ImageSet | None,
    settings: TrainingSettings,
    *,
    score: Score,
    seed: int,
    checkpoint_dir: Path,
    on_metrics: OnMetrics | None = None,
    replicas: Replicas | None = None,
    device: torch.device | None = None,
    num_workers: int = 0,
    semi: SemiMethod | None = None,
    unlabelled: ImageSet | None = None,
) -> TrainingResult:
    """Train `model` in place and return the weights of its best epoch; goes on from `checkpoint_dir` where it can.

    model: uint8 (B, 3, H, W) -> logits (B, C). Initialise it from a seed: a checkpoint is recognised by the initial
    weights among other things.  loss: a MultiLabelLoss.  val_set: None keeps the last epoch, as EMA when there is one.
    score: judges the validation scores of raw and of EMA weights.  on_metrics: called in the first process alone.
    num_workers: loader processes.
    semi: learns from `unlabelled`, the images that it `draws_from`; None trains on labelled images alone.
    The checkpoints stay; `checkpoint.remove` them once the result is written.
    Raises ParamsError when `semi` cannot work with these images and settings; NonFiniteLossError; SystemExit(143) after
    SIGTERM, with the state saved; ModelError when the images cannot be shared among the processes.
    """
    if val_set is None and (settings.early_stopping.rule != "none" or settings.schedule.name == "plateau"):
        logger.warning("there is no validation set: early stopping and the plateau schedule have no effect")
    if semi is not None:
        check_semi(semi, unlabelled, has_ema=settings.ema.enabled)
        semi.attach(train_set, unlabelled)
    device = device or default_device()
    world = join(device)
    with _deterministic(device), _termination() as terminated:
        plan = StepPlan(
            len(train_set),
            batch_size=settings.batch_size,
            accumulate=settings.accumulate,
            epochs=settings.epochs,
            seed=seed,
            replicas=replicas,
            num_processes=world.size,
        )
        schedule = settings.schedule.build(
            SCHEDULES, where="schedule", num_steps=plan.num_steps, steps_per_epoch=plan.steps[0]
        )
        stopping = STOPPING_RULES[settings.early_stopping.rule](settings.early_stopping.patience)
        stepper = build_stepper(model, loss, settings, seed=seed, device=device, world=world, semi=semi)
        fingerprint = _fingerprint(stepper, plan, train_set, val_set, unlabelled)
        run = Run(stepper, schedule, stopping, Path(checkpoint_dir), fingerprint)
        run.resume()
        now = run.now
        loading = {
            "augment": settings.augment,
            "cursor": (now.epoch, now.step),
            "rank": world.rank,
            "num_workers": num_workers,
            "pin_memory": device.type == "cuda",
        }
        steps = training_batches(train_set, plan, **loading)
        if semi is not None:
            steps = with_unlabelled(steps, semi, train_set, unlabelled, plan, **loading)
        losses = _LateLosses(train_set.image_ids)
        publish = on_metrics if on_metrics and world.is_main else _keep_quiet
        speed = []
        with Progress(plan.num_steps, done=now.num_steps, shown=world.is_main) as progress:
            while now.epoch < settings.epochs and not now.stopped:
                if semi is not None and now.step == 0:  # later in an epoch the checkpoint remembers what it decided
                    teacher = stepper.model if stepper.ema is None else stepper.ema.module
                    semi.start_epoch(now.epoch, partial(_scores, stepper, teacher, unlabelled, num_workers))
                steps_of_epoch = itertools.islice(steps, plan.steps[now.epoch] - now.step)
                speed.append(_train_epoch(run, steps_of_epoch, losses, terminated, progress, publish))
                row = run.finish_epoch(*_validate(stepper, val_set, score, num_workers))
                run.save()
                progress.say(_sentence(row, speed[-1]))
                metrics = {name: v for name, v in {**row, **speed[-1]}.items() if name != "epoch" and v is not None}
                publish(metrics, now.num_steps)
        if world.sum(torch.tensor(float(terminated.is_set()), device=device)) > 0:  # while the last epoch was judged
            raise SystemExit(EXIT_TERMINATED)
        world.barrier()  # the first process wrote what all read now, and may delete it after the second barrier
        raw_state, ema_state = run.best_weights()
        world.barrier()
        return TrainingResult(raw_state, ema_state, now.best_kind, now.best_score, now.best_epoch, now.history, speed)


def _train_epoch(
    run: Run,
    steps: Iterator[Step],
    losses: _LateLosses,
    terminated: threading.Event,
    progress: Progress,
    publish: OnMetrics,
) -> dict[str, float]:
    """Take the remaining steps of an epoch. Returns its speed. Raises SystemExit, the state saved, after SIGTERM."""
    now, stepper, settings = run.now, run.stepper, run.stepper.settings
    stepper.loss.start_epoch(now.epoch)
    num_images, waited, began = 0, 0.0, time.perf_counter()
    while True:
        asked = time.perf_counter()
        step = next(steps, None)
        waited += time.perf_counter() - asked
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


class _LateLosses:
    """Losses, and whether to stop, read one step late: by then the numbers are there and no accelerator is waited for.

    last: the loss read last.  stop: some process has been told to terminate; all learn of it at the same step.
    """

    def __init__(self, image_ids: Sequence[str]) -> None:
        self.last, self.stop = math.nan, False
        self._image_ids = image_ids
        self._waiting: tuple[Step, float, Tensor, torch.cuda.Event | None] | None = None

    def put(self, step: Step, lr: float, loss: Tensor, *, stop: Tensor) -> None:
        """Start fetching the numbers of a step."""
        numbers = torch.stack([loss, stop]).to("cpu", non_blocking=True)
        arrived = None
        if loss.is_cuda:
            arrived = torch.cuda.Event()
            arrived.record()
        self._waiting = (step, lr, numbers, arrived)

    def resolve(self) -> float:
        """The loss put last, 0 when it has been settled already. Raises NonFiniteLossError."""
        if self._waiting is None:
            return 0.0
        (step, lr, numbers, arrived), self._waiting = self._waiting, None
        if arrived is not None:
            arrived.synchronize()
        self.last, stop = numbers.tolist()
        self.stop = self.stop or stop > 0
        if not math.isfinite(self.last):
            ids = [self._image_ids[row] for row in step.rows]
            logger.error("images of step %d: %s", step.number, ", ".join(ids))
            more = f", … ({len(ids)} in all, see the log)" if len(ids) > SHOWN_IDS else ""
            raise NonFiniteLossError(
                f"training: the loss is {self.last} at step {step.number} (epoch {step.epoch}), learning rate "
                f"{lr:.3g}; images: {', '.join(ids[:SHOWN_IDS])}{more}. Lower lr, or look at these images; with fp16, "
                "try bf16 or fp32."
            )
        return self.last


def _fingerprint(stepper: Stepper, plan: StepPlan, *sets: ImageSet | None) -> str:
    """Hash of all that the result follows from; of the pixels, those of a few images."""
    data = []
    for images in filter(None, sets):
        data += [list(images.image_ids), images.image_px, images.resize, images.targets_NC, images.known_NC]
        data += [images.image(i) for i in range(0, len(images), -(-len(images) // FINGERPRINTED_IMAGES))]
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


def _sentence(row: dict[str, Any], speed: dict[str, float]) -> str:
    scores = [f"{kind} {row[f'val_{kind}']:.4f}" for kind in ("raw", "ema") if row[f"val_{kind}"] is not None]
    return ", ".join(
        [f"epoch {row['epoch']}: loss {row['loss']:.4f}", *scores, f"{speed['images_per_s']:.1f} images/s"]
    )


def _keep_quiet(metrics: dict[str, float], step: int) -> None:
    """Where nobody asked for metrics."""


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
    """An event that SIGTERM sets within the block; never set outside the main thread, where no handler may stand."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    before = signal.signal(signal.SIGTERM, lambda *_: event.set())
    try:
        yield event
    finally:
        signal.signal(signal.SIGTERM, before)
