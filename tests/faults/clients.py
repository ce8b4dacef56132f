"""Honest clients beside slow ones: every honest request is answered with 200, whatever the slow ones hold open.

python -m tests.faults --clients 200 300 60     honest, slow, seconds
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tasks.export.runtime import Predictor
from tasks.export.service import Limits, create_app, server_of
from tasks.images.stored_pixels import stored_pixels
from tests.images import pictures

HOST = "127.0.0.1"
JPEG = pictures.encode(pictures.scene(90, 70), "JPEG")
HEADER = b"POST /predict HTTP/1.1\r\nhost: a\r\ncontent-type: image/jpeg\r\ncontent-length: %d\r\n"
PATIENCE_S = 60


@dataclass
class Tally:
    """answers: honest ones by status, 0 for none.  seconds: of each.  dropped: connections of slow clients."""

    answers: Counter[int] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    dropped: int = 0


@contextmanager
def service(model: Path, limits: Limits = Limits()) -> Iterator[int]:
    """The service in a thread of this process; yields its port."""
    server = server_of(create_app(Predictor(model), read=stored_pixels, limits=limits), limits)
    server.config.host, server.config.port = HOST, 0
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive(), "the service did not start"
            time.sleep(0.05)
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()


def beside(port: int, *, num_honest: int, num_slow: int, seconds: float) -> Tally:
    """So many of both at once for so long; the slow ones are there first."""
    return asyncio.run(_beside(port, num_honest, num_slow, seconds))


async def _beside(port: int, num_honest: int, num_slow: int, seconds: float) -> Tally:
    tally, kinds = Tally(), itertools.cycle((_silent, _slow_header, _slow_body, _deaf))
    slow = [asyncio.create_task(_again_and_again(next(kinds), port, tally)) for _ in range(num_slow)]
    await asyncio.sleep(0.5)
    until = time.monotonic() + seconds
    await asyncio.gather(*(_honest(port, tally, until) for _ in range(num_honest)))
    for task in slow:
        task.cancel()
    await asyncio.gather(*slow, return_exceptions=True)
    return tally


async def _honest(port: int, tally: Tally, until: float) -> None:
    """A connection a request, one after the other."""
    while time.monotonic() < until:
        begin, status = time.monotonic(), 0
        with contextlib.suppress(OSError, TimeoutError, IndexError, ValueError):
            async with asyncio.timeout(PATIENCE_S):
                reader, writer = await asyncio.open_connection(HOST, port)
                writer.write(HEADER % len(JPEG) + b"connection: close\r\n\r\n" + JPEG)
                status = int((await reader.readline()).split()[1])
                await reader.read()
                writer.close()
        tally.answers[status] += 1
        tally.seconds.append(time.monotonic() - begin)
        await asyncio.sleep(0.01)


async def _again_and_again(kind, port: int, tally: Tally) -> None:
    while True:
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection(HOST, port)
            try:
                await kind(reader, writer)
            finally:
                writer.close()
            tally.dropped += 1
        await asyncio.sleep(0.05)


async def _silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Connects and says nothing until it is dropped."""
    await reader.read()


async def _slow_header(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A header without end, a letter now and then."""
    writer.write(b"POST /predict HTTP/1.1\r\nx: ")
    await _trickle(reader, writer)


async def _slow_body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A body of which a byte comes now and then, also after it was refused."""
    writer.write(HEADER % 1_000_000 + b"\r\n")
    await _trickle(reader, writer)


async def _deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Asks for the labels and then sends the body of that request, which nobody wants, a byte now and then."""
    writer.write(b"GET /labels HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\n")
    await _trickle(reader, writer)


async def _trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    until_dropped = asyncio.create_task(reader.read())
    try:
        while not until_dropped.done():
            writer.write(b"x")
            await asyncio.sleep(0.2)
        await until_dropped
    finally:
        until_dropped.cancel()


def show(tally: Tally) -> int:
    """Print statuses and latencies; returns how many honest requests were not answered with 200."""
    answers = ", ".join(f"{count:,} x {status or 'no answer'}" for status, count in sorted(tally.answers.items()))
    median, p99, most = np.quantile(tally.seconds, [0.5, 0.99, 1])
    print(f"honest requests: {answers}; median {median:.2f} s, 99 % within {p99:.2f} s, at most {most:.2f} s")
    print(f"slow connections that were dropped: {tally.dropped:,}")
    return tally.answers.total() - tally.answers[200]
