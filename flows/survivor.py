"""Ends what a flow has started when the flow was killed: `python -m flows.survivor`, a process that outlives it.

Its stdin has a line `+TARGET` for all that the flow starts and `-TARGET` for what has ended. When stdin ends, the flow
is gone, however it went: what is left gets SIGTERM, for a training saves its state then, and SIGKILL after the grace.
The flow's process keeps the one survivor: `guard(target)`, `release(target)`.

A target is what kill(2) takes: a process, or a process group as a negative number.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable

GRACE_S = 30.0
"""Between SIGTERM and SIGKILL: a training saves its state first."""

_lock = threading.Lock()
_survivor: subprocess.Popen[str] | None = None


def guard(target: int) -> None:
    """Have the target ended when this process dies."""
    _tell(f"+{target}")


def release(target: int) -> None:
    """It has ended by itself."""
    _tell(f"-{target}")


def _tell(line: str) -> None:
    global _survivor
    with _lock:
        if _survivor is None or _survivor.poll() is not None:
            _survivor = subprocess.Popen(
                [sys.executable, "-m", "flows.survivor"],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                text=True,
                start_new_session=True,  # out of reach of what ends the flow's group
            )
        with contextlib.suppress(OSError):  # it was killed: the next line starts another
            _survivor.stdin.write(f"{line}\n")
            _survivor.stdin.flush()


def end_all(targets: Iterable[int], *, grace_s: float = GRACE_S) -> None:
    """SIGTERM to each target, SIGKILL to what is left of them after the grace."""
    targets = list(targets)
    for target in targets:
        _signal(target, signal.SIGTERM)
    deadline = time.monotonic() + grace_s
    try:
        while any(map(is_alive, targets)) and time.monotonic() < deadline:
            time.sleep(0.1)
    finally:  # a second Ctrl-C shortens the grace
        for target in targets:
            _signal(target, signal.SIGKILL)


def is_alive(target: int) -> bool:
    """Whether any of it lives: a stage may outlive the DVC process that started it, while it saves a checkpoint."""
    try:
        os.kill(target, 0)
    except ProcessLookupError:
        return False
    return True


def _signal(target: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(target, number)


def main() -> None:
    """The survivor."""
    targets: dict[int, None] = {}
    for line in sys.stdin:
        sign, target = line[0], int(line[1:])
        if sign == "+":
            targets[target] = None
        else:
            targets.pop(target, None)
    end_all(targets)


if __name__ == "__main__":
    main()
