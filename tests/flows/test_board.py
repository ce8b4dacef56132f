"""The stages as a table while they run: what is done, how long it takes, 80 columns, nothing elsewhere."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from flows import board
from flows.board import Board


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    """Seconds; the test moves it."""
    now = [0.0]
    monkeypatch.setattr(board.time, "monotonic", lambda: now[0])
    return now


def drawn(table: Board) -> list[str]:
    console = Console(file=io.StringIO(), width=80, color_system=None)
    console.print(table)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


BEFORE = {"ingest@digits_openimages": 12.0, "finetune": 130.0, "split": None, "report": None}


def test_a_running_stage_says_how_long_it_runs_how_long_it_took_and_what_it_does(clock):
    table = Board(BEFORE)
    table.begins("finetune")
    clock[0] = 65.0
    table.says("finetune", "I tasks.training.progress: step 3 of 10 (epoch 0), 310.0 images/s, 2 min left")
    assert [" ".join(line.split()) for line in drawn(table)] == [
        "stage state time last took doing",
        "finetune runs 1 min 05 s 2 min 10 s step 3 of 10 (epoch 0), 310.0 images/s,",
        "2 min left",
        "3 waiting",
    ]


def test_what_waits_or_is_fresh_is_counted_and_what_ran_keeps_its_time(clock):
    table = Board(BEFORE)
    table.begins("finetune")
    clock[0] = 3.0
    table.ends("finetune", "ran")
    table.ends("split", "fresh")
    clock[0] = 50.0
    shown = [" ".join(line.split()) for line in drawn(table)[1:]]
    assert shown == ["finetune ran 3.0 s 2 min 10 s", "2 waiting, 1 fresh"]


def test_long_names_and_lines_fit_80_columns_and_a_line_is_not_obeyed(clock):
    table = Board(BEFORE)
    for stage in BEFORE:
        table.begins(stage)
        table.says(stage, "reads \x1b[2J " + "x" * 300)
    lines = drawn(table)
    assert max(map(len, lines)) <= 80
    assert "\x1b" not in "".join(lines)
    assert "?[2J" in "".join(lines)


def test_at_a_terminal_the_table_is_drawn_and_the_last_lines_of_a_failed_stage_stay(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    with board.shown(BEFORE):
        assert board.is_shown()
        board.begins("finetune")
        board.says("finetune", "error: raw.json: truncated")
        board.ends("finetune", "failed")
    assert "finetune | error: raw.json: truncated" in terminal.getvalue()
    assert not board.is_shown()


def test_what_a_stage_left_out_or_warns_of_stays_above_the_table_at_its_end(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    with board.shown(BEFORE):
        board.begins("split")
        board.says("split", "I tasks.core.workspace: split: 7 of 9 labels left out: repeats a label")
        board.says("split", "warning: split: 2 of 5 labels have fewer than 5 positives")
        board.says("split", "step 3 of 10")
        board.ends("split", "ran")
        drawn_before, kept = terminal.getvalue(), "split | "
    assert f"{kept}7 of 9 labels left out: repeats a label" in drawn_before
    assert f"{kept}warning: 2 of 5 labels have fewer than 5 positives" in drawn_before
    assert f"{kept}step 3" not in terminal.getvalue()


def test_elsewhere_nothing_is_drawn(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    with board.shown(BEFORE):
        assert not board.is_shown()
        board.begins("finetune")
        board.says("finetune", "step 1")
        board.ends("finetune", "failed")
    assert stream.getvalue() == ""
