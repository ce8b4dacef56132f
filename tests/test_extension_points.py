"""docs/extending.md: each row names a file, a dict that exists, and a new entry is taken at once."""

from __future__ import annotations

import importlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from tasks.commands.recipe import apply_recipe, list_recipes
from tasks.core.errors import ParamsError
from tasks.core.registry import Choice
from tasks.evaluation.measure import evaluate
from tasks.params import Export
from tests.imports import ROOT

TABLE = (ROOT / "docs/extending.md").read_text(encoding="utf-8")
ROWS = [
    [column.strip() for column in line.strip("|").split("|")]
    for line in TABLE.splitlines()
    if line.startswith("| ") and not line.startswith(("| to add", "|---"))
]
REGISTRY_ROWS = {
    what: re.search(r"`([A-Z_]+)` in `([^`]+)`", where).groups() for what, _, where in ROWS if "` in `" in where
}
BUILT = [what for what in REGISTRY_ROWS if what not in ("metric", "variant of the exported model")]
"""Rows whose entries are chosen in params.yaml by name, with options."""


def registry_of(what: str) -> Mapping[str, Callable]:
    dict_name, file = REGISTRY_ROWS[what]
    module = file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    return getattr(importlib.import_module(module), dict_name)


@pytest.fixture
def copy(tmp_path) -> Path:
    """The repository's code and params, to add to."""
    shutil.copytree(ROOT / "tasks", tmp_path / "tasks", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copyfile(ROOT / "params.yaml", tmp_path / "params.yaml")
    return tmp_path


def test_the_table_names_every_registry_of_the_packages():
    there = {
        (dict_name, path.relative_to(ROOT).as_posix())
        for path in (ROOT / "tasks").rglob("__init__.py")
        for dict_name in re.findall(r"^([A-Z_]+)(?:: [^=]+)? = \{", path.read_text(encoding="utf-8"), re.M)
    }
    assert there <= set(REGISTRY_ROWS.values()), f"not in docs/extending.md: {there - set(REGISTRY_ROWS.values())}"


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_each_row_says_a_place_that_exists(row):
    for place in re.findall(r"`((?:tasks|recipes)/[^`:]+)`", " ".join(row)):
        assert (ROOT / place.replace("NAME.py", "").replace("NAME.yaml", "")).exists(), place


@pytest.mark.parametrize("what", BUILT)
def test_a_new_entry_is_taken_with_its_options_and_a_misspelt_one_gets_the_nearest(what, monkeypatch):
    registry = registry_of(what)

    def added(*, option: int = 1) -> tuple[str, int]:
        return "built", option

    monkeypatch.setitem(registry, "added", added)
    choice = Choice.model_validate({"name": "added", "added": {"option": 2}})
    assert choice.build(registry, where=f"params.yaml: {what}") == ("built", 2)
    with pytest.raises(ParamsError, match="added"):
        Choice(name="addde").build(registry, where=f"params.yaml: {what}")


def test_a_new_metric_stands_in_the_result(monkeypatch):
    monkeypatch.setitem(registry_of("metric"), "always_one", lambda scored: 1.0)
    targets_NC = np.array([[1, 0], [0, 1]], np.uint8)
    entries = (targets_NC.astype(np.float32), targets_NC, np.ones((2, 2), bool))
    result = evaluate(*entries, ["a", "b"], ["i", "j"], np.full(2, 0.5), protocol="tagwright")
    assert result["metrics"]["always_one"] == 1.0


def test_a_new_variant_may_be_asked_for_only_where_params_know_it():
    known = get_args(get_args(Export.model_fields["variants"].annotation)[0])
    assert set(registry_of("variant of the exported model")) == set(known)


def test_a_new_stage_runs_by_name_and_gets_its_digests(copy):
    (copy / "tasks/stages/added.py").write_text('"""What it is for."""\n\n\ndef run(params):\n    print("it ran")\n')
    run = partial(subprocess.run, cwd=copy, check=True, capture_output=True, text=True)
    env = {**os.environ, "TAGWRIGHT_TRACKING": "off"}
    assert "it ran" in run([sys.executable, "-m", "tasks", "added"], env=env).stdout
    run([sys.executable, "-m", "tasks", "code"], env=env)
    assert (copy / "data/interim/code/added.json").exists()


def test_a_new_command_runs_by_name_and_stands_in_the_list(copy):
    (copy / "tasks/commands/added_one.py").write_text(
        '"""What it answers."""\n\n\ndef command(number: int = 1) -> None:\n    """Add."""\n    print(number + 1)\n'
    )
    run = partial(subprocess.run, cwd=copy, check=True, capture_output=True, text=True)
    assert run([sys.executable, "-m", "tasks", "added-one", "--number", "4"]).stdout == "5\n"
    assert "What it answers." in run([sys.executable, "-m", "tasks", "--help"]).stdout


def test_a_new_recipe_is_listed_and_applied(tmp_path):
    shutil.copyfile(ROOT / "params.yaml", tmp_path / "params.yaml")
    (tmp_path / "added.yaml").write_text("about: {what: for a test}\nseed: 8\n")
    assert "for a test" in list_recipes(tmp_path)
    assert "+seed: 8" in apply_recipe("added", tmp_path / "params.yaml", tmp_path)
