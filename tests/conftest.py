"""Shared fixtures: the repository root and the real data kept beside it."""

from __future__ import annotations

import os
from pathlib import Path

import hypothesis
import pytest

from tests.homes import new_home, run

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "20000")
os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")

# The same examples at every run; and no wall time is asserted: the first call of a compiled function takes seconds.
hypothesis.settings.register_profile("tagwright", deadline=None, derandomize=True)
hypothesis.settings.load_profile("tagwright")

ROOT = Path(__file__).resolve().parents[1]
REAL_DATA = ROOT.parent / "shared" / "data"


def pytest_itemcollected(item: pytest.Item) -> None:
    """With several processes, the tests that share the slow home stay on one, and so do those of each other file."""
    shared = "home" in getattr(item, "fixturenames", ())
    item.add_marker(pytest.mark.xdist_group("home" if shared else item.path.relative_to(ROOT).as_posix()))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The shared home first, it takes longest; Prefect's tests last, also with several processes (see the Makefile).

    Once Prefect's server has run in a process, forked loader workers die at that process's end.
    """

    def turn(item: pytest.Item) -> int:
        if item.path.is_relative_to(ROOT / "tests/flows"):
            return 2
        return 0 if "home" in getattr(item, "fixturenames", ()) else 1

    items.sort(key=turn)


@pytest.fixture(scope="session")
def home(tmp_path_factory) -> Path:
    """A small home in which the flow has run once. A test that changes it puts it back."""
    folder = new_home(tmp_path_factory.mktemp("home"))
    run(folder, "flows", "run")
    return folder


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets; a test that needs it is skipped, by name, where it is absent."""
    if not REAL_DATA.is_dir():
        pytest.skip(f"needs the real data kits in {REAL_DATA.name}/ beside the repository")
    return REAL_DATA
