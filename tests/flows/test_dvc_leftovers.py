"""What a killed DVC process has left half written stops no later run."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from dvc.repo import Repo

from flows.dvc_status import read_status
from tasks.core.errors import PipelineError

RWLOCK = Path(".dvc/tmp/rwlock")


@pytest.fixture
def repository(toy) -> Path:
    """Its one stage notes when it runs."""
    root = toy({"write": {"cmd": "echo run >> runs && cat zero > one", "deps": ["zero"], "outs": ["one"]}})
    Path("zero").touch()
    RWLOCK.parent.mkdir()
    return root


def test_a_lock_of_paths_that_was_half_written_is_removed(repository):
    RWLOCK.write_text('{"write": {"/x": {"pi')
    assert read_status(repository).never_ran == {"write"}
    json.loads(RWLOCK.read_text())


def test_paths_of_processes_that_are_gone_are_free_and_those_of_the_living_are_not(repository):
    with subprocess.Popen(["true"]) as gone:
        gone.wait()
    holders = {"/gone": gone.pid, "/living": os.getpid()}
    infos = {path: {"pid": pid, "cmd": "dvc repro"} for path, pid in holders.items()}
    held = {"write": infos, "read": {path: [info] for path, info in infos.items()}}
    RWLOCK.write_text(json.dumps(held))
    read_status(repository)
    left = json.loads(RWLOCK.read_text())
    assert [*left["write"]] == [*left["read"]] == ["/living"]


def test_a_path_whose_holders_number_something_younger_has_got_is_free(repository):
    RWLOCK.write_text(json.dumps({"write": {"/x": {"pid": os.getpid(), "cmd": "dvc repro"}}}))
    os.utime(RWLOCK, (0, 0))
    read_status(repository)
    assert json.loads(RWLOCK.read_text())["write"] == {}


def test_copies_that_dvc_had_begun_are_removed_while_no_dvc_is_at_work(repository):
    begun, own = Path(".AZm1P2-aGWVlvnGWXtehbA.tmp"), Path("notes.tmp")
    for path in (begun, own):
        path.touch()
    holder = {"pid": os.getpid(), "cmd": "dvc repro"}
    RWLOCK.write_text(json.dumps({"write": {"/x": holder}}))
    read_status(repository)
    assert begun.exists()
    RWLOCK.unlink()
    read_status(repository)
    assert not begun.exists()
    assert own.exists()


def test_a_dvc_lock_that_was_cut_off_is_set_aside_and_its_stages_are_not_run_again(repository, caplog):
    for left in ("", "  wri", "  write:\n    cmd", "  write:\n"):
        with Repo(".") as repo:
            repo.reproduce()
        Path("dvc.lock").write_text(f"schema: '2.0'\nstages:\n{left}")
        read_status(repository)
    assert caplog.text.count("dvc.lock was cut off") >= 2
    assert Path(".dvc/tmp/dvc.lock.cut-off").exists()
    with Repo(".") as repo:
        repo.reproduce()
    assert Path("runs").read_text() == "run\n"


def test_a_dvc_lock_with_a_conflict_of_git_is_a_persons(repository):
    Path("dvc.lock").write_text("schema: '2.0'\nstages:\n<<<<<<< ours\n  write: {}\n")
    with pytest.raises(PipelineError, match=r"dvc\.lock"):
        read_status(repository)
    assert Path("dvc.lock").exists()
