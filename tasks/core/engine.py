"""Map a Table -> Table function over batches of rows: on this machine's cores, or on a Ray cluster.

    workers=1            here
    workers=N            N local processes, started afresh (`spawn`), so that the caller's threads cannot deadlock them;
                         or up to 8 threads for a function that `releases_gil`
    limits=...           as many local processes, any of which may die of a row (tasks/core/isolation.py)
    RAY_ADDRESS is set   that Ray cluster (the `cluster` extra); `RAY_ADDRESS=local` starts one on this machine

The batches depend on `batch_rows` alone and come back in order, so the engine and the number of workers never change a
result. The function must be importable (a module's own function, or a functools.partial of one). On a cluster it must
find its files under the same paths or URIs on every node.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

import pyarrow as pa

from tasks.core.errors import TagwrightError
from tasks.core.interrupts import unheard
from tasks.core.isolation import Guilty, RowLimits, map_rows

log = logging.getLogger(__name__)

TableFunction = Callable[[pa.Table], pa.Table]
Ticket = TypeVar("Ticket")

MAX_THREADS = 8
"""Threads start at once, where each process first imports for about a second what it runs; but between two calls of C
code they need the interpreter lock, and the more there are, the longer they wait for it."""

AHEAD = 2
"""Batches submitted per worker beyond the one awaited: keeps workers busy and bounds what waits in memory."""

RAY_PAUSES_S = (1.0, 2.0, 4.0, 8.0)
"""Before each further try of a batch whose node or worker is gone. Ray's own retries are off: they follow at once, when
a dead node may still stand in the cluster's list, and are soon used up."""

LOG_EVERY_S = 10
"""Between two lines of `progress` where there is no terminal."""


def map_batches(
    function: TableFunction,
    table: pa.Table,
    *,
    batch_rows: int,
    workers: int,
    what: str,
    releases_gil: bool = False,
    limits: RowLimits | None = None,
    guilty: Guilty | None = None,
) -> Iterator[pa.Table]:
    """Yield `function` of each `batch_rows` rows of `table`, in order; of the empty table when there are no rows.

    what: what the rows are, for progress and messages, e.g. "images".
    releases_gil: whether `function` spends its time in C code outside the interpreter lock.
    limits: what one row may take, in processes that may die; a row that does not keep them is handed to `guilty`. Not
    on a cluster.
    Raises TagwrightError when a worker dies; what `function` raises comes through.
    """
    assert min(batch_rows, workers) >= 1, (batch_rows, workers)
    batches = [table.slice(start, batch_rows) for start in range(0, max(table.num_rows, 1), batch_rows)]
    if os.environ.get("RAY_ADDRESS"):
        results = _on_ray(function, batches, what)
    elif limits is not None and guilty is not None and table.num_rows:
        results = map_rows(function, batches, workers=workers, limits=limits, guilty=guilty, what=what)
    elif workers == 1 or len(batches) == 1:
        results = map(function, batches)
    else:
        workers = min(workers, len(batches))
        if releases_gil and workers <= MAX_THREADS:
            results = _in_threads(function, batches, workers)
        else:
            results = _in_processes(function, batches, workers, what)
    with progress(what, table.num_rows) as advance:
        for batch, result in zip(batches, results, strict=True):
            advance(batch.num_rows)
            yield result


def _in_threads(function: TableFunction, batches: list[pa.Table], workers: int) -> Iterator[pa.Table]:
    with _stopped_at_once(ThreadPoolExecutor(workers)) as executor:
        yield from _windowed(batches, partial(executor.submit, function), Future.result, workers * AHEAD)


def _in_processes(function: TableFunction, batches: list[pa.Table], workers: int, what: str) -> Iterator[pa.Table]:
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"))
    done = 0

    def submit(batch: pa.Table) -> Future[pa.Table]:
        with unheard():  # the first starts the workers
            return pool.submit(_call, function, _packed(batch))

    with _stopped_at_once(pool):
        try:
            for result in _windowed(batches, submit, Future.result, workers * AHEAD):
                done += 1
                yield result
        except BrokenProcessPool as error:
            raise _dead_worker(batches, done, what, "Set TAGWRIGHT_WORKERS to a lower number") from error


@contextmanager
def _stopped_at_once(executor: Executor) -> Iterator[Executor]:
    """On an error, do not run what is still waiting."""
    try:
        yield executor
    finally:
        executor.shutdown(cancel_futures=True)


def _on_ray(function: TableFunction, batches: list[pa.Table], what: str) -> Iterator[pa.Table]:
    try:
        import ray
    except ImportError as error:
        raise TagwrightError(
            "RAY_ADDRESS is set but Ray is not installed. Install the `cluster` extra or unset it."
        ) from error
    if not ray.is_initialized():
        # Nodes get this package's code from here; they need its dependencies installed.
        ray.init(runtime_env={"py_modules": [str(Path(__file__).parents[1])]}, log_to_driver=False)
    remote = ray.remote(max_retries=0)(_call)

    def submit(batch: pa.Table) -> tuple[pa.Table, ray.ObjectRef]:
        return batch, remote.remote(function, _packed(batch))

    def result(ticket: tuple[pa.Table, ray.ObjectRef]) -> pa.Table:
        batch, reference = ticket
        for pause in RAY_PAUSES_S:
            try:
                return ray.get(reference)
            except ray.exceptions.RayTaskError:
                raise
            except ray.exceptions.RayError as error:
                log.warning("%s: %s on the cluster; %d rows are tried again", what, type(error).__name__, len(batch))
                time.sleep(pause)
                _, reference = submit(batch)
        return ray.get(reference)

    ahead = int(ray.cluster_resources().get("CPU", 1)) * AHEAD
    done = 0
    try:
        for table in _windowed(batches, submit, result, ahead):
            done += 1
            yield table
    except ray.exceptions.RayTaskError as error:
        raise error.cause from error  # what the function raised, as with local processes
    except ray.exceptions.RayError as error:  # a worker or its node is gone, at each try
        remedy = f"Ray says {type(error).__name__}. Look at its nodes' memory (`ray status`)"
        raise _dead_worker(batches, done, what, remedy) from error


def _windowed(
    batches: Iterable[pa.Table], submit: Callable[[pa.Table], Ticket], result: Callable[[Ticket], pa.Table], ahead: int
) -> Iterator[pa.Table]:
    """Results in order, with at most `ahead` batches submitted beyond the one awaited."""
    waiting: deque[Ticket] = deque()
    for batch in batches:
        waiting.append(submit(batch))
        if len(waiting) > ahead:
            yield result(waiting.popleft())
    while waiting:
        yield result(waiting.popleft())


def _packed(batch: pa.Table) -> pa.Buffer:
    """The rows of a slice alone: pickling a slice of a table would send the whole table's buffers."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_table(batch)
    return sink.getvalue()


def _call(function: TableFunction, packed: pa.Buffer) -> pa.Table:
    return function(pa.ipc.open_stream(packed).read_all())


def _dead_worker(batches: list[pa.Table], done: int, what: str, remedy: str) -> TagwrightError:
    first, total = sum(batch.num_rows for batch in batches[:done]), sum(batch.num_rows for batch in batches)
    return TagwrightError(
        f"{what}: a worker process died at or soon after row {first:,} of {total:,}; most often "
        f"the machine is out of memory. {remedy} and run the stage again."
    )


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """A function to call with the number of rows just done: a bar on a terminal, elsewhere a log line now and then."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(what, total=total)
            yield lambda rows: bar.advance(task, rows)
        return

    done, last = 0, time.monotonic()

    def advance(rows: int) -> None:
        nonlocal done, last
        done += rows
        if time.monotonic() - last >= LOG_EVERY_S:
            last = time.monotonic()
            log.info("%s: %d of %d", what, done, total)

    yield advance
