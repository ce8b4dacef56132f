"""What a flow has started ends with it, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap

import psutil

FLOW = """
    import subprocess, sys, time
    from flows import survivor
    options = {"start_new_session": True, "stdout": subprocess.DEVNULL}
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(600)'])"
    group = subprocess.Popen([sys.executable, "-c", code], **options)
    survivor.guard(-group.pid)
    server = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], stdout=subprocess.DEVNULL)
    survivor.guard(server.pid)
    released = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], **options)
    survivor.guard(-released.pid)
    survivor.release(-released.pid)
    time.sleep(1)
    print(group.pid, server.pid, released.pid, survivor._survivor.pid, flush=True)
    time.sleep(600)
"""


def test_after_sigkill_nothing_guarded_is_left_and_what_was_released_is_left_alone(root):
    flow = subprocess.Popen([sys.executable, "-c", textwrap.dedent(FLOW)], cwd=root, stdout=subprocess.PIPE, text=True)
    group, server, released, survivor = map(int, flow.stdout.readline().split())
    members = [psutil.Process(group), *psutil.Process(group).children(recursive=True)]
    assert len(members) == 2
    flow.kill()
    flow.wait()
    _, alive = psutil.wait_procs([*members, psutil.Process(server), psutil.Process(survivor)], timeout=60)
    assert not [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]
    assert psutil.pid_exists(released)
    os.kill(released, signal.SIGKILL)


def test_a_server_that_does_not_answer_is_one_line(root, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "flows", "run"],
        env={**os.environ, "PYTHONPATH": str(root), "PREFECT_API_URL": "http://127.0.0.1:9/api"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr.startswith("error: PREFECT_API_URL: no Prefect server answers at http://127.0.0.1:9/api")
