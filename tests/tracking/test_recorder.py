"""From journals to MLflow: one run a stage, one parent a pipeline, nothing lost or doubled when anything is killed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tasks.stages import calibrate
from tasks.tracking import recorder, stage_runs
from tasks.tracking.journal import open_journals
from tests.evaluation import test_scored_set as judging

ROOT = Path(".mlflow")
IMPORT = "import os, signal\nfrom tasks.tracking import *\n"
KILLED = (
    IMPORT
    + """
with stage_run({stage!r}, {{"lr": {lr}}}):
    for step in range(3):
        log_metrics({{"loss": 3.0 - step}}, step=step)
    os.kill(os.getpid(), signal.SIGKILL)
"""
)
FINISHED = (
    IMPORT
    + """
with stage_run({stage!r}, {{"lr": {lr}}}):
    for step in range(2, 5):
        log_metrics({{"loss": 3.0 - step}}, step=step)
"""
)


@pytest.fixture
def client(run):
    return recorder.open_client(ROOT)


def runs(client, query: str = "") -> list:
    """Oldest first."""
    experiment = client.get_experiment_by_name(recorder.EXPERIMENT)
    return client.search_runs([experiment.experiment_id], query, order_by=["attributes.start_time ASC"])


def test_a_stage_is_one_run_with_its_curve_params_table_tags_and_commit(run, client):
    code = (
        IMPORT
        + """
        with stage_run("evaluate", {"protocol": "asl"}):
            for step in range(1500):  # more than MLflow takes in one batch
                log_metrics({"mAP": step / 10, "AP/Käfer": 0.25}, step=step)
            set_tags({"why": "a test"})
            import pyarrow as pa
            log_table("per_label", pa.table({"label": ["cat"], "ap": [0.5]}))
            """
    )
    assert run(code.replace("\n        ", "\n")) == 0
    recorder.record(ROOT)
    (mlflow_run,) = runs(client, "tags.stage = 'evaluate'")
    assert mlflow_run.info.status == "FINISHED"
    assert mlflow_run.data.params == {"evaluate.protocol": "asl"}
    assert len(client.get_metric_history(mlflow_run.info.run_id, "mAP")) == 1500
    slug = recorder.mlflow_key("AP/Käfer")
    assert mlflow_run.data.metrics == {"mAP": 149.9, slug: 0.25}
    assert mlflow_run.data.tags[f"metric.{slug}"] == "AP/Käfer"
    assert mlflow_run.data.tags["why"] == "a test"
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    assert mlflow_run.data.tags["mlflow.source.git.commit"] == commit
    assert mlflow_run.data.tags["git.dirty"] == "false"
    assert {a.path for a in client.list_artifacts(mlflow_run.info.run_id)} == {"per_label.json"}
    assert json.loads(mlflow_run.data.tags["mlflow.loggedArtifacts"]) == [{"path": "per_label.json", "type": "table"}]
    assert open_journals(ROOT) == []


def test_an_evaluation_leaves_its_headline_numbers_and_the_labels_as_a_table(run, client, repository, tmp_path):
    params = judging.home(tmp_path / "home")
    calibrate.run(params)
    (repository / "params.yaml").write_text(yaml.safe_dump(params.model_dump(mode="json")), encoding="utf-8")
    assert run("from tasks.stages import run_stage\nrun_stage('evaluate')") == 0
    recorder.record(ROOT)
    mlflow_run = runs(client, "tags.stage = 'evaluate'")[-1]
    test = json.loads(params.paths.metrics.read_text(encoding="utf-8"))["test"]
    assert mlflow_run.data.metrics == {name: test[name] for name in ("mAP", "OF1", "CF1", "image_F1")}
    table = json.loads(
        Path(client.download_artifacts(mlflow_run.info.run_id, "per_label.json", str(tmp_path))).read_text()
    )
    labels = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    assert [row["label"] for row in labels] == judging.LABELS
    assert 0 < labels[0]["AP"] <= 1


def test_a_killed_stage_continues_the_same_run(run, client):
    assert run(KILLED.format(stage="finetune", lr=1)) == -9
    recorder.record(ROOT)
    (killed,) = runs(client, "tags.stage = 'finetune'")
    assert killed.info.status == "KILLED"
    assert run(FINISHED.format(stage="finetune", lr=1)) == 0
    recorder.record(ROOT)
    (resumed,) = runs(client, "tags.stage = 'finetune'")
    assert resumed.info.run_id == killed.info.run_id
    assert resumed.info.status == "FINISHED"
    history = client.get_metric_history(resumed.info.run_id, "loss")
    assert [(m.step, m.value) for m in sorted(history, key=lambda m: (m.step, m.timestamp))] == [
        (0, 3.0), (1, 2.0), (2, 1.0), (2, 1.0), (3, 0.0), (4, -1.0),
    ]  # fmt: skip


def test_a_killed_stage_with_other_params_is_another_run(run, client):
    assert run(KILLED.format(stage="pretrain", lr=1)) == -9
    assert run(FINISHED.format(stage="pretrain", lr=2)) == 0
    assert run(FINISHED.format(stage="pretrain", lr=2)) == 0  # and a finished one is never continued
    recorder.record(ROOT)
    assert [r.info.status for r in runs(client, "tags.stage = 'pretrain'")] == ["KILLED", "FINISHED", "FINISHED"]


def test_an_exception_ends_the_run_as_failed_and_ctrl_c_as_killed(run, client):
    assert run(IMPORT + "with stage_run('split', {}): raise ValueError('no')") == 1
    assert run(IMPORT + "with stage_run('shard', {}): raise KeyboardInterrupt") != 0
    recorder.record(ROOT)
    assert [r.info.status for r in runs(client, "tags.stage = 'split'")] == ["FAILED"]
    assert [r.info.status for r in runs(client, "tags.stage = 'shard'")] == ["KILLED"]


def test_a_recorder_that_was_killed_is_followed_by_one_that_repeats_nothing(run, client, tmp_path):
    assert run(FINISHED.format(stage="resample", lr=1)) == 0
    (journal,) = open_journals(ROOT)
    shutil.copytree(journal.folder, tmp_path / "copy")
    recorder.record(ROOT)
    shutil.copytree(tmp_path / "copy", journal.folder)  # as if it had been killed before it wrote runs.json
    recorder.record(ROOT)
    (mlflow_run,) = runs(client, "tags.stage = 'resample'")
    assert len(client.get_metric_history(mlflow_run.info.run_id, "loss")) == 3


NIGHT = (
    IMPORT
    + """
import subprocess, sys
from tasks.tracking import stage_runs
stage_runs.DELIVERY_TIMEOUT_S = 0
STAGES = {
    "clean": "log_headline({'recall': 0.75}); log_metrics({'seconds': 3})",
    "report": "open('report.html', 'w').write('<html>'); log_files(['report.html'])",
}
with pipeline_run(NAME, {"prefect.flow_run": "f-1"}) as parent:
    for stage, code in STAGES.items():
        if stage in RAN:
            code = f"from tasks.tracking import *\\nwith stage_run('{stage}', {{}}): {code}"
            subprocess.run([sys.executable, "-c", code], env={**os.environ, PARENT_VARIABLE: parent}, check=True)
        else:
            link_cached(stage, parent)
"""
)


def datasets(run) -> dict[str, str]:
    """Name -> digest."""
    return {used.dataset.name: used.dataset.digest for used in run.inputs.dataset_inputs}


@pytest.fixture
def night(run, client, repository):
    """Run a pipeline of two stages, those of `ran` and the rest from DVC's cache; returns its run and its children."""
    outs = {"clean": [{"path": "b", "md5": "22.dir"}], "report": [{"path": "r.html", "md5": "33"}]}
    lock = {"stages": {s: {"cmd": s, "deps": [{"path": "a", "md5": "11"}], "outs": o} for s, o in outs.items()}}
    (repository / "dvc.lock").write_text(yaml.safe_dump(lock))

    def run_night(name: str, *ran: str) -> tuple:
        assert run(f"NAME, RAN = {name!r}, {ran!r}\n" + NIGHT) == 0
        recorder.record(ROOT)
        parent = next(r for r in runs(client, "tags.kind = 'pipeline'") if r.info.run_name.endswith(name))
        members = runs(client, f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
        return parent, {r.data.tags["stage"]: r for r in members}

    return run_night


def test_a_pipeline_has_no_holes_and_a_cached_stage_points_to_the_run_that_made_its_result(night):
    first, of_first = night("first", "clean", "report")
    second, of_second = night("second", "report")
    assert {first.info.status, second.info.status} == {"FINISHED"}
    assert set(of_first) == set(of_second) == {"clean", "report"}
    made, linked = of_first["clean"], of_second["clean"]
    assert datasets(made) == {"a": "11"}
    assert "| `b` | `22.dir` |" in made.data.tags["mlflow.note.content"]
    assert linked.data.tags["cached_from"] == made.info.run_id
    assert linked.data.metrics == {"recall": 0.75, "seconds": 3}
    assert of_second["report"].data.tags["kind"] == "stage"


def test_a_pipelines_run_bears_the_headline_figures_the_report_and_a_description(night, client):
    parent, children = night("described", "clean", "report")
    assert parent.info.run_name == "recall 0.750 · described"
    assert parent.data.metrics == {"recall": 0.75}
    assert [a.path for a in client.list_artifacts(parent.info.run_id)] == ["report.html"]
    assert [a.path for a in client.list_artifacts(children["report"].info.run_id)] == ["report.html"]
    experiment = client.get_experiment(parent.info.experiment_id)
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"
    note = parent.data.tags["mlflow.note.content"]
    commit = parent.data.tags["mlflow.source.git.commit"]
    for said in ("**recall 0.7500**", "Ran: `clean`", f"Commit `{commit[:12]}`", "flow run `f-1`", "`report.html`"):
        assert said in note


def test_a_pipelines_data_sets_are_its_sources(run, client, repository):
    deps = [{"path": "data/raw/pets", "md5": "44.dir"}, {"path": "data/interim/code/ingest@pets.json", "md5": "55"}]
    lock = {"stages": {"ingest@pets": {"cmd": "x", "deps": deps, "outs": [{"path": "i", "md5": "66"}]}}}
    (repository / "dvc.lock").write_text(yaml.safe_dump(lock))
    code = NIGHT.replace("STAGES = {", "STAGES = {'ingest@pets': 'pass'}; _ = {")
    assert run("NAME, RAN = 'sources', ('ingest@pets',)\n" + code) == 0
    recorder.record(ROOT)
    parent = next(r for r in runs(client, "tags.kind = 'pipeline'") if r.info.run_name.endswith("sources"))
    assert datasets(parent) == {"pets": "44.dir"}


def test_a_run_in_which_nothing_had_changed_has_its_figures_and_no_children(night, client):
    night("before", "clean", "report")
    parent, children = night("nothing new")
    assert children == {}
    assert parent.data.metrics == {"recall": 0.75}
    assert "Nothing had changed: 2 stages were up to date." in parent.data.tags["mlflow.note.content"]


def test_a_pipelines_params_are_those_that_people_vary_and_what_differs_from_the_commit(night, repository):
    def commit(text: str) -> None:
        (repository / "params.yaml").write_text(text)
        git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org"]
        subprocess.run([*git, "add", "params.yaml"], check=True)
        subprocess.run([*git, "commit", "-qm", "params"], check=True)

    commit("seed: 7\nfinetune: {lr: 0.1, loss: {name: bce}, clip: 1, gone: 1}\n")
    varied = {"seed": "7", "finetune.lr": "0.1", "finetune.loss.name": "bce"}
    committed, _ = night("as committed", "clean")
    assert committed.data.params == varied
    assert "Params that differ" not in committed.data.tags["mlflow.note.content"]
    (repository / "params.yaml").write_text("seed: 7\nfinetune: {lr: 0.1, loss: {name: asl}, clip: 1, new: [1, 2]}\n")
    parent, _ = night("changed", "clean")
    changed = {"finetune.loss.name": "asl", "finetune.new": "[1, 2]", "finetune.gone": "removed"}
    assert parent.data.params == {**varied, **changed}
    assert "| `finetune.loss.name` | `asl` |" in parent.data.tags["mlflow.note.content"]
    assert "finetune.lr" not in parent.data.tags["mlflow.note.content"]


def test_the_params_that_people_vary_are_params(root):
    params = yaml.safe_load((root / "params.yaml").read_text(encoding="utf-8"))
    flat = {key for section, values in params.items() for key in stage_runs.dotted(values, section)}
    assert set(stage_runs.VARIED) <= flat


def test_a_plain_dvc_repro_is_one_parent_with_its_stages(run, client, repository):
    (repository / ".dvc").mkdir()
    (repository / ".dvc/config").write_text("[core]\n  no_scm = true\n  analytics = false\n  check_update = false\n")
    for name in ("one", "two"):
        (repository / f"{name}.py").write_text(
            f"from tasks.tracking import *\nwith stage_run('{name}', {{}}): open('{name}.txt', 'w').write('{name}')"
        )
    stages = {n: {"cmd": f"python {n}.py", "outs": [f"{n}.txt"]} for n in ("one", "two")}
    stages["two"]["deps"] = ["one.txt"]
    (repository / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    (repository / "dvc.lock").unlink(missing_ok=True)
    repro = f"import subprocess; subprocess.run([{sys.executable!r}, '-m', 'dvc', 'repro', '-q'], check=True)"
    assert run(repro, DVC_EXP_NAME="wider-head") == 0  # as `dvc exp run -n wider-head` sets it
    recorder.record(ROOT)
    (parent,) = runs(client, "tags.started_by = 'dvc'")
    one, two = runs(client, f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
    assert parent.info.status == "FINISHED"
    assert parent.info.run_name == "wider-head"
    assert (one.data.tags["stage"], two.data.tags["stage"]) == ("one", "two")
    assert f"| `one.txt` | `{datasets(two)['one.txt']}` |" in one.data.tags["mlflow.note.content"]


def test_an_experiment_in_a_temporary_workspace_is_recorded_in_the_repository(run, client, repository):
    workspace = repository / ".dvc/tmp/exps/tmp1"
    workspace.mkdir(parents=True)
    assert run(f"import os\nos.chdir({str(workspace)!r})\n" + FINISHED.format(stage="gate", lr=1)) == 0
    assert list(workspace.iterdir()) == []
    workspace.rmdir()  # as `dvc exp run --temp` does
    recorder.record(ROOT)
    assert [r.info.status for r in runs(client, "tags.stage = 'gate'")] == ["FINISHED"]


def test_a_request_that_mlflow_refuses_is_set_aside_and_the_rest_goes_on(run, client):
    assert run(KILLED.format(stage="out_of_fold", lr=1)) == -9
    recorder.record(ROOT)
    (killed,) = runs(client, "tags.stage = 'out_of_fold'")
    client.delete_run(killed.info.run_id)  # somebody tidied up before it was continued
    assert run(FINISHED.format(stage="out_of_fold", lr=1)) == 0
    assert run(FINISHED.format(stage="predict", lr=1)) == 0
    recorder.record(ROOT)
    assert len(list((ROOT / "rejected").iterdir())) == 1
    assert len(runs(client, "tags.stage = 'predict'")) == 1


def test_what_a_server_that_is_away_did_not_get_waits_for_the_next_recorder(run, client, monkeypatch):
    assert run(FINISHED.format(stage="export", lr=1)) == 0
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")  # no one listens there
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    recorder.record(ROOT)
    assert len(open_journals(ROOT)) == 1
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    recorder.record(ROOT)
    assert len(runs(client, "tags.stage = 'export'")) == 1


def test_a_stage_starts_a_recorder_by_itself(run, client):
    code = FINISHED.format(stage="ingest@coco", lr=1)
    subprocess.run([sys.executable, "-c", code], check=True)  # not `run`: that one keeps recorders out
    while open_journals(ROOT):  # pytest's timeout is the limit
        time.sleep(0.1)
    assert [r.info.status for r in runs(client, "tags.stage = 'ingest@coco'")] == ["FINISHED"]


@given(st.text(min_size=1, max_size=300))
def test_every_name_becomes_one_that_mlflow_takes(name):
    from mlflow.utils.validation import _validate_metric_name, _validate_param_name

    _validate_metric_name(recorder.mlflow_key(name))
    _validate_param_name(recorder.mlflow_key(name))
    assert len(recorder.mlflow_key(name)) <= recorder.KEY_LENGTH


@given(st.sets(st.text(alphabet="aä/. ", min_size=1, max_size=4), max_size=30))
def test_names_that_differ_stay_different(names):
    assert len({recorder.mlflow_key(name) for name in names}) == len(names)
