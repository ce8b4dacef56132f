"""Requests that arrive together share one pass of the network."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

Score = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
"""uint8 (B, H, W, 3) -> scores (B, C), decisions (B, C)."""


class _Waiting(NamedTuple):
    pixels_HWC: np.ndarray
    result: asyncio.Future


class MicroBatcher:
    """Collects images for at most `max_wait_s`, or until there are `max_batch`, and scores them in a thread of its own.

    While one batch is scored the next one fills, so that under load batches are full and nobody waits for the clock.
    Use as an async context manager: leaving it scores what is still waiting.
    """

    def __init__(self, score: Score, *, max_batch: int = 16, max_wait_s: float = 0.003) -> None:
        self._score, self._max_batch, self._max_wait_s = score, max_batch, max_wait_s
        self._queue: asyncio.Queue[_Waiting | None] = asyncio.Queue()
        self._thread = ThreadPoolExecutor(1, "network")
        self.num_batches = self.num_images = 0

    async def __aenter__(self) -> MicroBatcher:
        self._worker = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_) -> None:
        self._queue.put_nowait(None)
        await self._worker
        self._thread.shutdown()

    async def __call__(self, pixels_HWC: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Scores (C,) and decisions (C,) of one image. Raises what the network raised."""
        waiting = _Waiting(pixels_HWC, asyncio.get_running_loop().create_future())
        self._queue.put_nowait(waiting)
        return await waiting.result

    async def _run(self) -> None:
        loop, closing = asyncio.get_running_loop(), False
        while not closing:
            batch, closing = await self._collect()
            batch = [item for item in batch if not item.result.cancelled()]  # whoever asked has hung up
            if not batch:
                continue
            images_BHWC = np.stack([item.pixels_HWC for item in batch])
            try:
                rows = list(zip(*await loop.run_in_executor(self._thread, self._score, images_BHWC), strict=True))
            except Exception as error:  # raised for everyone in the batch; the next batch starts afresh
                for item in batch:
                    if not item.result.done():
                        item.result.set_exception(error)
                continue
            self.num_batches += 1
            self.num_images += len(batch)
            for item, row in zip(batch, rows, strict=True):
                if not item.result.done():
                    item.result.set_result(row)

    async def _collect(self) -> tuple[list[_Waiting], bool]:
        """The next batch, and whether it is the last one."""
        batch, deadline = [await self._queue.get()], asyncio.get_running_loop().time() + self._max_wait_s
        while batch[-1] is not None and len(batch) < self._max_batch:
            try:
                async with asyncio.timeout_at(deadline):
                    batch.append(await self._queue.get())
            except TimeoutError:
                break
        closing = batch[-1] is None
        return (batch[:-1] if closing else batch), closing
