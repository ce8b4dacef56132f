"""Starting `toy_run` as a program: alone, with torchrun, and killed on the way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
ALONE = [sys.executable, "-m"]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]


def start(command: list[str], out: Path, runs: dict[str, dict[str, Any]]) -> subprocess.Popen:
    """The program with its output in out/log."""
    out.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    with open(out / "log", "a") as log:
        return subprocess.Popen(
            [*command, "tests.training.toy_run", str(out), json.dumps(runs)],
            cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT,
        )  # fmt: skip


def signalled(process: subprocess.Popen, when_there_is: Path, what: signal.Signals) -> int:
    """Send the signal once the file exists. Returns the exit status."""
    deadline = time.monotonic() + 120
    while not when_there_is.exists():
        assert process.poll() is None, "the run ended before it could be stopped"
        assert time.monotonic() < deadline, f"{when_there_is} did not appear"
        time.sleep(0.01)
    process.send_signal(what)
    return process.wait(timeout=120)
