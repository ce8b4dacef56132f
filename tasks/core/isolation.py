"""Map a Table -> Table function over rows in processes that may die: one bad row cannot take the run down.

Each worker works through a batch row by row under a limit of memory, and says so after each; so the parent knows at
which row a worker died or stands still. That row is tried once more in a fresh process, the rest of the batch goes on,
and a row that fails again is handed to `guilty` with the reason. Results are in the order of the rows.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import multiprocessing
import os
import resource
import signal
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import connection as connections
from multiprocessing.connection import Connection
from pathlib import Path

import pyarrow as pa

from tasks.core import errors
from tasks.core.errors import TagwrightError
from tasks.core.interrupts import unheard

MB = 2**20
OUT_OF_MEMORY = 77
"""Exit status of a worker that reached its limit."""
TOO_LONG = (-signal.SIGXCPU, -signal.SIGALRM)
"""Exit statuses of a worker that the kernel ended for its time."""
WALL = 20
READY, ROW, ERROR = b"+", b"=", b"!"
"""What a message of a worker begins with."""
STARTS = 3
"""Tries to start a worker: it may be killed, as may the process that forks all of them."""
PAUSE_S = 0.2
"""Between two tries: what was killed is not gone at once."""
AHEAD = 2
"""Batches begun per worker beyond the one awaited."""


@dataclass(frozen=True)
class RowLimits:
    """What one row may take: seconds of the processor, so that a busy machine blames nobody, and MB beyond what a
    worker needs to begin with. A row that waits rather than works may take WALL times as long by the clock."""

    seconds: int
    memory_mb: int


HARD_CPU = resource.getrlimit(resource.RLIMIT_CPU)[1]

Guilty = Callable[[pa.Table, str], pa.Table]
"""(the one row, why) -> the row to put in its place."""


def map_rows(
    function: Callable[[pa.Table], pa.Table],
    batches: Sequence[pa.Table],
    *,
    workers: int,
    limits: RowLimits,
    guilty: Guilty,
    what: str,
) -> Iterator[pa.Table]:
    """`function` of each row, a table a batch. function: importable, and the same for a row alone as for many.

    Raises TagwrightError when workers cannot start; what `function` raises comes through.
    """
    context = multiprocessing.get_context("forkserver")  # imports once, and then a fresh process costs a fork
    context.set_forkserver_preload([_module_of(function)])
    begun, given = {}, 0
    crew: list[_Worker] = []
    try:
        for _ in range(min(workers, len(batches))):
            crew.append(_Worker(context, function, limits))
        for number in range(len(batches)):
            while number not in begun or begun[number].rows_left:
                for worker in crew:
                    if worker.job is None and given < min(len(batches), number + len(crew) * AHEAD):
                        begun[given] = _Job(batches[given])
                        worker.take(begun[given])
                        given += 1
                for worker in _stirred(crew):
                    worker.attend(guilty, what)
            yield pa.concat_tables(begun.pop(number).done)
    finally:
        for worker in crew:
            worker.end()


@dataclass
class _Job:
    """A batch under way."""

    batch: pa.Table
    done: list[pa.Table] = field(default_factory=list)
    suspect: int = -1  # the row at which a process failed

    @property
    def rows_left(self) -> int:
        return self.batch.num_rows - len(self.done)


class _Worker:
    """A process, replaced by a fresh one when it fails."""

    def __init__(self, context, function: Callable[[pa.Table], pa.Table], limits: RowLimits) -> None:
        self.context, self.function, self.limits = context, function, limits
        self.job: _Job | None = None
        self.starts = 0  # since it was ready
        self._start()

    def _start(self) -> None:
        self.connection, theirs = self.context.Pipe()
        self.process = self.context.Process(target=_work, args=(theirs, self.function, self.limits), daemon=True)
        self.ready = False
        self.starts += 1
        with unheard(), contextlib.suppress(EOFError, ConnectionError):  # who forks was killed: attend() finds out
            self.process.start()
        theirs.close()

    def take(self, job: _Job) -> None:
        """Go on with a batch where it stands."""
        self.job = job
        if self.ready:
            self._send()

    def _send(self) -> None:
        with contextlib.suppress(OSError):  # it has died: attend() finds out
            self.connection.send_bytes(_packed(self.job.batch.slice(len(self.job.done))))

    def attend(self, guilty: Guilty, what: str) -> None:
        """Take in what the process says, or see to its end."""
        try:
            message = self.connection.recv_bytes()
        except (EOFError, OSError) as error:
            if not self.ready and self.starts < STARTS:
                self.end()
                time.sleep(PAUSE_S)
                self._start()
                return
            if not self.ready:
                raise TagwrightError(
                    f"{what}: worker processes end before their first row. See what they printed above; "
                    "set TAGWRIGHT_WORKERS lower if memory is short."
                ) from error
            self.process.join()
            if self.process.exitcode == OUT_OF_MEMORY:
                self.job.suspect = len(self.job.done)  # it would need as much again
                self._failed(f"needs more than {self.limits.memory_mb:,} MB", guilty)
            elif self.process.exitcode in TOO_LONG:
                self.job.suspect = len(self.job.done)  # it would take as long again
                self._failed(f"took longer than {self.limits.seconds} s", guilty)
            else:
                self._failed("crashed the decoder", guilty)
            return
        kind, content = message[:1], message[1:]
        if kind == ERROR:
            raise _error_of(content)
        if kind == READY:
            self.ready, self.starts = True, 0
            if self.job is not None:
                self._send()
            return
        try:
            self.job.done.append(_row_of(content))
        except pa.ArrowException:  # overwritten in a worker that still runs
            self._failed("crashed the decoder", guilty)
            return
        if not self.job.rows_left:
            self.job = None

    def _failed(self, reason: str, guilty: Guilty) -> None:
        job, row = self.job, len(self.job.done)
        self.end()
        if job.suspect == row:
            job.done.append(guilty(job.batch.slice(row, 1), reason))
        job.suspect = row
        self._start()
        self.job = job if job.rows_left else None

    def end(self) -> None:
        """Leave nothing running."""
        if self.process.pid is not None:
            self.process.kill()
            self.process.join()
        self.connection.close()


def _stirred(crew: Sequence[_Worker]) -> list[_Worker]:
    """Workers that say something or have died; waits for the first."""
    busy = {worker.connection: worker for worker in crew if worker.job is not None or not worker.ready}
    return [busy[connection] for connection in connections.wait(list(busy))]


def _work(connection: Connection, function: Callable[[pa.Table], pa.Table], limits: RowLimits) -> None:
    """The worker: batches in, rows out, until the parent is gone."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if os.path.exists("/proc/self/statm"):
        begin = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (begin + limits.memory_mb * MB,) * 2)
    with contextlib.suppress(EOFError, ConnectionError):  # the parent is gone
        connection.send_bytes(READY)
        while True:
            batch = pa.ipc.open_stream(connection.recv_bytes()).read_all()
            for row in range(batch.num_rows):
                # The kernel keeps these, also inside C code and when the parent is gone.
                resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(time.process_time()) + limits.seconds, HARD_CPU))
                signal.alarm(WALL * limits.seconds)
                try:
                    answer = ROW + _packed(function(batch.slice(row, 1)))
                except MemoryError:
                    os._exit(OUT_OF_MEMORY)
                except Exception as error:
                    answer = ERROR + _described(error)
                connection.send_bytes(answer)
            signal.alarm(0)


def _packed(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def _row_of(content: bytes) -> pa.Table:
    table = pa.ipc.open_stream(content).read_all()
    table.validate(full=True)
    return table


def _described(error: Exception) -> bytes:
    """What the parent needs to raise it anew, as JSON."""
    number, path = (error.errno, error.filename) if isinstance(error, OSError) else (None, None)
    description = {
        "type": type(error).__name__,
        "message": str(error),
        "errno": number,
        "path": None if path is None else os.fsdecode(path) if isinstance(path, (str, bytes)) else str(path),
        "traceback": "".join(traceback.format_exception(error)),
    }
    return json.dumps(description).encode()


def _error_of(content: bytes) -> Exception:
    """The error that a worker met: one of ours, one of the machine's, or a mistake of this program."""
    described = json.loads(content)
    kind = getattr(errors, described["type"], None)
    if isinstance(kind, type) and issubclass(kind, TagwrightError):
        return kind(described["message"])
    if described["errno"] in errno.errorcode:
        return OSError(described["errno"], os.strerror(described["errno"]), described["path"])
    return RuntimeError(f"in a worker process:\n{described['traceback']}")


def _module_of(function: Callable) -> str:
    while isinstance(function, partial):
        function = function.func
    return function.__module__
