"""Prefect's temporary server lives as long as its flow: no signal that ends the flow takes it away first."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import psutil
import pytest

from tests.flows.conftest import PATIENCE_S, until

FLOW = """
    import subprocess, sys, time
    from prefect.server.api.server import SubprocessASGIServer
    from flows.temporary_server import TemporaryServer

    line = [sys.executable, "-c", "import time; time.sleep(600)"]
    SubprocessASGIServer._run_uvicorn_command = lambda self: subprocess.Popen(line)
    server = TemporaryServer()
    assert SubprocessASGIServer() is server, "what Prefect asks for"
    for turn in range(2):
        server.server_process = server._run_uvicorn_command()
        server.watch()
        if turn == 0:
            server.stop()
            server = TemporaryServer()
    print(server.server_process.pid, flush=True)
    time.sleep(600)
"""
TRAINING = "import os, time; open('pid', 'w').write(str(os.getpid())); time.sleep(600)"


def test_the_server_is_in_a_session_of_its_own_and_when_it_ends_by_itself_so_does_the_flow_in_one_line(root):
    line = [sys.executable, "-c", textwrap.dedent(FLOW)]
    flow = subprocess.Popen(line, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    server = int(flow.stdout.readline())
    assert os.getsid(server) == server
    os.kill(server, signal.SIGTERM)
    _, said = flow.communicate(timeout=PATIENCE_S)
    assert flow.returncode == 1
    assert said == "error: Prefect's temporary server was ended. Run it again: what is done stays done.\n"


@pytest.mark.e2e
def test_sigterm_to_all_of_the_flows_group_ends_it_and_all_it_has_started_with_one_line(toy, root, tmp_path):
    toy({"train": {"cmd": "python train.py", "outs": ["model"]}}, scripts={"train.py": TRAINING})
    own = {"PYTHONPATH": str(root), "PREFECT_HOME": str(tmp_path / "prefect"), "PREFECT_PROFILE": "ephemeral"}
    environment = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"} | own
    line = [sys.executable, "-m", "flows", "run"]
    flow = subprocess.Popen(line, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True)
    until(lambda: Path("pid").exists() and Path("pid").read_text())
    os.killpg(flow.pid, signal.SIGTERM)
    _, said = flow.communicate(timeout=PATIENCE_S)
    assert flow.returncode == 143, said
    assert said.splitlines()[-1] == "stopped"
    assert "Traceback" not in said
    until(lambda: not [process for process in psutil.process_iter() if is_of(tmp_path, process)])


def is_of(home: Path, process: psutil.Process) -> bool:
    try:
        return process.environ().get("PREFECT_HOME") == str(home / "prefect")
    except psutil.Error:
        return False
