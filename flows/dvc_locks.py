"""Paths that another DVC process holds: `dvc repro` in another terminal, or what a killed flow has left.

DVC itself does not wait for them. It names their holder; what holds nothing any more, DVC forgets at the next try.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable

import psutil

RETRY_S = 2.0


class Patience:
    """Waits while DVC processes hold paths, and says so once for each.  say: takes a line for a person."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._announced: set[int] = set()

    def wait(self, message: str) -> bool:
        """Whether DVC's message is that a living DVC process holds a path; if so, after a pause: try again."""
        holders = blocking_pids(message)
        if not holders or not all(map(is_dvc, holders)):
            return False
        for pid in sorted(holders - self._announced):
            self._say(f"waiting for DVC process {pid}, which works on the same files; to end it: kill {pid}")
        self._announced |= holders
        time.sleep(RETRY_S)
        return True


def blocking_pids(message: str) -> set[int]:
    """Processes that DVC names as holding a path."""
    if "it is being blocked by" not in message:
        return set()
    return {int(pid) for pid in re.findall(r"\(PID (\d+)\)", message)}


def is_dvc(pid: int) -> bool:
    """False for a pid that something else has got since its DVC process was killed: then DVC's advice is right."""
    try:
        return "dvc" in " ".join(psutil.Process(pid).cmdline()[:4])
    except psutil.Error:
        return True  # gone since: DVC forgets it at the next try
