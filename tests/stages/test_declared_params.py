"""dvc.yaml declares the params that a stage reads, no more and no fewer: what is read undeclared can leave a result
stale, what is declared unread runs a stage for nothing."""

from __future__ import annotations

import importlib
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from tasks.params import Params, load_params
from tests.imports import ROOT, stage_names

ANYTIME = ("paths",)
"""Where files lie; dvc.yaml's deps and outs are made of these same entries."""


class Recorder:
    """Params that note which keys are read. A section handed on whole counts by what is then read of it."""

    def __init__(self, section: BaseModel, at: str, read: set[str], replaced: frozenset[str] = frozenset()) -> None:
        self.__dict__ |= {"_section": section, "_at": at, "_read": read, "_replaced": replaced}

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._section, name)
        if name not in type(self._section).model_fields:  # a method, or an option beyond the fields, e.g. of a Choice
            if name == "model_copy":
                return lambda update: Recorder(
                    self._section.model_copy(update=update), self._at, self._read, self._replaced | update.keys()
                )
            if name == "model_dump":
                return lambda include=None, **kwargs: self._dump(include, kwargs)
            self._read.add(self._at)
            return value
        if name in self._replaced:
            return value
        return self._recorded(value, f"{self._at}.{name}".lstrip("."))

    def _dump(self, include: set[str] | None, kwargs: dict) -> dict:
        self._read |= {f"{self._at}.{name}" for name in (include or type(self._section).model_fields)}
        return self._section.model_dump(include=include, **kwargs)

    def _recorded(self, value: Any, at: str) -> Any:
        if isinstance(value, BaseModel):
            return Recorder(value, at, self._read)
        if isinstance(value, dict) and value and all(isinstance(v, BaseModel) for v in value.values()):
            self._read.add(at)
            return {key: Recorder(v, f"{at}.{key}", self._read) for key, v in value.items()}
        self._read.add(at)
        return value


@pytest.fixture(scope="module")
def finished(home, tmp_path_factory) -> Path:
    """A copy of a finished run, in which stages may run again."""
    folder = tmp_path_factory.mktemp("declared") / "home"
    shutil.copytree(home, folder, ignore=shutil.ignore_patterns(".git", ".dvc", ".mlflow"))
    return folder


def covers(declared: str, key: str) -> bool:
    return key == declared or key.startswith(f"{declared}.")


@pytest.mark.parametrize("name", [name for name in stage_names() if name != "code"])
def test_a_stage_declares_what_it_reads_and_reads_what_it_declares(finished, monkeypatch, name):
    monkeypatch.chdir(finished)
    monkeypatch.setenv("TAGWRIGHT_TRACKING", "off")
    monkeypatch.setenv("TAGWRIGHT_WORKERS", "1")
    params = load_params()
    stage = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"][name]
    item = next(iter(params.sources)) if "foreach" in stage else None
    declared = [key.replace("${key}", str(item)) for key in stage.get("do", stage).get("params", [])]

    read: set[str] = set()
    recorder: Params = Recorder(params, "", read)  # type: ignore[assignment]
    module = importlib.import_module(f"tasks.stages.{name}")
    module.run(recorder, item) if item else module.run(recorder)
    if item:  # the mapping of all sources is only the way to the one
        read.discard("sources")

    undeclared = {key for key in read if key.split(".")[0] not in ANYTIME and not any(covers(d, key) for d in declared)}
    assert not undeclared, f"{name} reads {sorted(undeclared)}, which dvc.yaml does not declare"
    unread = {d for d in declared if not any(covers(d, key) or covers(key, d) for key in read)}
    assert not unread, f"{name} declares {sorted(unread)} in dvc.yaml and does not read it"
