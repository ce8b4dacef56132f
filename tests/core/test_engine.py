"""Batches over processes and clusters: same rows, same order, and a clear end when a worker dies."""

from __future__ import annotations

import io
import os
import signal
import sys
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from tasks.core import engine
from tasks.core.engine import map_batches
from tasks.core.errors import SourceError, TagwrightError


def add(batch: pa.Table, *, amount: int) -> pa.Table:
    return pa.table({"n": pc.add(batch["n"], amount), "rows": [batch.num_rows] * batch.num_rows})


def refuse(batch: pa.Table) -> pa.Table:
    if 7 in batch["n"].to_pylist():
        raise SourceError("seven.jpg: truncated")
    return batch


def die(batch: pa.Table) -> pa.Table:
    if 7 in batch["n"].to_pylist():
        os.kill(os.getpid(), signal.SIGKILL)
    return batch


def die_four_times(batch: pa.Table, *, folder: Path) -> pa.Table:
    deaths = len(list(folder.iterdir()))
    if 7 in batch["n"].to_pylist() and deaths < 4:
        (folder / str(deaths)).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return batch


def unheard(batch: pa.Table) -> pa.Table:
    return pa.table({"deaf": [signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, [])]})


def note_process(batch: pa.Table, *, folder: Path) -> pa.Table:
    (folder / str(os.getpid())).touch()
    return batch


NUMBERS = pa.table({"n": list(range(10))})


def mapped(function, table: pa.Table = NUMBERS, **options) -> pa.Table:
    return pa.concat_tables(
        map_batches(function, table, **{"batch_rows": 3, "workers": 1, "what": "numbers"} | options)
    )


@pytest.mark.parametrize("workers", [1, 2])
def test_results_do_not_depend_on_the_number_of_workers(workers):
    result = mapped(partial(add, amount=100), workers=workers)
    assert result["n"].to_pylist() == list(range(100, 110))
    assert result["rows"].to_pylist() == [3, 3, 3, 3, 3, 3, 3, 3, 3, 1]


def test_no_rows_still_give_a_table_with_the_columns():
    result = mapped(partial(add, amount=1), NUMBERS.slice(0, 0), workers=2)
    assert result.column_names == ["n", "rows"]
    assert result.num_rows == 0


@pytest.mark.parametrize("workers", [1, 2])
def test_what_the_function_raises_comes_through(workers):
    with pytest.raises(SourceError, match=r"^seven\.jpg: truncated$"):
        mapped(refuse, workers=workers)


def test_a_dead_worker_gives_one_line_that_says_where_and_what_to_do():
    with pytest.raises(TagwrightError, match=r"^numbers: a worker process died .* of 10; .* TAGWRIGHT_WORKERS .*$"):
        mapped(die, workers=2)


def test_ctrl_c_is_for_the_parent_alone_from_the_first_moment_of_a_worker():
    assert mapped(unheard, workers=2)["deaf"].to_pylist() == [True] * 4


def test_a_function_that_releases_the_gil_runs_in_threads_of_this_process(tmp_path):
    result = mapped(partial(note_process, folder=tmp_path), workers=4, releases_gil=True)
    assert [path.name for path in tmp_path.iterdir()] == [str(os.getpid())]
    assert result.equals(NUMBERS)
    with pytest.raises(SourceError, match=r"^seven\.jpg: truncated$"):
        mapped(refuse, workers=4, releases_gil=True)


def test_a_batch_travels_without_the_rest_of_its_table():
    large = pa.table({"n": list(range(100_000))})
    assert engine._packed(large.slice(5, 10)).size < 2_000


def test_long_work_logs_how_far_it_is(caplog, monkeypatch):
    monkeypatch.setattr(engine, "LOG_EVERY_S", 0)
    with caplog.at_level("INFO"), engine.progress("images", 4) as advance:
        advance(1)
        advance(3)
    assert caplog.messages == ["images: 1 of 4", "images: 4 of 4"]


def test_long_work_shows_a_bar_on_a_terminal(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("sys.stderr", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    with engine.progress("images", 4) as advance:
        advance(3)
    assert "images" in sys.stderr.getvalue()
    assert "3/4" in sys.stderr.getvalue()


def test_a_ray_cluster_gives_the_same_rows_and_errors_and_tries_again_what_a_worker_died_of(monkeypatch, tmp_path):
    ray = pytest.importorskip("ray", reason="needs the `cluster` extra")
    monkeypatch.setenv("RAY_ADDRESS", "local")
    monkeypatch.setattr(engine, "RAY_PAUSES_S", (0.0,) * 4)
    try:
        assert mapped(partial(add, amount=100)).equals(
            pa.concat_tables([add(NUMBERS.slice(i, 3), amount=100) for i in (0, 3, 6, 9)])
        )
        with pytest.raises(SourceError, match=r"^seven\.jpg: truncated$"):
            mapped(refuse)
        with pytest.raises(TagwrightError, match=r"a worker process died .* row 6 of 10; .*WorkerCrashedError"):
            mapped(die)
        assert mapped(partial(die_four_times, folder=tmp_path)).equals(NUMBERS)
        assert len(list(tmp_path.iterdir())) == 4
    finally:
        ray.shutdown()
