"""A run works on the params it began with: an edit on the way changes no later stage and is filed under no result."""

from __future__ import annotations

import pytest
import yaml

from tasks.core.edits import edits, refuse_edited
from tasks.core.errors import ParamsError, PipelineError
from tasks.params import load_params
from tests.flows.conftest import copy_stage
from tests.homes import merged
from tests.imports import ROOT

PARAMS = "import pathlib; p = pathlib.Path('params.yaml'); p.write_text("


def test_each_value_that_differs_is_named_in_order_of_key():
    before = {"finetune": {"epochs": 8, "lr": {"head": 1}}, "seed": 1, "same": [1, 2]}
    after = {"finetune": {"epochs": 12}, "seed": 1, "same": [1, 2], "new": 3}
    assert edits(before, after) == [
        "finetune.epochs: 8 -> 12",
        "finetune.lr.head: 1 -> (none)",
        "new: (none) -> 3",
    ]
    assert edits(before, after, keys=["finetune.epochs", "seed"]) == ["finetune.epochs: 8 -> 12"]
    assert edits(before, after, keys=["finetune.epoch"]) == []


@pytest.mark.parametrize(
    ("edit", "starts"),
    [(f"{PARAMS}'b: 2\\n')", False), (f"{PARAMS}'# a comment\\nb: 1\\n')", True)],
    ids=["a value", "a comment"],
)
def test_a_stage_does_not_start_under_values_that_the_run_did_not_begin_with(toy, tmp_path, edit, starts):
    from flows import pipeline

    stages = {"a": {"cmd": "python edit.py && touch a", "outs": ["a"]}, "b": copy_stage("out", "a", params=["b"])}
    toy(stages, {"b": 1}, {"edit.py": edit})
    if starts:
        pipeline.pipeline()
    else:
        with pytest.raises(PipelineError, match=r"b: not started: params\.yaml was edited .* \(b: 1 -> 2\)"):
            pipeline.pipeline()
    assert (tmp_path / "out").exists() == starts


@pytest.fixture
def began_with(tmp_path, monkeypatch):
    """The params of a stage that runs in a folder with dvc.yaml and params.yaml."""
    monkeypatch.chdir(tmp_path)
    for name in ("dvc.yaml", "params.yaml"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    return load_params().model_dump(mode="json")


def edited(**overlay: dict) -> dict:
    raw = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    with open("params.yaml", "w", encoding="utf-8") as file:
        yaml.safe_dump(merged(raw, overlay), file)
    return load_params().model_dump(mode="json")


def test_a_value_of_its_own_that_was_edited_while_a_stage_ran_is_not_filed_with_its_result(began_with):
    now = edited(deduplicate={"radius": 5})
    with pytest.raises(ParamsError, match=r"deduplicate\.radius: 4 -> 5 while deduplicate ran.*not recorded"):
        refuse_edited("deduplicate", "", began_with, now)


def test_a_value_of_another_stage_may_be_edited_while_one_runs(began_with):
    now = edited(finetune={"epochs": began_with["finetune"]["epochs"] + 1})
    refuse_edited("deduplicate", "", began_with, now)


def test_of_a_stage_a_source_only_that_source_counts(began_with):
    name, other = list(began_with["sources"])[:2]
    now = edited(sources={other: {"use": "pool"}})
    refuse_edited("ingest", name, began_with, now)
    with pytest.raises(ParamsError, match=rf"sources\.{other}\.use"):
        refuse_edited("ingest", other, began_with, now)
