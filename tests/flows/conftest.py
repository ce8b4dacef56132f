"""Toy DVC repositories, and one temporary Prefect server for all tests of the flow (it costs 10-17 s to start)."""

from __future__ import annotations

import textwrap
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


def copy_stage(output: str, *inputs: str, **more: Any) -> dict[str, Any]:
    """A stage that joins its inputs and its own name into `output`, as fast as a process starts."""
    return {
        "cmd": f"cat {' '.join(inputs)} /dev/null > {output} && echo {output} >> {output}",
        "deps": [*inputs],
        "outs": [output],
        **more,
    }
