"""Ours against a peer, on this machine: `python -m tests.benchmarks [NAME …]`.

To add one: a module here with `main(argv)` that measures and calls `show`. Peers do the same work on the same input.
"""

from __future__ import annotations

import multiprocessing
import re
import resource
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table, box


@dataclass(frozen=True)
class Measured:
    """seconds: wall time of the function alone.  peak_mb: the most resident memory of its process, MB."""

    seconds: float
    peak_mb: float
    value: Any


def measure(function: Callable, *arguments: Any, prepare: Callable[[], tuple] | None = None) -> Measured:
    """Call `function(*arguments, *prepare())`, both functions of a module, in a fresh process.

    prepare: makes what need not travel between processes and loads what numba compiled, before the clock starts; its
    memory counts.
    """
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as executor:
        return executor.submit(_measure_here, function, arguments, prepare).result()


def _measure_here(function: Callable, arguments: Sequence, prepare: Callable[[], tuple] | None) -> Measured:
    prepared = prepare() if prepare is not None else ()
    start = time.perf_counter()
    value = function(*arguments, *prepared)
    seconds = time.perf_counter() - start
    return Measured(seconds, _peak_mb(), value)


def _peak_mb() -> float:
    """Most resident memory of this process. Linux's `ru_maxrss` would start at that of the parent."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return float(re.search(r"VmHWM:\s+(\d+)", status.read_text()).group(1)) / 1024


@dataclass(frozen=True)
class Row:
    """One comparison. ours, peer: seconds, or any number of which less is better (then `unit` says what).

    goal: in words, what must be reached.
    """

    work: str
    ours: float
    peer: float | None = None
    peak_mb: float | None = None
    goal: str = ""
    unit: str = "s"

    def cells(self) -> list[str]:
        ratio = "" if self.peer is None else f"{self.peer / self.ours:.3g} x"
        memory = "" if self.peak_mb is None else f"{self.peak_mb / 1024:.2f} GB"
        return [self.work, self._number(self.ours), self._number(self.peer), ratio, memory, self.goal]

    def _number(self, value: float | None) -> str:
        return "" if value is None else f"{value:,.3g} {self.unit}".strip()


def show(title: str, rows: Sequence[Row]) -> None:
    """Print the rows as a table that is Markdown too."""
    table = Table("work", "ours", "peer", "ratio", "peak memory", "goal", title=title, box=box.MARKDOWN)
    for row in rows:
        table.add_row(*row.cells())
    Console(width=160).print(table)
