"""The stages of a run while they run: one table at a terminal, drawn anew twice a second. 80 columns do.

A stage's last line says what it is doing; a training's holds images/s and the time left. What a stage says of itself at
its end (what it left out, what it warns of) stays above the table. Elsewhere than at a terminal nothing is drawn, and
the lines come one by one as they do in the log.
"""

from __future__ import annotations

import re
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from flows.repro import LAST_LINES
from tasks.core.formatting import duration

COLOURS = {
    **{"ran": "green", "restored": "green", "fresh": "dim", "failed": "bold red", "skipped": "yellow"},
    **{"will run": "green", "may run": "yellow"},
}

QUIET = ("waiting", "fresh")
"""States that are counted, not listed: a graph of many sources fits the window too."""
_LOGGER = re.compile(r"^[DIWEC] [\w.]+: ")
"""Before each line that a stage logs."""


@dataclass
class Row:
    """What is known of one stage. before_s: seconds of its last run."""

    before_s: float | None
    state: str = "waiting"
    began: float | None = None
    took_s: float = 0.0
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=LAST_LINES))
    of_itself: list[str] = field(default_factory=list)


class Board:
    """The table; stages of several threads report to it.  before_s: {stage: seconds of its last run}, in plan order."""

    def __init__(self, before_s: Mapping[str, float | None]) -> None:
        self._rows = {stage: Row(seconds) for stage, seconds in before_s.items()}
        self._lock = threading.Lock()

    def begins(self, stage: str) -> None:
        with self._lock:
            self._rows[stage].state, self._rows[stage].began = "runs", time.monotonic()

    def says(self, stage: str, line: str) -> None:
        """One line of its output, without what a terminal would obey."""
        shown = "".join(char if char.isprintable() else "?" for char in _LOGGER.sub("", line))
        with self._lock:
            self._rows[stage].lines.append(shown)
            if shown.removeprefix("warning: ").startswith(f"{stage}: "):  # as Workspace.book writes them
                self._rows[stage].of_itself.append(shown.replace(f"{stage}: ", "", 1))

    def ends(self, stage: str, state: str) -> None:
        with self._lock:
            row = self._rows[stage]
            row.state, row.took_s = state, 0.0 if row.began is None else time.monotonic() - row.began

    def to_keep(self, stage: str) -> list[str]:
        """Lines that stay at the terminal: the last ones of a stage that failed, else what it said of itself."""
        with self._lock:
            row = self._rows[stage]
            return list(row.lines if row.state == "failed" else row.of_itself)

    def __rich__(self) -> Group:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for name in ("stage", "state", "time", "last took", "doing"):
            at_right = name in ("time", "last took")
            table.add_column(name, justify="right" if at_right else "left", no_wrap=name != "doing", overflow="fold")
        with self._lock:
            for stage, row in self._rows.items():
                if row.state not in QUIET:
                    runs = row.state == "runs"
                    took = duration(time.monotonic() - row.began if runs else row.took_s)
                    doing = row.lines[-1] if runs and row.lines else ""
                    state = Text(row.state, style=COLOURS.get(row.state, "bold"))
                    table.add_row(Text(stage), state, took, duration(row.before_s), Text(doing))
            counts = Counter(row.state for row in self._rows.values())
        quiet = ", ".join(f"{counts[state]} {state}" for state in QUIET if counts[state])
        return Group(table, Text(quiet, style="dim"))


_board: Board | None = None


@contextmanager
def shown(before_s: Mapping[str, float | None]) -> Iterator[None]:
    """Draw the table meanwhile, where stderr is a terminal."""
    global _board
    if not sys.stderr.isatty():
        yield
        return
    _board = Board(before_s)
    try:
        with Live(_board, console=Console(stderr=True, highlight=False), refresh_per_second=2, transient=True):
            yield
    finally:
        _board = None


def is_shown() -> bool:
    """Whether lines belong on the table rather than below one another."""
    return _board is not None


def begins(stage: str) -> None:
    """The stage's process is about to start."""
    if _board:
        _board.begins(stage)


def says(stage: str, line: str) -> None:
    """A line of the stage's output."""
    if _board:
        _board.says(stage, line)


def ends(stage: str, state: str) -> None:
    """What became of the stage; some of its lines stay above the table."""
    if _board:
        _board.ends(stage, state)
        for line in _board.to_keep(stage):
            print(f"{stage} | {line}", file=sys.stderr)
