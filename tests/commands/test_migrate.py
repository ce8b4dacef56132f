"""The command, on a small saved model whose taxonomy has moved on."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from tasks.commands.migrate import carried_thresholds, migrate, with_support
from tasks.core import tables
from tasks.core.errors import ModelError
from tasks.core.workspace import Workspace
from tasks.export.runtime import open_session
from tasks.nn.model import load_config, load_model, model_sha256
from tasks.params import Params
from tasks.review.last_run import LastRun
from tests.export.test_stage import saved_params
from tests.taxonomy.kits import label_rows, unknown_rows

# The model knows cat, animal and 犬.
TODAY = """
labels:
  - {id: beast}
  - {id: tabby, implies: [beast]}
  - {id: lion, implies: [beast]}
  - {id: 犬, implies: [beast]}
  - {id: bird}
migrations:
  - rename: {animal: beast}
  - split: {cat: [tabby, lion]}
"""
THRESHOLDS = {
    "cat": {"threshold": 0.4, "support": 7, "reason": ""},
    "animal": {"threshold": None, "support": 30, "reason": ""},
    "犬": {"threshold": 0.123456789, "support": 2, "reason": ""},
}


def home(folder: Path, taxonomy: str = TODAY) -> Params:
    params = saved_params(folder)
    params.paths.taxonomy.write_text(taxonomy, encoding="utf-8")
    document = {"rule": "per_label_f1", "fit_on": "calibration", "labels": THRESHOLDS}
    params.paths.thresholds.write_text(json.dumps(document), encoding="utf-8")
    rows = label_rows([("a", "cat", 1), ("a", "animal", 1), ("b", "cat", 0), ("c", "cat", 1)])
    workspace = Workspace(params.paths)
    workspace.write("cleaned.labels", rows)
    workspace.write("cleaned.unknown", unknown_rows([]))
    workspace.write("cleaned.queue", tables.empty(tables.QUEUE))
    workspace.write("mapped.coverage", tables.empty(tables.COVERAGE))
    return params


@pytest.fixture(scope="module")
def migrated(tmp_path_factory) -> tuple[Params, Path, dict]:
    params = home(tmp_path_factory.mktemp("home"))
    folder = tmp_path_factory.mktemp("migrated")
    return params, folder, migrate(params, folder)


@pytest.fixture
def without_onnx(monkeypatch):
    """Leaves the ONNX file out: writing it takes longer than everything else."""
    monkeypatch.setattr("tasks.commands.migrate.export_onnx", lambda *_, **__: None)


def test_it_says_where_each_label_comes_from_and_what_is_left_to_do(migrated):
    _, folder, result = migrated
    assert result == {
        "from": {"beast": ["animal"], "tabby": ["cat"], "lion": ["cat"]},
        "new": ["bird"],
        "lost": [],
        "fit_thresholds": ["tabby", "lion", "bird"],
        "look_again": 4,
        "written": str(folder),
    }


def test_the_model_folder_has_todays_labels_and_names_the_model_it_was_made_from(migrated):
    params, folder, _ = migrated
    assert load_model(folder).labels == ["beast", "tabby", "lion", "犬", "bird"]
    config = load_config(folder)
    assert config["migrated_from"] == model_sha256(params.paths.finetuned)
    assert (config["resize"], config["short_side_px"]) == ("letterbox", 24)


def test_thresholds_are_carried_over_to_the_digit_and_a_new_label_is_never_predicted(migrated):
    _, folder, _ = migrated
    document = json.loads((folder / "thresholds.json").read_text(encoding="utf-8"))
    assert (document["rule"], document["fit_on"]) == ("per_label_f1", "calibration")
    entries = document["labels"]
    assert {label: entry["threshold"] for label, entry in entries.items()} == {
        "beast": None, "tabby": 0.4, "lion": 0.4, "犬": 0.123456789, "bird": None,
    }  # fmt: skip
    assert entries["tabby"]["reason"] == "carried over from cat by a migration; fit again"
    assert entries["bird"]["reason"] == "new to the model: never predicted until it is fitted"


def test_one_file_predicts_in_todays_labels_at_once(migrated):
    _, folder, _ = migrated
    _, manifest = open_session(folder / "model.onnx")
    assert manifest.labels == ["beast", "tabby", "lion", "犬", "bird"]
    assert manifest.implications == [(1, 0), (2, 0), (3, 0)]
    assert manifest.thresholds == [float("inf"), 0.4, 0.4, 0.123456789, float("inf")]


def test_what_a_split_has_left_open_is_listed_and_queued_once(migrated, without_onnx):
    params, folder, _ = migrated
    with (folder / "look_again.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    pairs = [(r["image_id"], r["label"]) for r in rows]
    assert pairs == [("a", "lion"), ("a", "tabby"), ("c", "lion"), ("c", "tabby")]
    assert {r["was"] for r in rows} == {"cat"}
    assert migrate(params, folder)["look_again"] == 4
    queue = LastRun(Workspace(params.paths)).questions()
    assert list(zip(queue["image_id"].to_pylist(), queue["label"].to_pylist(), strict=True)) == pairs
    assert set(queue["reason"].to_pylist()) == {"was cat"}


def test_without_the_tables_of_a_run_the_model_is_migrated_and_nothing_is_queued(tmp_path, without_onnx):
    params = saved_params(tmp_path)
    assert migrate(params, tmp_path / "out")["look_again"] == 0
    assert (tmp_path / "out/look_again.csv").read_text(encoding="utf-8") == "image_id,label,was\n"


def test_a_label_that_no_step_leads_on_is_listed_as_lost(tmp_path, without_onnx):
    result = migrate(home(tmp_path, "labels: [{id: animal}, {id: 犬}]"), tmp_path / "out")
    assert (result["lost"], result["new"], result["from"], result["fit_thresholds"]) == (["cat"], [], {}, [])


def test_without_a_model_one_line_says_so(tmp_path):
    params = saved_params(tmp_path)
    (params.paths.finetuned / "model.json").unlink()
    with pytest.raises(ModelError, match="no model there"):
        migrate(params, tmp_path / "out")


def test_parts_weigh_as_much_as_their_known_positives_and_never_nothing():
    entries = THRESHOLDS | {"animal": {"threshold": 0.5, "support": 0}}
    assert with_support([[0, 1], [2], []], ["cat", "animal", "犬"], entries) == [{0: 7, 1: 1}, {2: 2}, {}]


def test_a_label_whose_weights_could_not_be_carried_is_never_predicted_whatever_its_threshold_was():
    parts = {"cat": ["cat"], "犬": ["犬"]}
    document, to_fit = carried_thresholds({"labels": THRESHOLDS}, parts, {"cat"}, [])
    assert document["labels"]["cat"]["threshold"] == 0.4
    assert document["labels"]["犬"]["threshold"] is None
    assert to_fit == ["犬"]


def test_probability_calibration_follows_the_first_part():
    maps = {"method": "platt", "labels": {"cat": {"slope": 2.0, "intercept": 0.0}, "animal": None}}
    parts = {"pet": ["cat", "animal"], "bird": []}
    document, _ = carried_thresholds({"labels": THRESHOLDS, "probabilities": maps}, parts, {"pet"}, [])
    assert document["probabilities"] == {"method": "platt", "labels": {"pet": maps["labels"]["cat"], "bird": None}}


def test_a_folder_that_holds_something_else_is_left_alone(migrated):
    params, folder, _ = migrated
    with pytest.raises(ModelError, match=r"holds something else than a migrated model\. Name a new folder"):
        migrate(params, params.paths.finetuned)
    assert "migrated_from" not in load_config(params.paths.finetuned)
    assert migrate(params, folder)["written"] == str(folder)  # its own it may write again


def test_a_folder_that_a_killed_migration_has_begun_is_its_own(migrated, without_onnx, tmp_path, monkeypatch):
    params, folder, _ = migrated
    begun = tmp_path / "begun"

    def killed(*arguments) -> None:
        (begun / ".model.safetensors.host-1.x.safetensors").touch()
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("tasks.commands.migrate.save_model", killed)
        with pytest.raises(KeyboardInterrupt):
            migrate(params, begun)
    migrate(params, begun)
    assert load_config(begun) == load_config(folder)
