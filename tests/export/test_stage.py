"""The stage, on a small saved model with shards and a taxonomy of its own."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import torch
import yaml
from sklearn.metrics import average_precision_score

from tasks.core.errors import ModelError, TableError
from tasks.evaluation.scored_run import ScoredRun, write_scored_run
from tasks.export import variants
from tasks.export.manifest import Preprocessing
from tasks.export.runtime import Predictor, open_session
from tasks.export.variant_costs import cost, network_images
from tasks.images.shards import ShardReader, write_shards
from tasks.nn.backbone import build_backbone
from tasks.nn.geometry import fit_to
from tasks.nn.heads.linear import Linear
from tasks.nn.model import Tagger, model_sha256, save_model
from tasks.params import Params, parse_params
from tasks.stages import export
from tests.conftest import ROOT
from tests.images import pictures

LABELS = ["cat", "animal", "犬"]
TAXONOMY = """
labels:
  - {id: cat, name: Cat, implies: [animal]}
  - {id: animal}
  - {id: 犬, implies: [animal]}
"""


def saved_params(folder: Path, *, thresholds=(0.4, None, 0.6), tolerance: float = 1e-4, variants=()) -> Params:
    """Everything that the stage reads, written to `folder`."""
    raw = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    raw["paths"] = {name: str(folder / Path(path).name) for name, path in raw["paths"].items()}
    raw["export"] |= {"opset": 18, "tolerance": tolerance, "parity_images": 5, "variants": list(variants)}
    params = parse_params(raw)

    torch.manual_seed(0)
    backbone = build_backbone("test_resnet", weights=None, options={}, image_px=(32, 32))
    model = Tagger(backbone, Linear(backbone.num_features, 3), labels=LABELS)
    config = {
        "head": {"name": "linear", "options": {}},
        "image_px": [32, 32],
        "resize": "letterbox",
        "short_side_px": 24,
        "weights_kind": "ema",
    }
    save_model(params.paths.finetuned, model, config)

    for n in range(8):
        (folder / f"{n}.png").write_bytes(pictures.encode(pictures.scene(40, 30, seed=n)))
    images = pa.table({"image_id": [f"s/{n}" for n in range(8)], "uri": [f"{n}.png" for n in range(8)]})
    write_shards(images, params.paths.shards, root=folder, short_side_px=24, images_per_file=100)
    params.paths.taxonomy.write_text(TAXONOMY, encoding="utf-8")
    entries = {label: {"threshold": t} for label, t in zip(LABELS, thresholds, strict=True)}
    params.paths.thresholds.write_text(json.dumps({"labels": entries}), encoding="utf-8")
    return params


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Params:
    params = saved_params(tmp_path_factory.mktemp("run"))
    export.run(params)
    return params


def test_the_file_carries_what_the_stages_before_it_decided(exported):
    _, manifest = open_session(exported.paths.exported)
    assert manifest.labels == LABELS
    assert manifest.display_names == ["Cat", "animal", "犬"]
    assert manifest.thresholds == [0.4, float("inf"), 0.6]
    assert manifest.implications == [(0, 1), (2, 1)]
    assert (manifest.preprocessing.short_side_px, manifest.preprocessing.resize) == (24, "letterbox")
    assert manifest.provenance["weights_kind"] == "ema"
    assert manifest.provenance["model_sha256"] == model_sha256(exported.paths.finetuned)
    assert len(manifest.provenance["taxonomy_sha256"]) == 64


def test_the_report_says_how_near_the_file_is_to_torch(exported):
    report = json.loads(exported.paths.export_report.read_text(encoding="utf-8"))
    assert float(report["max_score_difference"]) < 1e-4
    assert report["unlike_decisions"] == 0
    assert report["images"] == 5
    assert report["size_bytes"] == exported.paths.exported.stat().st_size
    assert "5 images" in (exported.paths.ledger / "export.json").read_text(encoding="utf-8")


def test_a_file_that_scores_otherwise_than_torch_is_refused_and_removed(tmp_path):
    params = saved_params(tmp_path, tolerance=1e-12)
    with pytest.raises(ModelError, match=r"differ from torch's by up to .* on 5 images, export\.tolerance is 1e-12"):
        export.run(params)
    assert not params.paths.exported.exists()
    assert not params.paths.export_report.exists()


def test_a_label_without_a_threshold_is_named(exported, tmp_path):
    path = tmp_path / "thresholds.json"
    path.write_text('{"labels": {"cat": {"threshold": 0.5}}}', encoding="utf-8")
    changed = exported.model_copy(update={"paths": exported.paths.model_copy(update={"thresholds": path})})
    with pytest.raises(TableError, match="no threshold for label 'animal'"):
        export.run(changed)


def test_a_label_that_the_taxonomy_lost_is_named(exported, tmp_path):
    path = tmp_path / "taxonomy.yaml"
    path.write_text("labels: [{id: cats}, {id: animal}]", encoding="utf-8")
    changed = exported.model_copy(update={"paths": exported.paths.model_copy(update={"taxonomy": path})})
    with pytest.raises(ModelError, match=r"no label 'cat', .* Did you mean 'cats'"):
        export.run(changed)


def test_without_variants_their_folder_is_empty_and_the_report_does_not_speak_of_them(exported):
    assert not list(exported.paths.variants.iterdir())
    assert "variants" not in json.loads(exported.paths.export_report.read_text(encoding="utf-8"))


# ---------------------------------------------------------------- variants

EVALUATED = [f"s/{n}" for n in range(6)]


def with_evaluation(params: Params, states_NC: np.ndarray) -> Params:
    """The scored run of `evaluate` on the first six images; its scores are of no interest here."""
    run = ScoredRun(
        EVALUATED,
        LABELS,
        np.zeros((6, 3), np.float32),
        (states_NC == 1).astype(np.uint8),
        states_NC >= 0,
        np.array([0.4, np.inf, 0.6]),
        None,
        {"name": "tagwright"},
    )
    write_scored_run(params.paths.evaluation / "scored_run.parquet", run)
    return params


@pytest.fixture(scope="module")
def with_variants(tmp_path_factory) -> Params:
    params = saved_params(tmp_path_factory.mktemp("variants"), variants=["fp16", "int8"])
    states_NC = np.array([[1, 1, 0], [0, 1, 1], [1, 0, -1], [0, -1, 1], [1, 1, 1], [0, 0, 0]])
    export.run(with_evaluation(params, states_NC))
    return params


def test_each_variant_is_a_file_that_predicts_and_what_it_costs_is_measured_on_the_evaluated_images(with_variants):
    report = json.loads(with_variants.paths.export_report.read_text(encoding="utf-8"))["variants"]
    assert sorted(report) == ["fp16", "int8"]
    reader = ShardReader(with_variants.paths.shards)
    images = np.stack([fit_to(reader[reader.index[i]], (32, 32), "letterbox") for i in EVALUATED])
    full_NC, full_decisions = Predictor(with_variants.paths.exported)(images)
    for name, entry in report.items():
        path = with_variants.paths.variants / f"{name}.onnx"
        assert list(entry["files"]) == [path.name]
        assert entry["size_bytes"] == path.stat().st_size < with_variants.paths.exported.stat().st_size
        scores_NC, decisions_NC = Predictor(path)(images)
        assert entry["max_score_difference"] == pytest.approx(np.abs(scores_NC - full_NC).max(), abs=1e-6)
        assert entry["unlike_decisions"] == (decisions_NC != full_decisions).sum()
        truth = {0: ([0, 1, 2, 3, 4, 5], [1, 0, 1, 0, 1, 0]), 1: ([0, 1, 2, 4, 5], [1, 1, 0, 1, 0]),
                 2: ([0, 1, 3, 4, 5], [0, 1, 1, 1, 0])}  # fmt: skip
        mean_ap = np.mean([average_precision_score(y, scores_NC[rows, c]) for c, (rows, y) in truth.items()])
        assert entry["mAP"] == pytest.approx(mean_ap, abs=1e-6)
        full_ap = np.mean([average_precision_score(y, full_NC[rows, c]) for c, (rows, y) in truth.items()])
        assert entry["mAP_points_lost"] == pytest.approx(100 * (full_ap - mean_ap), abs=1e-4)


def test_ranges_never_come_from_evaluated_images_and_stale_variants_go(with_variants, monkeypatch):
    seen = []

    def spy(path: Path, out_path: Path, images_BHWC: np.ndarray) -> None:
        seen.append(images_BHWC)
        out_path.write_bytes(path.read_bytes())

    monkeypatch.setitem(variants.VARIANTS, "int8", variants.Variant(".onnx", spy))
    params = with_variants.model_copy(update={"export": with_variants.export.model_copy(update={"variants": ["int8"]})})
    export.run(params)
    report = json.loads(params.paths.export_report.read_text(encoding="utf-8"))["variants"]
    others = network_images(["s/6", "s/7"], ShardReader(params.paths.shards), Preprocessing(24, (32, 32), "letterbox"))
    assert np.array_equal(seen[0], others)
    assert (report["int8"]["mAP_points_lost"], report["int8"]["unlike_decisions"]) == (0, 0)
    assert [p.name for p in params.paths.variants.iterdir()] == ["int8.onnx"]


def test_where_nothing_is_known_present_the_cost_in_map_is_unknown():
    scores = SimpleNamespace(
        scores_NC=np.zeros((2, 3)), decisions_NC=np.zeros((2, 3), bool), metrics={"mAP": None, "OF1": 0.5}
    )
    lost = cost(scores, scores)
    assert (lost["mAP"], lost["mAP_points_lost"], lost["OF1_points_lost"]) == (None, None, 0)
