"""What is said before a training starts."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from flows.graph import StageNode
from flows.outlook import outlook, outlook_after_split
from flows.plan import PlanRow
from tasks.core.training_speed import remember
from tasks.params import Params, parse_params
from tests.homes import merged
from tests.imports import ROOT

NOTES = ["90 train, 12 calibration, 34 test images; 73 labels", "2 of 73 labels have fewer than 5 positives to …"]
EARLIER = "Images, labels and time of the trainings are said once `split` has run: `flows run --until split`."


@pytest.fixture
def params(tmp_path, monkeypatch) -> Params:
    """A project that has been split, without a source to pre-train on."""
    monkeypatch.chdir(tmp_path)
    raw = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    own = {"out_of_fold": {"enabled": "auto", "num_folds": 3, "epochs": 4}, "finetune": {"epochs": 10}}
    raw = merged(raw, own)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")
    params = parse_params(raw)
    params.paths.ledger.mkdir(parents=True)
    (params.paths.ledger / "split.json").write_text(json.dumps({"notes": NOTES}), encoding="utf-8")
    params.paths.splits.parent.mkdir(parents=True)
    pq.write_table(pa.table({"partition": ["train"] * 90 + ["calibration"] * 12 + ["test"] * 34}), params.paths.splits)
    return params


def rows(**forecasts: str) -> list[PlanRow]:
    stages = {"split": "fresh", "pretrain": "will run", "out_of_fold": "will run", "finetune": "may run"} | forecasts
    return [PlanRow(StageNode(name, ()), forecast) for name, forecast in stages.items()]


def test_images_labels_few_positives_and_the_trainings_are_said(params):
    assert outlook(rows()) == [
        *(f"split: {note}" for note in NOTES),
        "calibrate: fewer than 100 images: thresholds are cross-fitted",
        # two thirds of the 102 images that are not test
        "out_of_fold: 3 models, 4 epochs of 68 images, how long it takes is said after its first steps",
        "finetune: 10 epochs of 90 images, how long it takes is said after its first steps",
    ]


def test_time_is_estimated_from_the_speed_of_the_last_training_of_the_same_network(params):
    remember("finetune", params.model, [{"images_per_s": 1.0}, {"images_per_s": 10.0}])
    # 3 x 4 x 68 / 10 and 10 x 90 / 10
    assert outlook(rows())[-2:] == [
        "out_of_fold: 3 models, 4 epochs of 68 images, about 1 min 22 s if as fast as last time",
        "finetune: 10 epochs of 90 images, about 1 min 30 s if as fast as last time",
    ]
    larger = params.model.model_copy(update={"image_px": [224, 224]})
    remember("finetune", larger, [{"images_per_s": 1.0}])
    assert outlook(rows())[-1].endswith("how long it takes is said after its first steps")


def test_before_the_first_split_it_is_said_when_they_are_known(params):
    params.paths.splits.unlink()
    assert outlook(rows(split="will run")) == [EARLIER]


def test_a_run_says_the_trainings_as_soon_as_it_has_made_the_split(params):
    assert outlook_after_split(rows(split="will run")) == outlook(rows())[len(NOTES) :]
    assert outlook_after_split(rows()) == []  # they were said before


def test_a_split_that_will_run_again_is_told_from_the_last_one(params):
    assert outlook(rows(split="may run"))[0] == f"the last split: {NOTES[0]}"


def test_where_nothing_trains_nothing_is_said(params):
    assert outlook(rows(pretrain="fresh", out_of_fold="fresh", finetune="fresh")) == []
