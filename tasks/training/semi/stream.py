"""Unlabelled images beside the labelled ones: which stand in which step, and the views that a method looks at.

The stream is an endless series of seeded permutations of the unlabelled images, cut into steps of one size. Its place
follows from the number of the step, so any step can be the first one of a resumed run, and every number of processes
and micro-batches sees the same images.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from tasks.core.interrupts import leave_group
from tasks.core.states import States
from tasks.training import seeds
from tasks.training.augment import Policy
from tasks.training.data import Draw, Extra, ImageSet, Step, StepPlan, part_of
from tasks.training.semi.base import SemiMethod


def unlabelled_images(draws_from: str, train: States, pool: States) -> States:
    """What a method draws from, by its `draws_from`:

        unlabelled   train images without a known label, and the pool
        labelled     train images with a known label
        all          both; nothing when there is no unlabelled image

    A verdict on an image of the pool comes along.
    """
    if draws_from == "labelled":
        return train.take(train.has_known_labels())
    states_NC = np.concatenate([train.states_NC, pool.states_NC])
    together = States(train.image_ids + pool.image_ids, train.labels, states_NC)
    is_unlabelled = np.ones(len(together.image_ids), bool)
    is_unlabelled[train.has_known_labels()] = False
    drawn = is_unlabelled | (draws_from == "all" and is_unlabelled.any())
    return together.take(np.flatnonzero(drawn))


class UnlabelledStream:
    """Which unlabelled images stand in which step.

    num_images: N > 0.  per_step: images a step, over all processes and micro-batches.
    """

    def __init__(self, num_images: int, *, per_step: int, seed: int) -> None:
        self.num_images, self.per_step, self.seed = num_images, per_step, seed
        self._passes: dict[int, list[int]] = {}

    def _order(self, number: int) -> list[int]:
        """The images of a pass in order."""
        if number not in self._passes:
            self._passes = {n: order for n, order in self._passes.items() if n == number - 1}
            generator = seeds.generator(self.seed, seeds.UNLABELLED_ORDER, number)
            self._passes[number] = torch.randperm(self.num_images, generator=generator).tolist()
        return self._passes[number]

    def draws(self, step: int) -> list[Draw]:
        """The images of a step, counted from 0 over the run; `epoch` of a draw is the pass through the images."""
        places = range(step * self.per_step, (step + 1) * self.per_step)
        return [Draw(p // self.num_images, self._order(p // self.num_images)[p % self.num_images], 0) for p in places]


class _Image(NamedTuple):
    """An image to be looked at. labelled: of the labelled set, else of the unlabelled one."""

    labelled: bool
    draw: Draw


class _Views(torch.utils.data.Dataset):
    """An image -> its views, uint8 (V, 3, H, W)."""

    def __init__(
        self, method: SemiMethod, labelled: ImageSet, unlabelled: ImageSet, augment: Sequence[Mapping], seed: int
    ) -> None:
        self.method, self.labelled, self.unlabelled, self.seed = method, labelled, unlabelled, seed
        own = augment if method.augment is None else method.augment
        self.labelled_policy = Policy(augment, image_px=labelled.image_px, resize=labelled.resize)
        self.unlabelled_policy = Policy(own, image_px=unlabelled.image_px, resize=unlabelled.resize)

    def __getitem__(self, item: _Image) -> tuple[bool, Tensor]:
        draw = item.draw
        if item.labelled:  # the same weak view that the supervised loss sees
            again = seeds.generator(self.seed, seeds.AUGMENT, *draw)
            weak = self.labelled_policy(self.labelled.image(draw.image), again)
            generator = seeds.generator(self.seed, seeds.FURTHER_VIEW, *draw)
            return True, torch.stack(self.method.further_views(weak, generator))
        generator = seeds.generator(self.seed, seeds.UNLABELLED_VIEW, *draw)
        weak = self.unlabelled_policy(self.unlabelled.image(draw.image), generator)
        return False, torch.stack(self.method.views(weak, generator))

    def collate(self, items: list[tuple[bool, Tensor]]) -> Tensor:
        """Views of the labelled images, then of the unlabelled ones; of each, all first views first."""
        sets = [[views for of_labelled, views in items if of_labelled is labelled] for labelled in (True, False)]
        parts = [torch.stack(views).transpose(0, 1).flatten(0, 1) for views in sets if views]
        return torch.cat(parts) if parts else torch.empty(0, 3, *self.unlabelled.image_px, dtype=torch.uint8)


class _LocalViews:
    """What this process must make for each micro-batch from a cursor to the end of the run."""

    def __init__(
        self, method: SemiMethod, plan: StepPlan, stream: UnlabelledStream, cursor: tuple[int, int], rank: int
    ) -> None:
        self.method, self.plan, self.stream, self.cursor, self.rank = method, plan, stream, cursor, rank

    def __iter__(self) -> Iterator[list[_Image]]:
        every = self.plan.num_processes
        for epoch, step in self.plan.cursors(*self.cursor):
            if epoch < self.method.first_epoch:
                continue
            micro_batches = self.plan.micro_batches(epoch, step)
            draws = self.stream.draws(self.plan.number(epoch, step))
            for i, micro_batch in enumerate(micro_batches):
                labelled = micro_batch[self.rank :: every] if self.method.labelled_views else []
                unlabelled = draws[part_of(len(draws), len(micro_batches), i)][self.rank :: every]
                yield [*(_Image(True, d) for d in labelled), *(_Image(False, d) for d in unlabelled)]


def with_unlabelled(
    steps: Iterator[Step],
    method: SemiMethod,
    labelled: ImageSet,
    unlabelled: ImageSet,
    plan: StepPlan,
    *,
    augment: Sequence[Mapping[str, Any]],
    cursor: tuple[int, int] = (0, 0),
    rank: int = 0,
    num_workers: int = 0,
    pin_memory: bool = False,
) -> Iterator[Step]:
    """`steps` with the extra images of the method in each micro-batch, from the method's first epoch on.

    The arguments are those of `training_batches`, which made `steps`.
    """
    per_step = max(1, round(method.ratio * plan.batch_size))
    stream = UnlabelledStream(len(unlabelled), per_step=per_step, seed=plan.seed)
    dataset = _Views(method, labelled, unlabelled, augment, plan.seed)
    local = _LocalViews(method, plan, stream, cursor, rank)
    loader = torch.utils.data.DataLoader(
        dataset,
        batch_sampler=local,
        collate_fn=dataset.collate,
        num_workers=num_workers,
        worker_init_fn=leave_group,
        pin_memory=pin_memory,
    )
    views = iter(loader)
    for step in steps:
        if step.epoch < method.first_epoch:
            yield step
            continue
        rows = [draw.image for draw in stream.draws(step.number)]
        parts = [rows[part_of(len(rows), len(step.batches), i)] for i in range(len(step.batches))]
        batches = [
            replace(batch, extra=Extra(next(views), torch.tensor(part[rank :: plan.num_processes], dtype=torch.int64)))
            for batch, part in zip(step.batches, parts, strict=True)
        ]
        yield replace(step, batches=batches, unlabelled_rows=rows)
