"""How a training of several processes ends: with the status of the process that failed, and nothing of torchrun's."""

from __future__ import annotations

import logging
import signal

import pytest
import torch.distributed.run
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from tasks.training import launcher
from tasks.training.loop import EXIT_TERMINATED


def failed(exitcode: int) -> ChildFailedError:
    return ChildFailedError("tasks", {0: ProcessFailure(local_rank=0, pid=1, exitcode=exitcode, error_file="")})


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (failed(1), 1),
        (failed(-signal.SIGKILL), 137),
        (SignalException("", signal.SIGTERM), EXIT_TERMINATED),
        (SignalException("", signal.SIGINT), 130),
    ],
)
def test_the_end_of_a_process_is_a_status_and_no_traceback(error, status, monkeypatch, capsys):
    def ends() -> None:
        raise error

    monkeypatch.setattr(logging, "disable", lambda: None)
    monkeypatch.setattr(torch.distributed.run, "main", ends)
    with pytest.raises(SystemExit) as ended:
        launcher.main()
    assert ended.value.code == status
    assert capsys.readouterr().err == ""
