"""The whole pipeline on real photographs: COCO to train and test, Open Images to pre-train, ImageNet weights."""

from __future__ import annotations

import csv
import json

import pyarrow.parquet as pq
import pytest
import yaml

from tests.homes import new_home, run
from tests.imports import ROOT

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1200)]
SHARED_LABELS = {"Apple": "apple", "Bird": "bird", "Bicycle": "bicycle", "Boat": "boat", "Person": "person"}


@pytest.fixture(scope="module")
def photographs(real_data, tmp_path_factory):
    """A home whose sources are the two real kits, run to the report."""
    overlay = {
        "make_demo": {"sets": {}},
        "ingest": {},
        "shard": {"short_side_px": 96},
        "model": {
            "image_px": [96, 96],
            "backbone": {
                "name": "mobilenetv2_100",
                "weights": str(real_data / "weights/mobilenetv2_100.imagenet.safetensors"),
                "freeze_batchnorm": True,
            },
        },
        "pretrain": {"epochs": 1},
        "out_of_fold": {"enabled": False},
        "clean": {"enabled": False},
        "finetune": {"epochs": 1},
        "calibrate": {"bootstrap": 10},
        "evaluate": {"bootstrap": 10},
    }
    home = new_home(tmp_path_factory.mktemp("photographs"), overlay)
    params = yaml.safe_load((home / "params.yaml").read_text())
    params["model"]["backbone"]["options"] = {"pad_type": "same", "mean": [0.5] * 3, "std": [0.5] * 3}
    params["sources"] = {
        "coco": {
            "kind": "coco",
            "path": str(real_data / "coco"),
            "annotations": {"train": "annotations/instances_train.json", "val": "annotations/instances_val.json"},
        },
        "openimages": {
            "kind": "openimages",
            "path": str(real_data / "openimages"),
            "use": "pretrain",
            "labels": "human-imagelabels.csv",
            "classes": "oidv6-class-descriptions.csv",
        },
    }
    params["model"]["backbone"]["options"].pop("output_stride", None)
    params["paths"]["taxonomy"] = "data/taxonomy/photographs.yaml"
    (home / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    (home / "data/taxonomy/photographs.yaml").write_text(yaml.safe_dump(taxonomy(real_data), sort_keys=False))
    run(home, "dvc", "repro", TAGWRIGHT_TRACKING="off")
    return home


def taxonomy(real_data) -> dict:
    """COCO's 80 categories, five of which Open Images knows too."""
    with open(real_data / "openimages/oidv6-class-descriptions.csv", encoding="utf-8", newline="") as file:
        mid_of = {name: mid for mid, name in list(csv.reader(file))[1:]}
    described = yaml.safe_load((ROOT / "data/taxonomy/coco80.yaml").read_text(encoding="utf-8"))
    for name, label in SHARED_LABELS.items():
        next(entry for entry in described["labels"] if entry["id"] == label)["from"]["openimages"] = [mid_of[name]]
    return described


def test_every_image_of_both_kits_is_accounted_for(photographs):
    books = json.loads((photographs / "data/reports/ledger/split.json").read_text())["units"]["images"]
    assert books["in"] == 137 + 250
    assert books["out"] + sum(books["dropped"].values()) == 137 + 250


def test_val_is_the_test_set_and_calibration_is_carved_out_of_train(photographs):
    splits = pq.read_table(photographs / "data/interim/splits.parquet").to_pandas().groupby("partition").size()
    assert splits["test"] == 34
    assert splits["train"] + splits["calibration"] == 103
    assert splits["calibration"] > 0


def test_unverified_open_images_labels_stay_unknown(photographs):
    rows = pq.read_table(photographs / "data/interim/mapped/labels.parquet").to_pandas()
    ours = rows[rows.image_id.str.startswith("openimages/")]
    assert len(ours) == 288
    assert set(ours.state) == {1}


def test_test_labels_equal_the_annotations(photographs, real_data):
    raw = json.loads((real_data / "coco/annotations/instances_val.json").read_text())
    name_of = {c["id"]: c["name"] for c in raw["categories"]}
    truth = {(f"coco/{a['image_id']}", name_of[a["category_id"]]) for a in raw["annotations"]}
    rows = pq.read_table(photographs / "data/interim/cleaned/labels.parquet").to_pandas()
    test_ids = {f"coco/{image['id']}" for image in raw["images"]}
    assert {
        (i, h) for i, h, s in zip(rows.image_id, rows.label, rows.state, strict=True) if i in test_ids and s
    } == truth


def test_the_model_is_evaluated_and_reported(photographs):
    metrics = json.loads((photographs / "data/reports/metrics.json").read_text())
    assert metrics["protocol"]["num_images"] == 34
    assert metrics["protocol"]["num_labels"] == 80
    assert 0 < metrics["test"]["mAP"] <= 1
    assert metrics["cleaning"] == {}
    assert (photographs / "data/reports/report.html").exists()
