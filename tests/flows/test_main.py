"""The command line: exit codes, one-line errors, and a whole run as a user types it, without a server."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from typer.testing import CliRunner

from tasks.core.errors import PipelineError
from tests.flows.conftest import copy_stage

PATIENCE_S = 120
"""For a busy machine; a paused run is seen and resumed within seconds."""


def flows(*arguments: str, root: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "flows", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(root), "COLUMNS": "80", **environment},
    )


def test_help_imports_neither_prefect_nor_dvc(root):
    code = (
        "import sys; sys.argv = ['flows', '--help']\n"
        "import flows.__main__ as m\n"
        "try: m.main()\nexcept SystemExit: pass\n"
        "heavy = {'prefect', 'dvc', 'mlflow', 'torch'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], cwd=root, check=True, capture_output=True)


def test_wrong_usage_is_2_and_a_users_error_is_1_with_one_line(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert flows("runn", root=root).returncode == 2
    done = flows("plan", root=root)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.e2e
def test_a_run_without_a_server_streams_reports_and_fails_last(toy, root, tmp_path, monkeypatch):
    toy(
        {
            "good": copy_stage("g"),
            "bad": {"cmd": "echo 'error: truncated' >&2; exit 1", "outs": ["x"]},
            "last": copy_stage("l", "x", "g"),
        }
    )
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    done = flows("run", root=root, PREFECT_HOME=str(tmp_path / "prefect"), PREFECT_PROFILE="ephemeral")
    assert done.returncode == 1
    *streamed, error = done.stderr.splitlines()
    assert error == (
        "error: 1 of 3 stages failed. bad: error: truncated. 1 that need them did not run (last). "
        "Run it by hand: python -m dvc repro --single-item bad"
    )
    assert any(line.endswith("good | Running stage 'good':") for line in streamed)
    assert not any("Traceback" in line or "Finished in state" in line for line in streamed)
    states = {line.split()[0]: line.split()[1] for line in done.stdout.splitlines()}
    assert states == {"stage": "state", "good": "ran", "bad": "failed", "last": "skipped"}


def test_the_steps_of_a_review_are_run_by_tasks_with_their_exit_code(monkeypatch):
    from flows import __main__ as module

    commands = []
    answer = SimpleNamespace(returncode=1)
    monkeypatch.setattr(module.subprocess, "run", lambda command: commands.append(command) or answer)
    result = CliRunner().invoke(module.app, ["review", "push", "--budget", "50"])
    assert result.exit_code == 1
    assert commands == [[sys.executable, "-m", "tasks", "review", "push", "--budget", "50"]]


@pytest.fixture
def steps(monkeypatch, prefect_server) -> list[str]:
    """What a review does, in order; nothing of it is really done."""
    from flows import review as module

    done: list[str] = []
    answer = SimpleNamespace(returncode=0)
    screen = SimpleNamespace(terminate=lambda: done.append("close"), wait=lambda timeout: None)
    monkeypatch.setattr(module.subprocess, "run", lambda command: done.append(command[-1]) or answer)
    monkeypatch.setattr(module.subprocess, "Popen", lambda command: done.append(command[-1]) or screen)
    monkeypatch.setattr(module, "pause_flow_run", lambda timeout: done.append("pause"))
    return done


def test_a_review_pushes_says_where_the_screen_is_waits_and_pulls(steps, caplog):
    from flows.review import review

    review()
    assert steps == ["push", "pause", "pull"]
    lines = [record.getMessage() for record in caplog.records if record.name == "prefect.flow_runs"]
    assert "in another terminal: python -m tasks review open, then http://127.0.0.1:5151" in lines
    assert any(line.startswith("then resume this run on its page, or: prefect flow-run resume ") for line in lines)


def test_a_review_can_open_the_screen_and_closes_it_before_it_pulls(steps):
    from flows.review import review

    review(open_screen=True)
    assert steps == ["push", "open", "pause", "close", "pull"]


def test_a_review_is_paused_until_somebody_resumes_its_run_and_only_then_pulls(steps, monkeypatch):
    from prefect.flow_runs import pause_flow_run

    from flows import review as module

    monkeypatch.setattr(module, "pause_flow_run", partial(pause_flow_run, poll_interval=1))  # of 10 s
    monkeypatch.setattr(module, "PATIENCE_S", PATIENCE_S)
    with ThreadPoolExecutor() as pool:
        person = pool.submit(resume_the_paused_run, steps)
        module.review()
    assert person.result() == "tagwright-review"
    assert steps == ["push", "resume", "pull"]


def resume_the_paused_run(steps: list[str]) -> str:
    """As `prefect flow-run resume` does, once a run is paused. Returns the name of its flow."""
    from prefect.client.orchestration import get_client
    from prefect.flow_runs import resume_flow_run

    deadline = time.monotonic() + PATIENCE_S
    with get_client(sync_client=True) as client:
        while time.monotonic() < deadline:
            for run in client.read_flow_runs():
                if run.state and run.state.is_paused():
                    steps.append("resume")
                    resume_flow_run(run.id)
                    return client.read_flow(run.flow_id).name
            time.sleep(0.2)
    raise TimeoutError("no flow run was paused")


def test_without_a_server_a_review_waits_for_enter_and_without_a_terminal_says_what_is_left_to_do(monkeypatch):
    from prefect.settings import PREFECT_API_URL, temporary_settings

    from flows import review as module

    prompts = []
    with temporary_settings({PREFECT_API_URL: None}):
        with monkeypatch.context() as patch:
            patch.setattr("builtins.input", prompts.append)
            module.wait_for_the_person()
        monkeypatch.setattr("sys.stdin", io.StringIO())
        with pytest.raises(PipelineError, match="python -m tasks review pull"):
            module.wait_for_the_person()
    assert len(prompts) == 1


def test_a_review_whose_push_failed_asks_nobody(monkeypatch, prefect_server):
    from flows import review as module

    monkeypatch.setattr(module.subprocess, "run", lambda command: SimpleNamespace(returncode=1))
    monkeypatch.setattr(module, "pause_flow_run", lambda timeout: pytest.fail("asked"))
    with pytest.raises(PipelineError, match="python -m tasks review push"):
        module.review()


def test_a_schedule_without_a_server_says_how_to_get_one():
    from prefect.settings import PREFECT_API_URL, temporary_settings

    from flows.deploy import serve

    with temporary_settings({PREFECT_API_URL: None}), pytest.raises(PipelineError, match="prefect server start"):
        serve()


def test_the_work_pool_and_serve_have_the_same_night(root):
    from flows.deploy import NIGHTLY

    declared = yaml.safe_load((root / "prefect.yaml").read_text(encoding="utf-8"))
    deployments = {d["name"]: d for d in declared["deployments"]}
    (schedule,) = deployments["nightly"]["schedules"]
    assert schedule == {"cron": NIGHTLY.cron, "timezone": NIGHTLY.timezone, "slug": NIGHTLY.slug}


def test_deployments_point_at_flows_that_exist(root, monkeypatch):
    from prefect.flows import load_flow_from_entrypoint

    monkeypatch.chdir(root)
    for deployment in yaml.safe_load(Path("prefect.yaml").read_text(encoding="utf-8"))["deployments"]:
        assert load_flow_from_entrypoint(deployment["entrypoint"]).name in ("tagwright", "tagwright-review")


def test_a_temporary_server_that_does_not_start_in_time_is_one_line(monkeypatch):
    import prefect

    from flows.server import reach_server

    def too_slow(**options):
        raise RuntimeError("Timed out while attempting to connect to ephemeral Prefect API server.")

    monkeypatch.setattr(prefect, "get_client", too_slow)
    with pytest.raises(
        PipelineError, match=r"temporary server did not start within \d+ s\. .*prefect server start"
    ) as error:
        reach_server()
    assert "\n" not in str(error.value)
