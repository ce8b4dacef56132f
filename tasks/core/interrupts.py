"""Signals that reach a process and all that it has started: Ctrl-C at a terminal, SIGTERM to a group.

They are for the process, which ends its workers; a worker that ended first would speak of it, or look like a fault.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker


@contextmanager
def unheard() -> Iterator[None]:
    """What is started within never hears Ctrl-C, not even while it imports; one that comes meanwhile is for us."""
    resource_tracker.ensure_running()  # or multiprocessing would start it within, and then unblock Ctrl-C
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def leave_group(_worker: int) -> None:
    """For a worker of a loader: it loads on while a training that SIGTERM reached saves its state."""
    os.setpgid(0, 0)
