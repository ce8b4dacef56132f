"""The comp551 recipe from its demo images to its accuracies, on a few images with a small network."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pyarrow.compute as pc
import pytest
import yaml

from tasks.commands.recipe import merge, read_recipe
from tasks.core.prediction_table import read_predictions
from tasks.core.workspace import Workspace
from tasks.params import Params, parse_params
from tests.conftest import ROOT
from tests.homes import run_stages

SMALL = {
    "make_demo": {"sets": {"symbols": {"num_labelled": 200, "num_pool": 40}}},
    "model": {"backbone": {"name": "test_resnet", "weights": None}},
    "finetune": {"epochs": 1, "precision": "fp32"},
    "calibrate": {"bootstrap": 10},
    "evaluate": {"bootstrap": 10},
}
STAGES = (
    "make_demo", "ingest", "map_labels", "deduplicate", "split", "shard", "pretrain", "out_of_fold", "clean",
    "resample", "finetune", "predict", "calibrate", "evaluate",
)  # fmt: skip


@pytest.fixture(scope="module")
def params(tmp_path_factory) -> Params:
    """A home in which every stage up to `evaluate` has run."""
    folder = tmp_path_factory.mktemp("home")
    base = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params = parse_params(merge(merge(base, read_recipe("comp551", ROOT / "recipes")), SMALL))
    for kept in ("taxonomy", "review", "accepted"):  # the accepted run is another task's: a recipe must stand that
        shutil.copytree(ROOT / "data" / kept, folder / "data" / kept)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("TAGWRIGHT_WORKERS", "1")
        run_stages(params, *STAGES)
        yield params


def test_training_validation_and_test_images_are_the_official_ones(params):
    splits = Workspace(params.paths).read("splits").to_pylist()
    with (params.paths.raw / "symbols/labels.csv").open(encoding="utf-8") as file:
        official = {f"symbols/{row['image']}": row["split"] for row in csv.DictReader(file)}
    sides = {row["image_id"]: row["partition"] for row in splits}
    named = {"train": "train", "val": "calibration", "test": "test"}
    assert {i: side for i, side in sides.items() if i in official} == {i: named[s] for i, s in official.items()}
    assert sum(side == "pool" for side in sides.values()) == 40


def test_both_groups_are_softmax_and_every_entry_is_known(params):
    config = json.loads((params.paths.finetuned / "model.json").read_text())
    assert [len(group) for group in config["groups"]] == [10, 26]
    assert Workspace(params.paths).read("mapped.coverage").num_rows == 36


def test_accuracy_is_reported_per_symbol_and_for_both(params):
    accuracy = json.loads(params.paths.metrics.read_text())["group_accuracy"]
    assert set(accuracy) == {"digit", "letter", "all"}
    assert 0 <= accuracy["all"] <= min(accuracy["digit"], accuracy["letter"]) <= 1


def test_the_proxy_learned_from_the_labelled_images(params):
    notes = json.loads((params.paths.ledger / "finetune.json").read_text())["notes"]
    assert "sesemi learned from 160 images beside the labelled ones" in notes


@pytest.mark.parametrize("with_pool", [True, False])
def test_out_of_fold_scores_every_labelled_image_whether_or_not_there_is_a_pool(params, with_pool):
    splits = Workspace(params.paths).read("splits")
    kept = splits if with_pool else splits.filter(pc.not_equal(splits["partition"], "pool"))
    paths = params.paths.model_copy(update={"splits": Path("kept.parquet"), "out_of_fold": Path("out_of_fold.parquet")})
    section = params.out_of_fold.model_copy(update={"enabled": True, "num_folds": 2, "epochs": 1})
    Workspace(paths).write("splits", kept)
    run_stages(params.model_copy(update={"paths": paths, "out_of_fold": section}), "out_of_fold")
    scored = read_predictions(paths.out_of_fold)
    assert len(scored.image_ids) == len(scored.embeddings_ND) == (220 if with_pool else 180)
