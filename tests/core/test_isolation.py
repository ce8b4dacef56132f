"""Rows in processes that may die: the guilty row is named, and all others are there, in order."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal

import pyarrow as pa
import pytest

from tasks.core.error_lines import line_of
from tasks.core.errors import SourceError
from tasks.core.isolation import RowLimits, map_rows

LIMITS = RowLimits(seconds=1, memory_mb=256)
NUMBERS = pa.table({"n": list(range(12)), "why": [""] * 12})


def treacherous(batch: pa.Table) -> pa.Table:
    """As it came, but row 3 crashes its process, row 5 wants a GB, and row 7 never ends."""
    match batch["n"].to_pylist():
        case [3]:
            os.kill(os.getpid(), signal.SIGSEGV)
        case [5]:
            bytearray(2**30)
        case [7]:
            while True:
                pass
    return batch


def refuse(batch: pa.Table) -> pa.Table:
    raise SourceError("seven.jpg: truncated")


def no_space(batch: pa.Table) -> pa.Table:
    raise OSError(errno.ENOSPC, "No space left on device", "/data/cache")


def mistaken(batch: pa.Table) -> pa.Table:
    return {}["no such key"]


def orphaned(batch: pa.Table) -> pa.Table:
    """Row 3 takes with it the process that forks workers."""
    if batch["n"].to_pylist() == [3]:
        os.kill(os.getppid(), signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)
    return batch


def unheard(batch: pa.Table) -> pa.Table:
    deaf = signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, [])
    return batch.set_column(1, "why", pa.array([f"deaf: {deaf}"] * batch.num_rows))


class Exploit(Exception):
    """Unpickled, it would run a command in the parent."""

    def __reduce__(self):
        return os._exit, (66,)


def exploited(batch: pa.Table) -> pa.Table:
    raise Exploit("harmless as words")


def blamed(row: pa.Table, reason: str) -> pa.Table:
    return row.set_column(1, "why", pa.array([reason]))


def mapped(function, workers: int) -> pa.Table:
    batches = [NUMBERS.slice(start, 4) for start in (0, 4, 8)]
    return pa.concat_tables(map_rows(function, batches, workers=workers, limits=LIMITS, guilty=blamed, what="numbers"))


def test_a_row_that_crashes_hogs_or_never_ends_is_named_and_the_others_are_there():
    result = mapped(treacherous, workers=2)
    assert result["n"].to_pylist() == list(range(12))
    assert {n: why for n, why in zip(*result.to_pydict().values(), strict=True) if why} == {
        3: "crashed the decoder",
        5: "needs more than 256 MB",
        7: "took longer than 1 s",
    }
    assert multiprocessing.active_children() == [], "no worker is left"


def test_when_the_process_that_forks_workers_is_killed_others_go_on():
    result = mapped(orphaned, workers=2)
    assert result["n"].to_pylist() == list(range(12))
    assert [n for n, why in zip(*result.to_pydict().values(), strict=True) if why] == [3]
    assert multiprocessing.active_children() == []


def test_ctrl_c_is_for_the_parent_alone_from_the_first_moment_of_a_worker():
    assert set(mapped(unheard, workers=2)["why"].to_pylist()) == {"deaf: True"}
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_what_the_function_raises_comes_through():
    with pytest.raises(SourceError, match=r"^seven\.jpg: truncated$"):
        mapped(refuse, workers=1)
    assert multiprocessing.active_children() == []


def test_what_the_machine_refuses_in_a_worker_is_one_line_with_its_place():
    with pytest.raises(OSError, match="No space left") as caught:
        mapped(no_space, workers=1)
    assert line_of(caught.value).startswith("/data/cache: no space is left on the disk.")


@pytest.mark.parametrize(
    ("function", "says"), [(mistaken, "KeyError: 'no such key'"), (exploited, "harmless as words")]
)
def test_a_mistake_in_a_worker_comes_with_its_traceback_and_nothing_of_a_worker_is_unpickled(function, says):
    with pytest.raises(RuntimeError, match=says) as caught:
        mapped(function, workers=1)
    assert "test_isolation.py" in str(caught.value)
    assert line_of(caught.value) is None, "a bug of ours"
