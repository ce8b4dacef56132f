"""What a person at the terminal sees of a flow run: the stages' lines, then one table. 80 columns do."""

from __future__ import annotations

import logging
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from flows import board
from flows.board import COLOURS
from flows.plan import PlanRow
from flows.repro import StageResult
from tasks.core.formatting import duration


def show_results(results: Iterable[StageResult]) -> None:
    """The summary of a run: stage, state, seconds, reason."""
    rows = [(r.stage, r.state, duration(r.seconds or None), r.reason) for r in results]
    _show(("stage", "state", "took", "why"), rows)


def show_outcome(figures: Mapping[str, float], page: str) -> None:
    """Below the summary: headline figures, where the report is, and what a person does next; nothing where both miss.

    page: path of the report, '' where there is none.
    """
    lines = []
    if figures:
        lines.append(("result", "  ".join(f"{name} {value:.4f}" for name, value in figures.items())))
    if page:
        lines += [
            ("report", page),
            ("next", "open the report in a browser"),
            ("", "python -m flows review   answer the questions about likely errors"),
            ("", "python -m tasks accept   hold later runs against this one"),
        ]
    if lines:
        print()
    for word, text in lines:
        print(f"{word:<8}{text}")


def show_plan(plan: Iterable[PlanRow]) -> None:
    """The plan: stage, forecast, seconds of the last run, what changed."""
    rows = [(r.stage, r.forecast, duration(r.last_s), r.reason) for r in plan]
    _show(("stage", "forecast", "last took", "why"), rows)


def show_lines(lines: Iterable[str]) -> None:
    """Lines of text, each wrapped at the terminal's width with what follows indented."""
    for line in lines:
        print("\n".join(textwrap.wrap(line, Console().width, subsequent_indent="  ", break_on_hyphens=False)))


def _show(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in header:
        table.add_column(name, justify="right" if "took" in name else "left", overflow="fold")
    for stage, state, took, reason in rows:
        # Text, not markup: a reason may hold brackets.
        table.add_row(Text(stage), Text(state, style=COLOURS[state]), Text(took), Text(reason))
    Console(highlight=False).print(table)


def show_only_stages() -> None:
    """Leave Prefect's own messages about states, and the tracebacks of failed stages, to the server's page.

    The stages' lines and the summary say the same to a person, once.
    """
    logging.getLogger("dvc").propagate = False  # it has a handler of its own
    for handler in logging.getLogger().handlers:
        handler.addFilter(_is_ours)


def _is_ours(record: logging.LogRecord) -> bool:
    if record.name.startswith("prefect.task_runs") and board.is_shown():
        return False  # the table says it
    of_a_run = record.name.startswith(("prefect.flow_runs", "prefect.task_runs"))
    return not of_a_run or Path(record.pathname).parent == Path(__file__).parent
