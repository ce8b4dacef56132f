"""A plan waits for the DVC process that holds its files, and says which."""

from __future__ import annotations

from pathlib import Path

import pytest
from dvc.exceptions import DvcException

from flows import dvc_locks, dvc_status
from tasks.core.errors import PipelineError

BUSY = "'data/x' is busy, it is being blocked by:\n  (PID 4711): dvc repro\n\nIf there are none, …"


@pytest.fixture
def busy_once(monkeypatch) -> list[str]:
    """DVC refuses once, and gives a status then; what was said."""
    refusals, lines = [DvcException(BUSY)], []

    def read(root: Path) -> dvc_status.Status:
        if refusals:
            raise refusals.pop()
        return dvc_status.Status({})

    monkeypatch.setattr(dvc_status, "_read_status", read)
    monkeypatch.setattr(dvc_locks, "RETRY_S", 0)
    monkeypatch.setattr(dvc_status.log, "warning", lines.append)
    return lines


def test_a_plan_waits_for_a_living_dvc_process_and_says_how_to_end_it(busy_once, monkeypatch, tmp_path):
    monkeypatch.setattr(dvc_locks, "is_dvc", lambda pid: True)
    assert dvc_status.read_status(tmp_path).nodes == {}
    assert busy_once == ["waiting for DVC process 4711, which works on the same files; to end it: kill 4711"]


def test_a_lock_of_something_that_is_no_dvc_process_is_left_to_dvcs_advice(busy_once, monkeypatch, tmp_path):
    monkeypatch.setattr(dvc_locks, "is_dvc", lambda pid: False)
    with pytest.raises(PipelineError, match=r"^dvc status: 'data/x' is busy"):
        dvc_status.read_status(tmp_path)
    assert busy_once == []
