"""A repository folder whose stages are recorded, with the recorder under the test's control."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import ROOT

Run = Callable[..., int]


@pytest.fixture(scope="module")
def repository(tmp_path_factory) -> Path:
    """A git repository with one commit; one for a module, because MLflow takes seconds to create its database."""
    folder = tmp_path_factory.mktemp("repository")
    (folder / "code.py").write_text("x = 1\n")
    for command in ("init -q", "add code.py", "-c user.name=t -c user.email=t@example.org commit -qm first"):
        subprocess.run(["git", *command.split()], cwd=folder, check=True)
    return folder


@pytest.fixture
def run(repository, monkeypatch) -> Run:
    """Run code as a process of its own in the repository; returns its exit status. It starts no recorder."""
    from filelock import FileLock

    monkeypatch.chdir(repository)
    for name in (
        "TAGWRIGHT_TRACKING",
        "TAGWRIGHT_PARENT_RUN_ID",
        "RANK",
        "MLFLOW_TRACKING_URI",
        "MLFLOW_EXPERIMENT_NAME",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")

    def run_code(code: str, **environment: str) -> int:
        (repository / ".mlflow").mkdir(exist_ok=True)
        with FileLock(repository / ".mlflow/recorder.lock"):  # to a stage, a recorder seems to be at work
            done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], env={**os.environ, **environment})
        return done.returncode

    return run_code
