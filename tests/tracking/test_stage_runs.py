"""What a stage records about its run: cheap, without MLflow, and nothing at all where tracking is off."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from tasks.tracking import stage_runs as stage
from tasks.tracking.journal import open_journals

STAGE = "from tasks.tracking import *\nwith stage_run('a', {'n': 1}): log_metrics({'loss': 1})"


def journals() -> list:
    return open_journals(Path(".mlflow"))


@pytest.mark.parametrize("off", [{"RANK": "1"}, {"TAGWRIGHT_TRACKING": "off"}])
def test_other_ranks_and_a_switch_keep_quiet(run, off):
    assert run(STAGE, **off) == 0
    assert journals() == []


def test_without_mlflow_there_is_one_warning_and_all_else_works(run, capfd):
    code = "import sys; sys.modules['mlflow'] = None\n" + STAGE + "\nset_tags({'a': 1}); print('done')"
    assert run(code) == 0
    shown = capfd.readouterr()
    assert shown.out == "done\n"
    assert shown.err.count("mlflow is not installed") == 1
    assert journals() == []


def test_a_stage_imports_neither_mlflow_nor_anything_heavy(run):
    heavy = "{'mlflow', 'numpy', 'pandas', 'pyarrow', 'sqlalchemy'}"
    assert run(STAGE + f"\nimport sys\nassert not {heavy} & set(sys.modules), {heavy} & set(sys.modules)") == 0
    for journal in journals():
        journal.remove()


def test_outside_of_a_stage_every_call_does_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    stage.log_metrics({"loss": 1.0}, step=3)
    stage.set_tags({"a": "b"})
    stage.log_table("t", None)
    stage.link_cached("a", None)
    assert list(tmp_path.iterdir()) == []


def test_params_are_dotted_and_lists_are_json():
    section = {"loss": {"name": "asl", "asl": {"gamma_neg": 4.0}}, "image_px": [64, 64], "weights": None}
    assert stage.dotted(section, "finetune") == {
        "finetune.loss.name": "asl",
        "finetune.loss.asl.gamma_neg": "4.0",
        "finetune.image_px": "[64, 64]",
        "finetune.weights": "null",
    }


def test_a_table_is_written_as_mlflow_shows_it_with_nan_as_null(tmp_path, monkeypatch):
    import pyarrow as pa

    from tasks.tracking.journal import Journal

    journal = Journal(tmp_path / "journal" / "a")
    journal.start(kind="stage", name="a")
    monkeypatch.setattr(stage, "_active", journal)
    columns = {"label": ["cat", "日"], "ap": [0.5, float("nan")], "support": [3, 0]}
    stage.log_table("per_label", pa.table(columns))
    assert json.loads((journal.files / "per_label.json").read_text()) == {
        "columns": ["label", "ap", "support"],
        "data": [["cat", 0.5, 3], ["日", None, 0]],
    }


def test_a_run_is_named_by_its_commit_and_minute_or_by_the_experiment(run, repository, monkeypatch, tmp_path):
    commit = stage._git_tags()["mlflow.source.git.commit"][:7]
    assert re.fullmatch(rf"{commit} \d{{4}}-\d\d-\d\d \d\d:\d\d", stage.run_name())
    text = (repository / "code.py").read_text()
    (repository / "code.py").write_text("x = 2\n")
    assert stage.run_name().startswith(f"{commit}+ ")
    (repository / "code.py").write_text(text)
    monkeypatch.setenv("DVC_EXP_NAME", "wider-head")
    assert stage.run_name() == "wider-head"
    monkeypatch.delenv("DVC_EXP_NAME")
    monkeypatch.chdir(tmp_path)  # no git
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d", stage.run_name())


@pytest.mark.parametrize(
    ("address", "page"),
    [
        ("http://runs:5000/", "http://runs:5000/#/experiments?workflowType=machine_learning"),
        ("https://ann:secret@runs", ""),
        ("sqlite:///.mlflow/mlflow.db", ""),
        ("", ""),
    ],
)
def test_only_a_server_without_a_password_in_its_address_is_linked(address, page, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    assert stage.page() == page


def test_a_server_that_never_answers_costs_a_stage_no_wait_and_a_flow_one_of_a_minute(tmp_path, monkeypatch, caplog):
    class Clock(SimpleNamespace):
        now = 0.0

        def sleep(self, seconds: float) -> None:
            self.now += seconds

    clock = Clock(time_ns=time.time_ns)
    clock.monotonic = lambda: clock.now
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TAGWRIGHT_TRACKING", "on")
    monkeypatch.setattr(stage, "time", clock)
    monkeypatch.setattr(stage, "_ensure_recorder", lambda: None)  # as one whose server is silent: it takes nothing
    with stage.stage_run("split", {}):
        stage.log_metrics({"images": 3})
    assert clock.now == 0
    with stage.pipeline_run("night", {}):
        pass
    assert clock.now == pytest.approx(stage.DELIVERY_TIMEOUT_S, abs=1)
    assert "some of this run is not in MLflow yet" in caplog.text
    assert len(journals()) == 2
