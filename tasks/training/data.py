"""Images with labels, the plan of which image stands in which step, and the loader that follows the plan.

Axes: N images, M draws of an epoch (images with repetitions), C labels, B a batch, H W pixels.

Everything random is a function of (seed, epoch, image, copy). Hence the number of loader workers, of processes and of
micro-batches changes no pixel, and any step can be the first one of a resumed run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from tasks.core.errors import ModelError, TableError
from tasks.core.interrupts import leave_group
from tasks.training import seeds
from tasks.training.augment import Policy

FINGERPRINTED_IMAGES = 16

Replicas = Callable[[int], np.ndarray]
"""epoch -> int (N,): how often each image is drawn in that epoch; 0 leaves it out."""


@dataclass(frozen=True)
class ImageSet:
    """N images as a model takes them, with labels where there are any.

    reader: len(), [i] -> uint8 (H, W, 3), and positions(image ids) -> int64, -1 for one that it lacks (a ShardReader).
    An array that it may give again is read-only.
    image_px: (height, width) after resizing.  resize: stretch | letterbox | crop.
    targets_NC: uint8 {0, 1}.  known_NC: bool; where False the target means nothing.
    Raises TableError when an image is not in the reader or the shapes disagree.
    """

    reader: Any
    image_ids: Sequence[str]
    image_px: tuple[int, int]
    resize: str = "stretch"
    targets_NC: np.ndarray | None = None
    known_NC: np.ndarray | None = None

    def __post_init__(self) -> None:
        missing = np.flatnonzero(self.position_N < 0)
        if len(missing):
            raise TableError(
                f"shards: {len(missing)} of {len(self.image_ids)} images are missing, "
                f"e.g. '{self.image_ids[missing[0]]}'. Run `dvc repro shard`."
            )
        for matrix in (self.targets_NC, self.known_NC):
            if matrix is not None and len(matrix) != len(self.image_ids):
                raise TableError(f"labels: {len(matrix)} rows for {len(self.image_ids)} images.")

    @cached_property
    def position_N(self) -> np.ndarray:
        """int64 (N,), where each image stands in the reader."""
        return self.reader.positions(self.image_ids)

    def __len__(self) -> int:
        return len(self.image_ids)

    def take(self, rows: Sequence[int]) -> ImageSet:
        """The images at these positions, with their labels."""
        matrices = {n: m if m is None else m[rows] for n, m in vars(self).items() if n in ("targets_NC", "known_NC")}
        return replace(self, image_ids=[self.image_ids[i] for i in rows], **matrices)

    def facts(self) -> list:
        """What a result follows from, to be hashed; of the pixels, those of a few images."""
        pixels = [self.image(i) for i in range(0, len(self), -(-len(self) // FINGERPRINTED_IMAGES))]
        return [list(self.image_ids), self.image_px, self.resize, self.targets_NC, self.known_NC, *pixels]

    def image(self, i: int) -> Tensor:
        """Image i as stored, uint8 (3, H, W), before resizing.

        A view of (H, W, 3) memory of its own: Pillow resizes that as it lies, and `augment.resize` transposes the
        small result.
        """
        pixels_HWC = self.reader[self.position_N[i]]
        return torch.from_numpy(np.require(pixels_HWC, requirements="W")).permute(2, 0, 1)


class Draw(NamedTuple):
    """One use of one image: the `copy`-th of `epoch`."""

    epoch: int
    image: int
    copy: int


class StepPlan:
    """Which draws make up each optimiser step of a run, the same for any number of processes and micro-batches.

    An epoch is a seeded permutation of its M draws, cut into ceil(M / batch_size) steps whose sizes differ by at most
    one: every draw is used exactly once and no step is a small remainder (which BatchNorm would suffer from).
    A step is cut into `accumulate` micro-batches and each of those is dealt to the processes in turn.
    """

    def __init__(
        self,
        num_images: int,
        *,
        batch_size: int,
        accumulate: int,
        epochs: int,
        seed: int,
        replicas: Replicas | None = None,
        num_processes: int = 1,
    ) -> None:
        self.num_images, self.batch_size, self.accumulate = num_images, batch_size, accumulate
        self.epochs, self.seed, self.replicas, self.num_processes = epochs, seed, replicas, num_processes
        self._orders: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        num_draws = [int(self.copies(e).sum()) for e in range(epochs)]
        if 0 in num_draws:
            raise ModelError(f"training: epoch {num_draws.index(0)} has no images. Check the split and the resampling.")
        self.steps = [-(-m // batch_size) for m in num_draws]
        """Steps of each epoch."""
        smallest = min(m // s for m, s in zip(num_draws, self.steps, strict=True))
        if smallest // min(accumulate, smallest) < num_processes:
            raise ModelError(
                f"training: a step of {smallest} images in {accumulate} micro-batches cannot be shared by "
                f"{num_processes} processes. Raise batch_size, lower accumulate or start fewer processes."
            )

    @property
    def num_steps(self) -> int:
        """Steps of the whole run."""
        return sum(self.steps)

    def number(self, epoch: int, step: int) -> int:
        """A step of an epoch, counted from 0 over the run."""
        return sum(self.steps[:epoch]) + step

    def copies(self, epoch: int) -> np.ndarray:
        """How often each image is drawn in `epoch`, int64 (N,)."""
        if self.replicas is None:
            return np.ones(self.num_images, np.int64)
        copies = np.asarray(self.replicas(epoch))
        assert copies.shape == (self.num_images,), copies.shape
        return copies

    def _order(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Image and copy of each draw of `epoch` in order; two int64 (M,)."""
        if epoch not in self._orders:
            # The loader reads ahead into the next epoch while the loop is still in this one: keep two.
            self._orders = {e: order for e, order in self._orders.items() if e == epoch - 1}
            copies = self.copies(epoch)
            image_M = np.repeat(np.arange(self.num_images), copies)
            first_of_image = np.cumsum(copies) - copies
            copy_M = np.arange(len(image_M)) - np.repeat(first_of_image, copies)
            generator = seeds.generator(self.seed, seeds.ORDER, epoch)
            order = torch.randperm(len(image_M), generator=generator).numpy()
            self._orders[epoch] = (image_M[order], copy_M[order])
        return self._orders[epoch]

    def micro_batches(self, epoch: int, step: int) -> list[list[Draw]]:
        """The draws of one step over all processes, as a list of micro-batches."""
        image_M, copy_M = self._order(epoch)
        part = part_of(len(image_M), self.steps[epoch], step)
        draws = [Draw(epoch, int(i), int(c)) for i, c in zip(image_M[part], copy_M[part], strict=True)]
        count = min(self.accumulate, len(draws))
        return [draws[part_of(len(draws), count, i)] for i in range(count)]

    def cursors(self, epoch: int = 0, step: int = 0) -> Iterator[tuple[int, int]]:
        """(epoch, step) from the given one to the end of the run."""
        for e in range(epoch, self.epochs):
            for s in range(step if e == epoch else 0, self.steps[e]):
                yield e, s


def part_of(length: int, num_parts: int, i: int) -> slice:
    """Part i of `length` items cut into `num_parts` whose sizes differ by at most one."""
    return slice(i * length // num_parts, (i + 1) * length // num_parts)


@dataclass(frozen=True)
class Extra:
    """Views beside the labelled images of a micro-batch, for a method of tasks/training/semi.

    images_XCHW: uint8 in [0, 255].  rows_U: int64, place of each unlabelled image in its set; stays on the CPU.
    """

    images_XCHW: Tensor
    rows_U: Tensor


@dataclass(frozen=True)
class Batch:
    """One micro-batch of this process. images_BCHW uint8 in [0, 255], targets_BC float32 {0, 1}, known_BC bool."""

    images_BCHW: Tensor
    targets_BC: Tensor
    known_BC: Tensor
    extra: Extra | None = None

    def to(self, device: torch.device, memory_format: torch.memory_format) -> Batch:
        def pixels(images: Tensor) -> Tensor:
            return images.to(device, non_blocking=True, memory_format=memory_format)

        return Batch(
            pixels(self.images_BCHW),
            self.targets_BC.to(device, non_blocking=True),
            self.known_BC.to(device, non_blocking=True),
            self.extra and replace(self.extra, images_XCHW=pixels(self.extra.images_XCHW)),
        )


@dataclass(frozen=True)
class Step:
    """One optimiser step: this process's micro-batches, and facts about the whole of it over all processes.

    number: counted from 0 over the run.  rows: position of each image in the set.  num_known: known labels.
    unlabelled_rows: position of each unlabelled image in the set of those.
    """

    epoch: int
    number: int
    batches: list[Batch]
    rows: list[int]
    num_known: int
    unlabelled_rows: list[int] = field(default_factory=list)


class _AugmentedImages(torch.utils.data.Dataset):
    """Draw -> uint8 (3, H, W)."""

    def __init__(self, images: ImageSet, policy: Policy, seed: int) -> None:
        self.images, self.policy, self.seed = images, policy, seed

    def __getitem__(self, draw: Draw) -> Tensor:
        generator = seeds.generator(self.seed, seeds.AUGMENT, *draw)
        return self.policy(self.images.image(draw.image), generator)


class _LocalBatches:
    """The draws of this process, micro-batch by micro-batch, from a cursor to the end of the run."""

    def __init__(self, plan: StepPlan, cursor: tuple[int, int], rank: int) -> None:
        self.plan, self.cursor, self.rank = plan, cursor, rank

    def __iter__(self) -> Iterator[list[Draw]]:
        for epoch, step in self.plan.cursors(*self.cursor):
            for micro_batch in self.plan.micro_batches(epoch, step):
                yield micro_batch[self.rank :: self.plan.num_processes]


def training_batches(
    images: ImageSet,
    plan: StepPlan,
    *,
    augment: Sequence[Mapping[str, Any]],
    cursor: tuple[int, int] = (0, 0),
    rank: int = 0,
    num_workers: int = 0,
    pin_memory: bool = False,
) -> Iterator[Step]:
    """One step after another, from `cursor` (epoch, step of the epoch) to the end of the run.

    One loader serves all epochs, so its workers start once and keep decoding across the end of an epoch.
    augment: the policy as it stands in params.  num_workers: loader processes; 0 decodes in this one.
    """
    targets_NC, known_NC = images.targets_NC, images.known_NC
    assert targets_NC is not None, "training needs labels"
    assert known_NC is not None, "training needs to know which labels are known"
    loader = torch.utils.data.DataLoader(
        _AugmentedImages(images, Policy(augment, image_px=images.image_px, resize=images.resize), plan.seed),
        batch_sampler=_LocalBatches(plan, cursor, rank),
        collate_fn=torch.stack,
        num_workers=num_workers,
        worker_init_fn=leave_group,
        pin_memory=pin_memory,
    )
    pixels = iter(loader)
    for epoch, step in plan.cursors(*cursor):
        rows, batches = [], []
        for micro_batch in plan.micro_batches(epoch, step):
            everyones = [draw.image for draw in micro_batch]
            ours = everyones[rank :: plan.num_processes]
            targets = torch.from_numpy(targets_NC[ours].astype(np.float32))
            batches.append(Batch(next(pixels), targets, torch.from_numpy(known_NC[ours])))
            rows += everyones
        yield Step(epoch, plan.number(epoch, step), batches, rows, int(known_NC[rows].sum()))


class _ResizedImages(torch.utils.data.Dataset):
    """i -> uint8 (3, H, W) without augmentation."""

    def __init__(self, images: ImageSet) -> None:
        self.images, self.policy = images, Policy([], image_px=images.image_px, resize=images.resize)

    def __getitem__(self, i: int) -> Tensor:
        return self.policy(self.images.image(i), torch.Generator())


def inference_batches(
    images: ImageSet, rows: Sequence[int], *, batch_size: int, num_workers: int = 0, pin_memory: bool = False
) -> Iterator[Tensor]:
    """uint8 (B, 3, H, W) of `rows` in order, not augmented."""
    yield from torch.utils.data.DataLoader(
        _ResizedImages(images),
        batch_sampler=[rows[i : i + batch_size] for i in range(0, len(rows), batch_size)],
        collate_fn=torch.stack,
        num_workers=num_workers,
        worker_init_fn=leave_group,
        pin_memory=pin_memory,
    )
