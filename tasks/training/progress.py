"""How far a run is: a bar with images/s and time left on a terminal, log lines elsewhere."""

from __future__ import annotations

import logging
import math
import sys
import time

from tasks.core.formatting import duration

logger = logging.getLogger(__name__)

LOG_EVERY_S = 10.0
TIMED_STEPS = 5
"""After so many, and a first one that warms up, the time that is left is said."""


class Progress:
    """Use as a context manager; `advance` after each step, `say` for a line that stays.

    num_steps, done: optimiser steps of the run, and those already done by an earlier process.
    shown: False in all processes but the first.
    """

    def __init__(self, num_steps: int, *, done: int = 0, shown: bool = True) -> None:
        self.num_steps, self.done = num_steps, done
        self._shown, self._bar, self._task = shown, None, None
        self._images, self._since, self._logged = 0, time.monotonic(), time.monotonic()
        self._steps, self._warm = 0, math.nan  # of this process; when its first one was done

    def __enter__(self) -> Progress:
        if self._shown and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            columns = ["{task.description}", BarColumn(), MofNCompleteColumn(), "{task.fields[speed]}"]
            columns = [TextColumn(c) if isinstance(c, str) else c for c in columns]
            self._bar = Bar(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True)
            self._bar.start()
            self._task = self._bar.add_task("training", total=self.num_steps, completed=self.done, speed="")
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def advance(self, epoch: int, num_images: int, loss: float) -> None:
        """One more step of `epoch` is done.  loss: NaN when it is not known yet."""
        self.done += 1
        self._steps += 1
        self._images += num_images
        now = time.monotonic()
        if self._steps == 1:
            self._warm = now
        speed = self._images / max(now - self._since, 1e-9)
        shown_loss = "" if math.isnan(loss) else f" loss {loss:.4f}"
        if self._bar is not None:
            self._bar.update(
                self._task, advance=1, description=f"epoch {epoch}{shown_loss}", speed=f"{speed:.1f} images/s"
            )
        elif self._shown and (now - self._logged >= LOG_EVERY_S or self._steps == TIMED_STEPS + 1):
            self._logged = now
            step_s = (now - self._warm) / (self._steps - 1) if self._steps > 1 else now - self._since
            left = (self.num_steps - self.done) * step_s
            logger.info(
                "step %d of %d (epoch %d)%s, %.1f images/s, about %s left",
                self.done, self.num_steps, epoch, shown_loss, speed, duration(left),
            )  # fmt: skip

    def say(self, text: str) -> None:
        """A line above the bar, or in the log."""
        if not self._shown:
            return
        if self._bar is not None:
            self._bar.console.print(text, highlight=False, markup=False)
        else:
            logger.info("%s", text)
