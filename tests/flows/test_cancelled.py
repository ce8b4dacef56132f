"""A scheduled run that somebody cancels in Prefect: its training ends, and it is Cancelled, as its stage is."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from prefect import get_client
from prefect.settings import PREFECT_API_URL
from prefect.states import Cancelling

from tests.flows.conftest import until

pytestmark = pytest.mark.usefixtures("prefect_server")

TRAINING = "import os, time; open('pid', 'w').write(str(os.getpid())); time.sleep(600)"


def test_a_cancelled_run_ends_its_training_and_is_cancelled_as_its_stage_is(toy, root):
    toy({"train": {"cmd": "python train.py", "outs": ["model"]}}, scripts={"train.py": TRAINING})
    environment = {
        **os.environ,
        "PYTHONPATH": str(root),
        "PREFECT_API_URL": PREFECT_API_URL.value(),
        "PREFECT_RUNNER_POLL_FREQUENCY": "1",
    }
    with open("serve.log", "wb") as log:
        serving = subprocess.Popen(
            [sys.executable, "-m", "flows", "serve"], env=environment, stdout=log, stderr=log, start_new_session=True
        )
    try:
        with get_client(sync_client=True) as client:

            def deployment():
                with contextlib.suppress(Exception):  # not there yet
                    return client.read_deployment_by_name("tagwright/nightly")

            run = client.create_flow_run_from_deployment(until(deployment).id)
            training = int(until(lambda: Path("pid").exists() and Path("pid").read_text()))
            client.set_flow_run_state(run.id, Cancelling(), force=True)
            until(lambda: not psutil.pid_exists(training))
            until(lambda: client.read_flow_run(run.id).state.is_final())
            until(lambda: all(task.state.is_final() for task in client.read_task_runs()))
            stages = [task for task in client.read_task_runs() if task.flow_run_id == run.id]
            assert client.read_flow_run(run.id).state.type.value == "CANCELLED", Path("serve.log").read_text()
            assert [task.state.type.value for task in stages] == ["CANCELLED"]
        assert "Traceback" not in Path("serve.log").read_text()
    finally:
        serving.terminate()
        serving.wait()
