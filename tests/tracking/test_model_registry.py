"""The exported file in MLflow's model registry, read back with MLflow's own client."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from pathlib import Path

import mlflow
import numpy as np
import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import ENDPOINT_NOT_FOUND

from tasks.export.runtime import Predictor
from tasks.tracking import recorder
from tasks.tracking.journal import open_journals
from tests.export import toy

ROOT = Path(".mlflow")
NAME = recorder.EXPERIMENT
EXPORT = """
from pathlib import Path
from tasks.tracking import *
with stage_run("export", {"opset": 18}):
    register_model(Path({path!r}), {"mAP": 0.9631, "protocol": "tagwright"})
"""
ACCEPT = """
from pathlib import Path
from tasks.tracking import *
promote(Path({path!r}), why="better on rare labels", mAP=0.9631)
"""


@pytest.fixture
def client(run):
    client = recorder.open_client(ROOT)
    mlflow.set_tracking_uri(client.tracking_uri)
    yield client
    mlflow.set_tracking_uri(None)


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> tuple[Path, Path]:
    """Two exported files; the second has other thresholds."""
    first = toy.exported(tmp_path_factory.mktemp("model"))
    other = tmp_path_factory.mktemp("model")
    return first, toy.exported(other, thresholds=[0.4, 0.5, 0.5, 0.1, 0.9])


def recorded(run, code: str, path: Path) -> None:
    assert run(code.replace("{path!r}", repr(str(path)))) == 0
    recorder.record(ROOT)
    assert open_journals(ROOT) == []


def aliased(client, alias: str) -> str:
    """Hash of the file whose version has the alias."""
    return client.get_model_version_by_alias(NAME, alias).tags["sha256"]


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def versions(client) -> list:
    return client.search_model_versions(f"name = '{NAME}'")


def test_an_export_is_a_version_with_signature_tags_and_alias_that_mlflow_loads_and_runs(run, client, models):
    recorded(run, EXPORT, models[0])
    version = client.get_model_version_by_alias(NAME, "candidate")
    mlflow_run = client.get_run(version.run_id)
    assert mlflow_run.data.tags["stage"] == "export"
    assert mlflow_run.data.tags["registered_model"] == f"{NAME} {version.version}"
    assert (version.tags["mAP"], version.tags["protocol"], version.tags["num_labels"]) == ("0.9631", "tagwright", "5")
    assert version.tags["git.commit"] == mlflow_run.data.tags["mlflow.source.git.commit"]
    assert version.tags["weights_kind"] == "ema"
    assert [name for name in version.tags if name.endswith("sha256")] == ["sha256"]
    assert version.description.startswith("mAP 0.9631 under protocol `tagwright`.\n\n5 labels and their thresholds: ")
    assert "cat 0.500, dog 0.500, animal 0.500" in version.description
    assert f"runs/{version.run_id}/artifacts" in version.description

    (uri,) = re.findall(r'load_model\("(.+)"\)', version.description)
    loaded = mlflow.pyfunc.load_model(uri)
    signature = loaded.metadata.signature
    assert [(s.name, s.type, s.shape) for s in signature.inputs.inputs] == [
        ("images", np.dtype("uint8"), (-1, *toy.IMAGE_PX, 3))
    ]
    assert [(s.name, s.type, s.shape) for s in signature.outputs.inputs] == [
        ("scores", np.dtype("float32"), (-1, 5)),
        ("decisions", np.dtype("bool"), (-1, 5)),
    ]
    scores_BC, decisions_BC = Predictor(models[0])(toy.pixels(3))
    out = loaded.predict({"images": toy.pixels(3)})
    np.testing.assert_array_equal(out["scores"], scores_BC)
    np.testing.assert_array_equal(out["decisions"], decisions_BC)
    graph = mlflow.onnx.load_model(f"models:/{NAME}/latest")
    assert json.loads(next(p.value for p in graph.metadata_props if p.key == "labels")) == toy.LABELS


def test_the_same_bytes_are_one_version_and_a_changed_file_is_the_next(run, client, models):
    recorded(run, EXPORT, models[0])
    recorded(run, EXPORT, models[0])
    before = len(versions(client))
    assert aliased(client, "candidate") == sha256(models[0])
    recorded(run, EXPORT, models[1])
    assert aliased(client, "candidate") == sha256(models[1])
    recorded(run, EXPORT, models[0])  # back to the first one
    assert aliased(client, "candidate") == sha256(models[0])
    assert len(versions(client)) == before + 1


def test_accepting_moves_its_alias_and_is_a_run_that_says_why(run, client, models):
    recorded(run, ACCEPT, models[1])
    assert aliased(client, "accepted") == sha256(models[1])
    experiment = client.get_experiment_by_name(NAME)
    (mlflow_run,) = client.search_runs([experiment.experiment_id], "tags.stage = 'accepted'")
    assert mlflow_run.data.tags["why"] == "better on rare labels"
    assert mlflow_run.data.metrics == {"mAP": 0.9631}


def test_a_file_that_was_never_registered_is_registered_when_it_is_accepted(run, client, tmp_path):
    path = toy.exported(tmp_path, display_names=["a", "b", "c", "d", "e"])
    recorded(run, ACCEPT, path)
    assert aliased(client, "accepted") == sha256(path)


def test_a_recorder_that_was_killed_is_followed_by_one_that_registers_nothing_twice(run, client, models, tmp_path):
    assert run(EXPORT.replace("{path!r}", repr(str(models[1])))) == 0
    (journal,) = open_journals(ROOT)
    shutil.copytree(journal.folder, tmp_path / "copy")
    recorder.record(ROOT)
    before = len(versions(client))
    shutil.copytree(tmp_path / "copy", journal.folder)
    recorder.record(ROOT)
    assert len(versions(client)) == before


def test_a_server_without_a_registry_costs_the_run_nothing(run, client, models, monkeypatch, caplog):
    def refuse(*_):
        raise MlflowException("no registry here", error_code=ENDPOINT_NOT_FOUND)

    monkeypatch.setattr(recorder, "register", refuse)
    recorded(run, EXPORT.replace("18", "19"), models[0])
    experiment = client.get_experiment_by_name(NAME)
    (mlflow_run,) = client.search_runs([experiment.experiment_id], "params.`export.opset` = '19'")
    assert mlflow_run.info.status == "FINISHED"
    assert "no model registry" in caplog.text


def test_with_tracking_off_nothing_is_written_and_nothing_fails(run, models, repository):
    before = sorted((repository / ".mlflow").rglob("*"))
    for code in (EXPORT, ACCEPT):
        assert run(code.replace("{path!r}", repr(str(models[0]))), TAGWRIGHT_TRACKING="off") == 0
    assert sorted((repository / ".mlflow").rglob("*")) == before
