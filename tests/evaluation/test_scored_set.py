"""`calibrate`, `evaluate` and `gate` on small tables of their own."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import yaml

from tasks.core import tables
from tasks.core.errors import TableError
from tasks.core.prediction_table import Predictions, read_predictions, write_predictions
from tasks.evaluation.accepted import accept
from tasks.evaluation.scored_run import read_scored_run, write_scored_run
from tasks.params import Params, parse_params
from tasks.stages import calibrate, evaluate, gate
from tests.imports import ROOT

LABELS = ["animal", "cat", "key", "dog"]  # of the model; the taxonomy below has another order
TAXONOMY = """
labels:
  - {id: dog, implies: [animal]}
  - {id: cat, implies: [animal]}
  - {id: animal}
  - {id: key, FUSE}
"""
NUM_IMAGES = 240
PARTITIONS = ("calibration", "test")


def home(folder: Path, *, fuse: str = "", seed: int = 0, **sections: dict) -> Params:
    """Every table that the stages read.

    The model is unsure of animals though not of cats and dogs. Half of the keys are too small for it; the
    detector finds most of them.
    """
    raw = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    raw["paths"] = {name: str(folder / name / Path(path).name) for name, path in raw["paths"].items()}
    raw["evaluate"]["bootstrap"] = 20
    raw["calibrate"]["bootstrap"] = 5
    for name, section in sections.items():
        raw[name] |= section
    params, paths = parse_params(raw), parse_params(raw).paths
    rng = np.random.default_rng(seed)
    targets_NC = (rng.random((NUM_IMAGES, 4)) < 0.3).astype(np.uint8)
    targets_NC[:, 0] |= targets_NC[:, 1] | targets_NC[:, 3]
    small_N = rng.random(NUM_IMAGES) < 0.5
    seen_NC = targets_NC.astype(np.float32)
    seen_NC[small_N, 2] = 0
    scores_NC = np.float32(1 / (1 + np.exp(-(4 * seen_NC - 2 + rng.standard_normal(seen_NC.shape) * [4, 1, 1, 1]))))
    ids = [f"s/{n:03}" for n in range(NUM_IMAGES)]
    write_predictions(
        paths.predictions,
        Predictions(ids, [PARTITIONS[n % 2] for n in range(NUM_IMAGES)], LABELS, scores_NC, "f00", "ema"),
    )
    rows = [
        {"image_id": ids[n], "label": LABELS[c], "state": int(targets_NC[n, c]), "confidence": 1.0,
         "origin": "review:ana" if n < 60 else "annotation"}
        for n in range(NUM_IMAGES) for c in range(4)
    ]  # fmt: skip
    detected = [n for n in range(NUM_IMAGES) if rng.random() < (0.9 if targets_NC[n, 2] else 0.05)]
    proposals = [
        {"image_id": ids[n], "label": "key", "state": 1, "confidence": 0.8, "origin": "detector:yolo"} for n in detected
    ]
    objects = [  # images are (64 + n) x 4000 px
        {"image_id": ids[n], "label": "key", "area_px": (64 + n) * 4000 * (0.001 if small_N[n] else 0.2)}
        for n in range(NUM_IMAGES) if targets_NC[n, 2]
    ]  # fmt: skip
    images = {
        "image_id": ids, "source": [f"source {n % 3}" for n in range(NUM_IMAGES)], "uri": ids, "sha256": ids,
        "phash": [0] * NUM_IMAGES, "width": [64 + n for n in range(NUM_IMAGES)], "height": [4000] * NUM_IMAGES,
        "licence": ids, "attribution": ids, "official_split": ids, "status": ["ok"] * NUM_IMAGES, "reason": ids,
    }  # fmt: skip
    vocabulary = {"labels": sorted(LABELS), "groups": [], "display_names": sorted(LABELS)}
    tables.write_json(paths.mapped / "vocabulary.json", vocabulary)
    for path, schema, content in (
        (paths.mapped / "images.parquet", tables.IMAGES, pa.table(images)),
        (paths.mapped / "coverage.parquet", tables.COVERAGE, tables.COVERAGE.empty_table()),
        (paths.mapped / "objects.parquet", tables.OBJECTS, pa.Table.from_pylist(objects)),
        (paths.mapped / "proposals.parquet", tables.LABELS, pa.Table.from_pylist(proposals)),
        (paths.cleaned / "labels.parquet", tables.LABELS, pa.Table.from_pylist(rows)),
        (paths.cleaned / "unknown.parquet", tables.UNKNOWN, tables.UNKNOWN.empty_table()),
        (paths.cleaned / "queue.parquet", tables.QUEUE, tables.QUEUE.empty_table()),
        (paths.deduplicated / "groups.parquet", tables.GROUPS, tables.GROUPS.empty_table()),
        (paths.truth, tables.TRUTH, tables.TRUTH.empty_table()),
    ):
        tables.write_table(path, content, schema)
    changes = tables.CHANGES.empty_table().replace_schema_metadata({"image_ids": "[]"})
    tables.write_table(paths.cleaned / "changes.parquet", changes)
    paths.taxonomy.parent.mkdir(parents=True)
    paths.taxonomy.write_text(TAXONOMY.replace("FUSE", f"fuse: '{fuse}'"), encoding="utf-8")
    tables.write_json(paths.accepted / "metrics.json", {})
    return params


def evaluated(params: Params) -> tuple[dict, dict, dict]:
    """metrics.json, findings.json, change.json."""
    calibrate.run(params)
    evaluate.run(params)
    files = params.paths.metrics, params.paths.evaluation / "findings.json", params.paths.evaluation / "change.json"
    return tuple(json.loads(path.read_text(encoding="utf-8")) for path in files)


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> tuple[Params, tuple[dict, dict, dict]]:
    params = home(tmp_path_factory.mktemp("plain"))
    return params, evaluated(params)


def test_relations_hold_by_name_whatever_the_order_of_the_columns(plain):
    params, _ = plain
    run = read_scored_run(params.paths.evaluation / "scored_run.parquet")
    animal, cat, dog = (run.scores_NC[:, run.labels.index(name)] for name in ("animal", "cat", "dog"))
    assert (animal >= np.maximum(cat, dog)).all()
    raw = read_predictions(params.paths.predictions).select("test")
    for label in ("cat", "key", "dog"):
        np.testing.assert_array_equal(run.scores_NC[:, run.labels.index(label)], raw.scores_NC[:, LABELS.index(label)])


def test_relations_are_measured_on_and_off(plain):
    _, (metrics, _, _) = plain
    assert list(metrics["relations"]) == ["implied scores", "off", "rules on decisions"]
    assert metrics["relations"]["implied scores"]["mAP"] == metrics["test"]["mAP"]
    assert metrics["relations"]["off"]["mAP"] < metrics["test"]["mAP"] - 0.01


def test_at_one_half_is_measured_there_though_the_protocol_has_a_threshold_of_its_own(tmp_path):
    params = home(tmp_path, evaluate={"protocol": "asl"})  # 0.8
    metrics, _, _ = evaluated(params)
    run = read_scored_run(params.paths.evaluation / "scored_run.parquet")
    decided_NC, targets_NC = run.scores_NC > 0.5, run.targets_NC == 1
    of1 = 2 * (decided_NC & targets_NC).sum() / (decided_NC.sum() + targets_NC.sum())
    assert metrics["at_threshold_0.5"]["OF1"] == pytest.approx(of1, abs=1e-6)


def test_slices_cut_by_source_image_size_review_rarity_and_object_size(plain):
    _, (_, findings, _) = plain
    values = {by: [s["value"] for s in findings["slices"] if s["by"] == by] for by in (
        "source", "image size", "reviewed by a person", "rarity"
    )}  # fmt: skip
    assert values["source"] == ["source 0", "source 1", "source 2"]
    assert values["image size"] == ["under 128 px", "128 to 256 px", "256 to 512 px"]
    assert values["reviewed by a person"] == ["no", "yes"]
    assert values["rarity"] == ["rare (≤ 10 training images)"]  # this set has no training images
    sizes = {s["value"]: s["metrics"] for s in findings["slices"] if s["by"] == "object size"}
    assert list(sizes) == ["under 1% of the image", "10% of the image or more"]
    assert sizes["under 1% of the image"]["mAP"] < sizes["10% of the image or more"]["mAP"] - 0.3
    assert sum(s["images"] for s in findings["slices"] if s["by"] == "source") == NUM_IMAGES / 2


def test_every_protocol_stands_beside_the_asked_one(plain):
    _, (metrics, findings, _) = plain
    assert findings["under_protocols"]["tagwright"]["mAP"] == metrics["test"]["mAP"]
    assert len(findings["under_protocols"]) == 5


def test_without_switches_nothing_of_them_is_written(plain):
    params, (metrics, _, change) = plain
    assert (metrics["fusion"], metrics["probabilities"]) == ({}, {})
    assert change["how"] == "nothing accepted"
    assert set(json.loads(params.paths.thresholds.read_text())) == {"rule", "fit_on", "labels"}


def test_a_detector_that_sees_small_objects_helps_the_label_that_the_taxonomy_names(tmp_path, plain):
    metrics, findings, _ = evaluated(home(tmp_path, fuse="detector:yolo"))
    key = findings["fusion"]["labels"]["key"]
    assert key["on"]["AP"] > key["off"]["AP"] + 0.1
    assert key["on"]["F1"] > key["off"]["F1"]
    assert list(findings["fusion"]["labels"]) == ["key"]
    assert metrics["fusion"]["on"]["mAP"] > metrics["fusion"]["off"]["mAP"]
    assert metrics["test"] == plain[1][0]["test"]  # the model alone stays the headline


def test_a_detector_that_nobody_has_is_named_with_the_nearest(tmp_path):
    params = home(tmp_path, fuse="detector:yola")
    with pytest.raises(TableError, match=r"no source proposes as 'detector:yola'.*Did you mean 'detector:yolo'"):
        calibrate.run(params)


def test_calibrated_probabilities_are_measured_before_and_after(tmp_path):
    metrics, _, _ = evaluated(home(tmp_path, calibrate={"probabilities": "platt"}))
    assert metrics["probabilities"]["after"]["brier"] < metrics["probabilities"]["before"]["brier"]
    assert metrics["protocol"]["probabilities"] == "platt"


def test_a_worse_model_is_refused_by_the_gate_and_its_evaluation_stays(tmp_path):
    params = home(tmp_path, gate={"tolerance": 0.01})
    evaluated(params)
    gate.run(params)
    assert json.loads(params.paths.gate.read_text())["passed"]
    accept(params.paths.metrics, params.paths.evaluation, params.paths.accepted)
    original = read_predictions(params.paths.predictions)
    noise = np.random.default_rng(5).random(original.scores_NC.shape).astype(np.float32)
    worse = Predictions(original.image_ids, original.partitions, LABELS, noise, "bad", "ema")
    write_predictions(params.paths.predictions, worse)
    metrics, _, change = evaluated(params)
    assert change["how"] == "paired"
    assert change["metrics"]["mAP"]["now"] == pytest.approx(metrics["test"]["mAP"], abs=1e-6)
    assert change["settings"] == [{"name": "model_sha256", "before": "f00", "now": "bad"}]
    gate.run(params)
    judgement = json.loads(params.paths.gate.read_text())
    assert not judgement["passed"]
    assert re.match(r"gate: mAP .* worse by", judgement["why"])


def test_an_accepted_run_is_held_against_one_under_another_name(tmp_path):
    params = home(tmp_path)
    evaluated(params)
    accept(params.paths.metrics, params.paths.evaluation, params.paths.accepted)
    original = read_scored_run(params.paths.accepted / "scored_run.parquet")
    write_scored_run(
        params.paths.accepted / "scored_run.parquet",
        replace(original, labels=["padlock" if label == "key" else label for label in original.labels]),
    )
    text = params.paths.taxonomy.read_text(encoding="utf-8")
    params.paths.taxonomy.write_text(text + "migrations:\n  - rename: {padlock: key}\n", encoding="utf-8")
    _, _, change = evaluated(params)
    assert change["how"] == "paired"
    assert change["metrics"]["mAP"]["difference"] == 0


def test_without_a_labelled_test_image_there_is_nothing_to_measure(tmp_path):
    params = home(tmp_path)
    original = read_predictions(params.paths.predictions)
    write_predictions(params.paths.predictions, original.select("calibration"))
    calibrate.run(params)
    with pytest.raises(TableError, match=r"no image of partition 'test' has a known label"):
        evaluate.run(params)


def test_scores_of_other_labels_are_refused(tmp_path):
    params = home(tmp_path)
    vocabulary = {"labels": [*LABELS, "kez"], "groups": [], "display_names": [*LABELS, "kez"]}
    tables.write_json(params.paths.mapped / "vocabulary.json", vocabulary)
    with pytest.raises(TableError, match=r"no scores for label 'kez'\. Did you mean 'key'"):
        calibrate.run(params)
