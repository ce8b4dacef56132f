"""One stage through DVC, as a process of its own, read line by line and stopped with everything it started.

    python -m dvc --wait-for-lock repro --single-item STAGE

`--single-item`: the order is the flow's business.  `--pull`, where clones share results (`share`): a result that the
run cache knows is fetched from the DVC remote.  `--wait-for-lock`: stages run in parallel, and DVC holds its lock
while it hashes. The lock on a *path* is not waited for by DVC; here it is (dvc_locks.py).
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from flows import survivor
from flows.dvc_locks import Patience
from tasks.core.errors import PipelineError

StageState = Literal["ran", "restored", "fresh", "failed", "skipped"]
"""ran: its command ran.  restored: DVC's run cache knew the result.  fresh: nothing it reads has changed.
failed: its command did.  skipped: a stage that it needs failed."""


@dataclass(frozen=True)
class StageResult:
    """What became of one stage of a flow run. reason: why it ran, failed or was skipped.  seconds: of its process."""

    stage: str
    state: StageState
    reason: str = ""
    seconds: float = 0.0


class StageStopped(PipelineError):
    """A person or a cancellation stopped the flow; the stage itself did nothing wrong."""


LAST_LINES = 12

# What DVC says to a person at a terminal after each stage; of no use line by line in a log of many stages.
_HINTS = ("To track the changes", "\tgit add", "To enable auto staging", "\tdvc config", "Use `dvc push`")

_EMPTY = "' is empty."  # its warning of a dependency: nobody has answered a question yet

_running: set[subprocess.Popen[str]] = set()
_stopping = threading.Event()
_starting = threading.Lock()  # nothing starts between the look at _stopping and the entry in _running


def command_by_hand(stage: str) -> str:
    """What a person types to see the stage alone."""
    return f"python -m dvc repro --single-item {stage}"


def reproduce(
    stage: str,
    *,
    on_line: Callable[[str], None],
    env: Mapping[str, str] | None = None,
    root: Path = Path(),
    pull: bool = False,
) -> StageState:
    """Reproduce `stage` in the DVC repository `root`. Returns what DVC did: ran, restored or fresh.

    on_line: called with each line of output, as it comes.  env: added to the environment of the stage.
    pull: results that only the DVC remote holds are fetched.
    While another DVC process works on one of the stage's paths (an orphan of a killed flow, `dvc repro` in another
    terminal), waits for it. Raises PipelineError: the cause, the last lines, the command to run by hand; StageStopped
    after `stop_all`.
    """
    patience = Patience(on_line)
    while True:
        returncode, lines, state = _run(stage, on_line, env or {}, root, pull)
        if returncode == 0:
            return state
        if _stopping.is_set():
            raise StageStopped(f"{stage}: stopped.")
        if not patience.wait("\n".join(lines)):
            raise PipelineError(_failure(stage, returncode, lines))


def stop_all() -> None:
    """Stop every running stage with all it started, and start no other: SIGTERM, then SIGKILL after a grace."""
    with _starting:
        _stopping.set()
        groups = [-process.pid for process in _running]
    survivor.end_all(groups)


def allow_starts() -> None:
    """Undo `stop_all` for the next flow run of this process."""
    _stopping.clear()


def share(direction: Literal["fetch", "push"], root: Path = Path()) -> None:
    """Fetch what other clones have done from the DVC remote, or push what this one has.

    With DVC's run cache, which says what followed from which inputs, so that dvc.lock need not travel. Raises
    PipelineError with DVC's message.
    """
    command = [sys.executable, "-m", "dvc", "--wait-for-lock", direction, "--run-cache"]
    process = subprocess.run(command, cwd=root, capture_output=True, text=True)
    if process.returncode or "o remote provided" in process.stderr:  # fetch only warns of it
        lines = process.stderr.splitlines() or ["it was killed"]
        errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
        message = [lines[0], *errors][-1].rstrip(".")
        raise PipelineError(f"dvc {direction}: {message}. See `dvc remote list`, or run without --share.")


def _run(
    stage: str, on_line: Callable[[str], None], env: Mapping[str, str], root: Path, pull: bool
) -> tuple[int, list[str], StageState]:
    """(exit status, last lines, state) of one DVC process."""
    state: StageState = "fresh"
    lines: deque[str] = deque(maxlen=LAST_LINES)
    with _start(stage, env, root, pull) as process:
        try:
            for raw in process.stdout:
                line = raw.rstrip()
                if line == f"Running stage '{stage}':":
                    state = "ran"
                elif line == f"Stage '{stage}' is cached - skipping run, checking out outputs":
                    state = "restored"
                if line and not raw.startswith(_HINTS) and not line.endswith(_EMPTY):
                    lines.append(line)
                    on_line(line)
        finally:
            _running.discard(process)
            if not survivor.is_alive(-process.pid):
                survivor.release(-process.pid)
    return process.returncode, list(lines), state


def _start(stage: str, env: Mapping[str, str], root: Path, pull: bool) -> subprocess.Popen[str]:
    with _starting:
        if _stopping.is_set():
            raise StageStopped(f"{stage}: not started, the flow was stopped.")
        process = subprocess.Popen(
            [sys.executable, "-m", "dvc", "--wait-for-lock", "repro", *["--pull"] * pull, "--single-item", stage],
            cwd=root,
            env={**os.environ, **_stage_environment(), **env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,  # a group of its own: stopped by us, whole, and only once
        )
        _running.add(process)
    survivor.guard(-process.pid)
    return process


def _stage_environment() -> dict[str, str]:
    """`python` in a stage's command is this very Python, and it does not keep its lines back."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return {"PATH": path, "PYTHONUNBUFFERED": "1"}


def _failure(stage: str, returncode: int, lines: list[str]) -> str:
    """First line: stage and cause. Then the last lines, and what to type."""
    by_dvc = ("ERROR: ", "> ", f"Running stage '{stage}':")
    output = [line for line in lines if not line.startswith(by_dvc)] or lines or [f"exit status {returncode}"]
    cause = output[-1].removeprefix("ERROR: ")
    return "\n".join(
        [f"{stage}: {cause}", *(f"    {line}" for line in lines), f"Run it by hand: {command_by_hand(stage)}"]
    )
