"""One stage through DVC as a process: what happened is named, lines come live, a stop leaves nothing behind."""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from flows import dvc_locks, repro
from tasks.core.errors import PipelineError
from tests.flows.conftest import copy_stage


@pytest.fixture(autouse=True)
def _may_start():
    repro.allow_starts()
    yield
    repro.allow_starts()


def ignore(line: str) -> None: ...


def test_ran_fresh_and_restored_are_distinguished(toy):
    toy({"a": copy_stage("a", params=["n"])}, {"n": 1})
    assert repro.reproduce("a", on_line=ignore) == "ran"
    assert repro.reproduce("a", on_line=ignore) == "fresh"
    Path("a").unlink()
    assert repro.reproduce("a", on_line=ignore) == "restored"
    assert Path("a").read_text() == "a\n"


def test_a_stage_that_quotes_dvc_is_not_mistaken_for_it(toy):
    toy({"a": {"cmd": "echo \"Stage 'b' is cached - skipping run, checking out outputs\" > a; cat a", "outs": ["a"]}})
    assert repro.reproduce("a", on_line=ignore) == "ran"


def test_what_one_clone_has_pushed_another_restores_without_running_it(toy, tmp_path_factory):
    remote = tmp_path_factory.mktemp("remote")
    first = toy({"a": copy_stage("a", params=["n"])}, {"n": 1})
    with open(".dvc/config", "a") as config:
        config.write(f'  remote = store\n[remote "store"]\n  url = {remote}\n')
    second = tmp_path_factory.mktemp("second") / "clone"
    shutil.copytree(first, second)
    assert repro.reproduce("a", on_line=ignore, pull=True) == "ran"
    repro.share("push")
    repro.share("fetch", second)
    assert repro.reproduce("a", on_line=ignore, root=second, pull=True) == "restored"
    assert (second / "a").read_text() == "a\n"


def test_sharing_without_a_remote_is_one_line(toy):
    toy({"a": copy_stage("a", params=["n"])}, {"n": 1})
    with pytest.raises(PipelineError, match=r"^dvc fetch: No remote .*run without --share\.$"):
        repro.share("fetch")


def test_a_push_that_fails_says_what_dvc_says_of_it(toy):
    folder = toy({"a": copy_stage("a")})
    (folder / "store").mkdir()
    (folder / "store/files").write_text("")  # where DVC wants a folder
    with open(folder / ".dvc/config", "a") as config:
        config.write(f"remote = store\n['remote \"store\"']\nurl = {folder / 'store'}\n")
    repro.reproduce("a", on_line=ignore)
    with pytest.raises(PipelineError, match=r"^dvc push: [^\n]*Not a directory[^\n]*run without --share\.$"):
        repro.share("push")


def test_lines_come_while_the_stage_runs_and_hints_for_a_terminal_do_not(toy):
    # The stage waits for a file that only a line of its own makes us write: without streaming it would never end.
    code = """
        import os, time
        print("ready")
        while not os.path.exists("go"):
            time.sleep(0.05)
        open("a", "w")
    """
    toy({"a": {"cmd": "python wait.py", "outs": ["a"]}}, scripts={"wait.py": code})
    lines = []

    def on_line(line: str) -> None:
        lines.append(line)
        if line == "ready":
            Path("go").touch()

    assert repro.reproduce("a", on_line=on_line) == "ran"
    assert "ready" in lines
    assert not any("git add" in line or "dvc push" in line for line in lines)


def test_python_in_a_command_is_the_python_that_runs_the_flow(toy):
    toy({"a": {"cmd": "python -c \"import sys; print(sys.executable, file=open('a', 'w'))\"", "outs": ["a"]}})
    repro.reproduce("a", on_line=ignore)
    assert Path(Path("a").read_text().strip()).parent == Path(sys.executable).parent


def test_a_failure_has_the_cause_first_then_the_last_lines_and_what_to_type(toy):
    toy({"a": {"cmd": "echo read 3 images; echo 'error: raw/x.json: no such file' >&2; exit 1", "outs": ["a"]}})
    with pytest.raises(PipelineError) as error:
        repro.reproduce("a", on_line=ignore)
    first, *rest = str(error.value).splitlines()
    assert first == "a: error: raw/x.json: no such file"
    assert "    read 3 images" in rest
    assert rest[-1] == "Run it by hand: python -m dvc repro --single-item a"


def test_a_failure_without_output_has_dvcs_message(toy):
    toy({"a": {"cmd": "exit 3", "outs": ["a"]}})
    with pytest.raises(PipelineError, match=r"^a: failed to reproduce 'a': failed to run: exit 3, exited with 3\n"):
        repro.reproduce("a", on_line=ignore)


def test_a_stop_ends_the_stage_with_all_it_started_and_lets_nothing_start(toy):
    code = "import os, time; print('pid', os.getpid()); time.sleep(600)"
    toy({"a": {"cmd": "python sleep.py", "outs": ["a"]}}, scripts={"sleep.py": code})
    pids, failures = [], []
    started = threading.Event()

    def on_line(line: str) -> None:
        if line.startswith("pid "):
            pids.append(int(line.split()[1]))
            started.set()

    def run() -> None:
        try:
            repro.reproduce("a", on_line=on_line)
        except PipelineError as error:
            failures.append(str(error))

    thread = threading.Thread(target=run)
    thread.start()
    assert started.wait(60)
    repro.stop_all()
    thread.join(60)
    assert not thread.is_alive()
    assert not psutil.pid_exists(pids[0]) or psutil.Process(pids[0]).status() == psutil.STATUS_ZOMBIE
    assert len(failures) == 1
    with pytest.raises(PipelineError, match="not started, the flow was stopped"):
        repro.reproduce("a", on_line=ignore)


def test_a_stage_that_saves_its_state_on_sigterm_is_given_the_time(toy):
    code = """
        import signal, sys, time
        def save(*_):
            time.sleep(0.5)
            open("saved", "w")
            sys.exit(143)
        signal.signal(signal.SIGTERM, save)
        print("ready")
        time.sleep(600)
    """
    toy({"a": {"cmd": "python train.py", "outs": ["a"]}}, scripts={"train.py": code})
    stopper = threading.Thread(target=repro.stop_all)
    with pytest.raises(PipelineError):
        repro.reproduce("a", on_line=lambda line: stopper.start() if line == "ready" else None)
    stopper.join()
    assert Path("saved").exists()


def test_a_path_that_another_dvc_process_works_on_is_waited_for(toy, monkeypatch):
    monkeypatch.setattr(dvc_locks, "RETRY_S", 0.2)
    toy({"a": {"cmd": "touch started; while [ ! -e go ]; do sleep 0.1; done; touch a", "outs": ["a"]}})
    lines: list[str] = []

    def on_line(line: str) -> None:
        lines.append(line)
        if line.startswith("waiting for DVC process"):
            Path("go").touch()

    first = threading.Thread(target=repro.reproduce, args=("a",), kwargs={"on_line": ignore})
    first.start()
    while not Path("started").exists():
        time.sleep(0.05)
    assert repro.reproduce("a", on_line=on_line) == "fresh"
    first.join()
    assert len([line for line in lines if line.startswith("waiting for DVC process")]) == 1


def test_a_lock_whose_pid_belongs_to_something_else_now_is_left_to_dvcs_advice(monkeypatch):
    lines = [
        "ERROR: failed to reproduce 'a': 'x' is busy, it is being blocked by:",
        f"  (PID {os.getpid()}): dvc repro",
    ]
    assert dvc_locks.blocking_pids("\n".join(lines)) == {os.getpid()}
    assert not dvc_locks.is_dvc(os.getpid())
