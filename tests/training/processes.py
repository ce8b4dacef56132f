"""Starting `toy_run` as a program: alone, with torchrun as stages do, on one machine or two, and killed on the way."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tasks.stages import torchrun

ROOT = Path(__file__).resolve().parents[2]
ALONE = [sys.executable, "-m"]
TORCHRUN = [sys.executable, *torchrun(processes=2, machines=1)]


def start(command: list[str], out: Path, runs: dict[str, dict[str, Any]], **variables: str) -> subprocess.Popen:
    """The program with its output in out/log.  variables: of the environment, besides."""
    out.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", **variables}
    with open(out / "log", "a") as log:
        return subprocess.Popen(
            [*command, "tests.training.toy_run", str(out), json.dumps(runs)],
            cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip


def start_two_machines(out: Path, runs: dict[str, dict[str, Any]]) -> list[subprocess.Popen]:
    """A launcher a machine, both on this one; the second one's output in out/log too."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    command = [sys.executable, *torchrun(processes=1, machines=2)]
    place = {"PET_MASTER_ADDR": "127.0.0.1", "PET_MASTER_PORT": port}
    return [start(command, out, runs, **place, PET_NODE_RANK=str(rank)) for rank in range(2)]


def signalled(process: subprocess.Popen, when_there_is: Path, what: signal.Signals, *, group: bool = False) -> int:
    """Send the signal once the file exists, to all that the program has started too if `group`.

    Returns the exit status.
    """
    deadline = time.monotonic() + 120
    while not when_there_is.exists():
        assert process.poll() is None, "the run ended before it could be stopped"
        assert time.monotonic() < deadline, f"{when_there_is} did not appear"
        time.sleep(0.01)
    os.killpg(process.pid, what) if group else process.send_signal(what)
    return process.wait(timeout=120)
