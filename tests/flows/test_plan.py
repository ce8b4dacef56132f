"""What would run, and why."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from flows.dvc_status import Status
from flows.graph import StageNode
from flows.plan import forecast, plan, read_durations, write_durations
from tasks.core.errors import PipelineError
from tests.flows.conftest import copy_stage

CHAIN = {
    "a": StageNode("a", (), outs=("a.txt",)),
    "b": StageNode("b", ("a",), outs=("b",)),
    "c": StageNode("c", ("b",), outs=("c.txt",)),
}


def forecasts(rows) -> dict[str, tuple[str, str]]:
    return {row.stage: (row.forecast, row.reason) for row in rows}


def test_nothing_changed_means_everything_is_fresh():
    assert forecasts(forecast(Status(CHAIN))) == {"a": ("fresh", ""), "b": ("fresh", ""), "c": ("fresh", "")}


def test_what_follows_a_changed_stage_may_run():
    rows = forecast(Status(CHAIN, {"b": [{"changed deps": {"src.py": "modified"}}]}))
    assert forecasts(rows) == {"a": ("fresh", ""), "b": ("will run", "src.py modified"), "c": ("may run", "after b")}


def test_a_change_that_the_upstream_may_yet_undo_is_no_reason_of_its_own():
    # c's input is gone because b's output is: once b has run, it may well be what c has seen before.
    changes = {"b": [{"changed outs": {"b": "deleted"}}], "c": [{"changed deps": {"b/part": "deleted"}}]}
    rows = forecast(Status(CHAIN, changes))
    assert forecasts(rows)["c"] == ("may run", "after b")
    assert [row.differs for row in rows] == [False, True, True]  # DVC is asked about c even if b turns out fresh


def test_reasons_are_few_and_say_how_many_more():
    changes = {"a": [{"changed deps": {"x": "modified", "params.yaml": {"a.n": "1 -> 2"}}}, "changed command"]}
    assert forecasts(forecast(Status(CHAIN, changes)))["a"] == ("will run", "x modified, a.n 1 -> 2 (+1)")


def test_a_missing_output_is_told_from_a_missing_input():
    changes = {"a": [{"changed deps": {"raw": "deleted"}}, {"changed outs": {"a.txt": "deleted"}}]}
    assert forecasts(forecast(Status(CHAIN, changes)))["a"] == ("will run", "raw missing, output a.txt missing")


DIGESTED = {
    "code": StageNode("code", (), deps=("tasks", "params.yaml"), outs=("code",)),
    "train": StageNode("train", ("code",), deps=("code/train.json",), outs=("model",)),
    "test": StageNode("test", ("train", "code"), deps=("model", "code/test.json"), outs=("scores",)),
}
EDITED = {"code": [{"changed deps": {"tasks": "modified"}}]}


def test_a_stage_whose_own_code_is_as_it_was_stays_fresh_whatever_else_code_writes():
    rows = forecast(Status(DIGESTED, EDITED, {"train": [], "test": ["tasks.metrics.f1"]}))
    assert forecasts(rows) == {
        "code": ("will run", "tasks modified"),
        "train": ("fresh", ""),
        "test": ("will run", "code of tasks.metrics.f1"),
    }
    assert [row.inputs_from for row in rows] == [(), (), ("train",)]


def test_a_stage_whose_code_changed_will_run_and_what_follows_may():
    rows = forecast(Status(DIGESTED, EDITED, {"train": ["tasks.nn.losses.asl"], "test": []}))
    assert forecasts(rows) == {
        "code": ("will run", "tasks modified"),
        "train": ("will run", "code of tasks.nn.losses.asl"),
        "test": ("may run", "after train"),
    }


def test_many_modules_are_two_names_and_a_number_and_come_before_other_reasons():
    changes = {**EDITED, "train": [{"changed deps": {"code/train.json": "modified", "raw": "modified"}}]}
    rows = forecast(Status(DIGESTED, changes, {"train": list("abcde"), "test": []}))
    assert forecasts(rows)["train"] == ("will run", "code of a, b and 3 more, raw modified")


def test_a_digest_file_that_is_gone_and_comes_back_as_it_was_is_no_difference():
    changes = {
        "code": [{"changed outs": {"code": "deleted"}}],
        "train": [{"changed deps": {"code/train.json": "deleted"}}],
    }
    rows = forecast(Status(DIGESTED, changes, {"train": [], "test": []}))
    assert forecasts(rows)["train"] == ("fresh", "")
    assert [row.differs for row in rows] == [True, False, False]


def test_where_the_last_code_is_not_known_a_stage_waits_for_code_as_for_any_other():
    assert forecasts(forecast(Status(DIGESTED, EDITED)))["train"] == ("may run", "after code")


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
    assert forecasts(plan(root)) == dict.fromkeys("abdc", ("will run", "never run"))
    subprocess.run([sys.executable, "-m", "dvc", "repro", "-q"], check=True, cwd=root)
    return root


def test_editing_a_param_names_the_key_and_its_values_and_touches_only_what_follows(ran):
    params = {"a": {"n": 1}, "b": {"rule": {"name": "f1", "at": 0.5}}}
    (ran / "params.yaml").write_text(yaml.safe_dump(params))
    assert forecasts(plan(ran)) == {
        "a": ("fresh", ""),
        "b": ("will run", "b.rule.name fixed -> f1"),
        "d": ("fresh", ""),
        "c": ("may run", "after b"),
    }


@pytest.fixture
def digested(digesting_toy) -> Path:
    """A repository with a stage `code` and two stages that read its files, all of it reproduced."""
    assert forecasts(plan(digesting_toy))["train"] == ("will run", "never run")
    subprocess.run([sys.executable, "-m", "dvc", "repro", "-q"], check=True, cwd=digesting_toy)
    assert {row.forecast for row in plan(digesting_toy)} == {"fresh"}
    return digesting_toy


def test_what_code_would_write_is_foreseen(digested):
    (digested / "tasks/asl.txt").write_text("other")
    assert forecasts(plan(digested)) == {
        "code": ("will run", "tasks modified"),
        "train": ("will run", "code of tasks.asl"),
        "split": ("fresh", ""),
        "score": ("may run", "after train"),
    }


def test_a_file_of_no_stage_reruns_code_alone(digested):
    (digested / "tasks/unused.txt").write_text("new")
    assert {row.stage for row in plan(digested) if row.forecast != "fresh"} == {"code"}


def test_modules_are_still_named_when_code_has_run_and_its_stage_has_not(digested):
    (digested / "tasks/asl.txt").write_text("other")
    subprocess.run([sys.executable, "-m", "dvc", "repro", "-q", "code"], check=True, cwd=digested)
    assert forecasts(plan(digested)) == {
        "code": ("fresh", ""),
        "train": ("will run", "code of tasks.asl"),
        "split": ("fresh", ""),
        "score": ("may run", "after train"),
    }


def test_digest_files_that_are_gone_are_read_from_dvcs_cache_and_without_it_the_stage_waits(digested):
    shutil.rmtree(digested / "code")
    assert forecasts(plan(digested))["train"] == ("fresh", "")  # its last digests are in the cache
    for file in (digested / ".dvc/cache/files").rglob("*"):
        if file.is_file() and b"tasks.asl" in file.read_bytes():
            file.unlink()
    assert forecasts(plan(digested))["train"] == ("may run", "after code")


def test_a_plan_without_changes_computes_no_digest(digested, monkeypatch):
    monkeypatch.setattr("flows.dvc_status.fingerprints_today", lambda root: pytest.fail("computed"))
    assert {row.forecast for row in plan(digested)} == {"fresh"}


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
