"""Toy DVC repositories, and one temporary Prefect server for all tests of the flow (it costs 10-17 s to start)."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml


@pytest.fixture(autouse=True)
def _no_tracking(monkeypatch):
    """Tests that look at MLflow turn it on again."""
    monkeypatch.setenv("TAGWRIGHT_TRACKING", "off")


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[None]:
    from prefect.testing.utilities import prefect_test_harness

    import flows  # noqa: F401  its defaults must be set before prefect is imported

    with prefect_test_harness(server_startup_timeout=120):
        yield


@pytest.fixture
def toy(tmp_path, monkeypatch) -> Callable[..., Path]:
    """Make the working directory a DVC repository with these stages, params and scripts (`python NAME`)."""

    def make(
        stages: dict[str, Any], params: dict[str, Any] | None = None, scripts: dict[str, str] | None = None
    ) -> Path:
        (tmp_path / ".dvc").mkdir()
        (tmp_path / ".dvc/config").write_text("[core]\n  no_scm = true\n  analytics = false\n  check_update = false\n")
        (tmp_path / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}, sort_keys=False))
        (tmp_path / "params.yaml").write_text(yaml.safe_dump(params or {}))
        for name, code in (scripts or {}).items():
            (tmp_path / name).write_text(textwrap.dedent(code))
        monkeypatch.chdir(tmp_path)
        return tmp_path

    return make


PATIENCE_S = 300
"""For a busy machine."""


def until(happened: Callable[[], Any]) -> Any:
    """What it returns, once that is true."""
    deadline = time.monotonic() + PATIENCE_S
    while not (result := happened()):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    return result


def copy_stage(output: str, *inputs: str, **more: Any) -> dict[str, Any]:
    """A stage that joins its inputs and its own name into `output`, as fast as a process starts."""
    return {
        "cmd": f"cat {' '.join(inputs)} /dev/null > {output} && echo {output} >> {output}",
        "deps": [*inputs],
        "outs": [output],
        **more,
    }


# A stage's digests are the texts of the files that it names in params.yaml, as those of modules.
DIGESTS = """
    import json, pathlib, yaml
    stages = yaml.safe_load(open("params.yaml"))["reach"]
    pathlib.Path("code").mkdir(exist_ok=True)
    for stage, names in stages.items():
        modules = {f"tasks.{name}": pathlib.Path(f"tasks/{name}.txt").read_text() for name in names}
        pathlib.Path(f"code/{stage}.json").write_text(json.dumps({"modules": modules}))
"""


@pytest.fixture
def digesting_toy(toy, monkeypatch) -> Path:
    """A repository with a stage `code` of `tasks/`; `train` and `split` read their file of it, `score` reads both."""
    reach = {"train": ["asl", "loop"], "split": ["folds"], "score": ["f1"]}

    def fingerprints(root: Path) -> dict[str, dict[str, str]]:
        return {
            stage: {f"tasks.{name}": (root / f"tasks/{name}.txt").read_text() for name in names}
            for stage, names in reach.items()
        }

    monkeypatch.setattr("flows.dvc_status.fingerprints_today", fingerprints)
    root = toy(
        {
            "code": {"cmd": "python digests.py", "deps": ["tasks", "params.yaml"], "outs": ["code"]},
            "train": {"cmd": "echo 1 > model", "deps": ["code/train.json"], "outs": ["model"]},
            "split": {"cmd": "echo 2 > parts", "deps": ["code/split.json"], "outs": ["parts"]},
            "score": {"cmd": "echo 3 > scores", "deps": ["model", "parts", "code/score.json"], "outs": ["scores"]},
        },
        {"reach": reach},
        {"digests.py": DIGESTS},
    )
    (root / "tasks").mkdir()
    for name in ("asl", "loop", "folds", "f1", "unused"):
        (root / f"tasks/{name}.txt").write_text("text")
    return root
