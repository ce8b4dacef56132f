"""What would run, and why."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from flows.graph import StageNode
from flows.plan import forecast, plan, read_durations, write_durations
from tasks.core.errors import PipelineError
from tests.flows.conftest import copy_stage

CHAIN = {
    "a": StageNode("a", (), outs=("a.txt",)),
    "b": StageNode("b", ("a",), outs=("b",)),
    "c": StageNode("c", ("b",), outs=("c.txt",)),
}


def told(rows) -> dict[str, tuple[str, str]]:
    return {row.stage: (row.forecast, row.reason) for row in rows}


def test_nothing_changed_means_everything_is_fresh():
    assert told(forecast(CHAIN, {})) == {"a": ("fresh", ""), "b": ("fresh", ""), "c": ("fresh", "")}


def test_what_follows_a_changed_stage_may_run():
    rows = forecast(CHAIN, {"b": [{"changed deps": {"src.py": "modified"}}]})
    assert told(rows) == {"a": ("fresh", ""), "b": ("will run", "src.py modified"), "c": ("may run", "after b")}


def test_a_change_that_the_upstream_may_yet_undo_is_no_reason_of_its_own():
    # c's input is gone because b's output is: once b has run, it may well be what c has seen before.
    status = {"b": [{"changed outs": {"b": "deleted"}}], "c": [{"changed deps": {"b/part": "deleted"}}]}
    rows = forecast(CHAIN, status)
    assert told(rows)["c"] == ("may run", "after b")
    assert [row.differs for row in rows] == [False, True, True]  # c is asked again even if b turns out fresh


def test_reasons_are_few_and_say_how_many_more():
    status = {"a": [{"changed deps": {"x": "modified", "params.yaml": {"a.n": "1 -> 2"}}}, "changed command"]}
    assert told(forecast(CHAIN, status))["a"] == ("will run", "x modified, a.n 1 -> 2 (+1)")


def test_a_missing_output_is_told_from_a_missing_input():
    status = {"a": [{"changed deps": {"raw": "deleted"}}, {"changed outs": {"a.txt": "deleted"}}]}
    assert told(forecast(CHAIN, status))["a"] == ("will run", "raw missing, output a.txt missing")


@pytest.fixture
def ran(toy) -> Path:
    """a -> b -> c and a -> d, all of it reproduced."""
    root = toy(
        {
            "a": copy_stage("a", params=["a"]),
            "b": copy_stage("b", "a", params=["b"]),
            "c": copy_stage("c", "b"),
            "d": copy_stage("d", "a"),
        },
        {"a": {"n": 1}, "b": {"rule": {"name": "fixed", "at": 0.5}}},
    )
    assert told(plan(root)) == dict.fromkeys("abdc", ("will run", "never run"))
    subprocess.run([sys.executable, "-m", "dvc", "repro", "-q"], check=True, cwd=root)
    return root


def test_editing_a_param_names_the_key_and_its_values_and_touches_only_what_follows(ran):
    params = {"a": {"n": 1}, "b": {"rule": {"name": "f1", "at": 0.5}}}
    (ran / "params.yaml").write_text(yaml.safe_dump(params))
    assert told(plan(ran)) == {
        "a": ("fresh", ""),
        "b": ("will run", "b.rule.name fixed -> f1"),
        "d": ("fresh", ""),
        "c": ("may run", "after b"),
    }


def test_until_leaves_out_what_the_stage_does_not_need(ran):
    assert [row.stage for row in plan(ran, until="c")] == ["a", "b", "c"]


def test_durations_are_remembered_stage_by_stage(ran):
    assert read_durations(ran) == {}
    write_durations({"a": 1.5, "b": 2.0}, ran)
    write_durations({"b": 3.0}, ran)
    assert {row.stage: row.last_s for row in plan(ran)} == {"a": 1.5, "b": 3.0, "c": None, "d": None}


def test_outside_of_a_repository_one_line_says_where_to_go(tmp_path):
    with pytest.raises(PipelineError, match="Run commands from the repository root"):
        plan(tmp_path)


def test_a_file_that_is_not_there_and_that_no_stage_writes_is_named_before_anything_runs(toy):
    home = toy({"top": copy_stage("t", "data/typo.json"), "bottom": copy_stage("b", "t")})
    with pytest.raises(PipelineError, match=r"top: reads data/typo\.json, which does not exist.*params\.yaml"):
        plan(home)
    (home / "data").mkdir()
    (home / "data/typo.json").touch()
    assert [row.stage for row in plan(home)] == ["top", "bottom"]
