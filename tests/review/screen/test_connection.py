"""What a person reads when FiftyOne cannot be used. The real thing is driven in test_round_trip.py."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from tasks.core.errors import ReviewError
from tasks.review.screen import app
from tasks.review.screen.app import ADDRESS, refuse_taken_port
from tasks.review.screen.connection import at_home, connect, dataset_exists


@pytest.fixture
def broken_fiftyone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Puts a package named fiftyone, which fails while it is imported or when it connects, before the real one."""
    monkeypatch.setattr(os, "environ", os.environ.copy())
    real = take_out_fiftyone()

    def install(code: str, *, connecting: str = "") -> Path:
        for package, text in {
            "fiftyone": code,
            "fiftyone/brain": "",
            "fiftyone/core": "",
            "fiftyone/core/service": "class Service:\n    def _wait_for_child_port(self, port, timeout): ...",
            "fiftyone/core/odm": f"def get_db_client():\n    {connecting or 'return'}",
        }.items():
            (tmp_path / package).mkdir()
            (tmp_path / package / "__init__.py").write_text(text, encoding="utf-8")
        monkeypatch.syspath_prepend(str(tmp_path))
        return tmp_path / "folder"

    yield install
    take_out_fiftyone()
    sys.modules.update(real)


def take_out_fiftyone() -> dict[str, ModuleType]:
    """Every loaded module of FiftyOne, which the next import will not find."""
    return {name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] == "fiftyone"}


def test_a_missing_fiftyone_is_one_line(broken_fiftyone):
    folder = broken_fiftyone("raise ModuleNotFoundError(\"No module named 'fiftyone'\")")
    with pytest.raises(ReviewError, match="FiftyOne is not installed"):
        connect(folder)


def test_a_missing_mongodb_is_one_line_that_says_what_works_without_it(broken_fiftyone):
    folder = broken_fiftyone("raise RuntimeError('MongoDB could not be installed on your system. Please\\n define')")
    with pytest.raises(ReviewError) as caught:
        connect(folder)
    assert "(MongoDB could not be installed on your system)" in str(caught.value)
    assert "FIFTYONE_DATABASE_URI" in str(caught.value)
    assert "tasks verdict" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_database_that_does_not_answer_is_one_line_too(broken_fiftyone):
    # What FiftyOne says with FIFTYONE_DATABASE_URI=mongodb://127.0.0.1:9; it says so when it connects, not before.
    folder = broken_fiftyone("", connecting="raise ConnectionError('Could not connect to `mongod`. Is it running?')")
    with pytest.raises(ReviewError) as caught:
        connect(folder)
    assert "FiftyOne's MongoDB cannot be used (Could not connect to `mongod`)" in str(caught.value)


def serve_with(server, monkeypatch) -> None:
    """The App of a pushed dataset, its web server being the class that is given."""
    monkeypatch.setattr(app, "refuse_taken_port", lambda port: None)
    monkeypatch.setattr(app, "load_dataset", lambda name, folder: SimpleNamespace(slug="toy"))
    monkeypatch.setitem(sys.modules, "fiftyone.core.service", SimpleNamespace(ServerService=server))


def test_an_app_that_does_not_start_is_one_line_too(monkeypatch, tmp_path):
    def server(*_, **__):
        raise RuntimeError("ServerService failed to bind to port 5151")

    serve_with(server, monkeypatch)
    with pytest.raises(ReviewError, match=r"did not start \(ServerService failed to bind to port 5151\)"):
        app.open_app(name="toy", port=5151, folder=tmp_path, browser=False, announce=print)


def test_an_app_that_ends_while_it_is_open_is_said(monkeypatch, tmp_path):
    class Ends:
        def __init__(self, *_, **__): ...
        def wait(self):
            return 1

        def stop(self): ...

    serve_with(Ends, monkeypatch)
    told = []
    with pytest.raises(ReviewError, match=r"ended by itself \(exit code 1\)"):
        app.open_app(name="toy", port=5151, folder=tmp_path, browser=False, announce=told.append)
    assert told == ["http://127.0.0.1:5151/datasets/toy?view=01-undecided"]


def test_nothing_is_started_to_learn_that_nothing_was_ever_pushed(broken_fiftyone, monkeypatch):
    folder = broken_fiftyone("raise AssertionError('imported')")
    monkeypatch.delenv("FIFTYONE_DATABASE_URI", raising=False)
    assert not dataset_exists("tagwright", folder)
    assert not folder.exists()


def test_the_home_directory_is_put_back(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/somewhere")
    with at_home(tmp_path):
        assert os.environ["HOME"] == str(tmp_path)
    assert os.environ["HOME"] == "/somewhere"


def test_a_taken_port_is_one_line_with_the_port_and_the_key():
    with socket.socket() as taken:
        taken.bind((ADDRESS, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ReviewError, match=rf"port {port} .*review\.port in params\.yaml"):
            refuse_taken_port(port)
    refuse_taken_port(port)
