"""Losses read one step late, so that no accelerator is waited for."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from tasks.core.errors import NonFiniteLossError
from tasks.training.data import Step

logger = logging.getLogger(__name__)

SHOWN_IDS = 16
"""Image ids that a message lists; the log has all."""


class LateLosses:
    """Losses, and whether to stop, read one step late: by then the numbers are there and no accelerator is waited for.

    last: the loss read last.  stop: some process has received SIGTERM; all learn of it at the same step.
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
        """The loss put last, 0 when it has been read already. Raises NonFiniteLossError."""
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
