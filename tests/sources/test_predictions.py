"""Vendor and detector predictions: proposals about another source's images, under the vendor's class names."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.mapping.image_matching import match_images
from tasks.sources import coco, predictions
from tests.sources.deliveries import check_source, pairs, source_pairs, write_csv, write_json

ACME = {"of": "pets", "origin": "vendor:acme"}


@pytest.fixture
def three_formats(tmp_path):
    """The same three predictions as CSV, Parquet and the JSON shapes."""
    rows = [("1", "cat", 0.5), ("1", "cat", 0.75), ("a/b", "number 4 ", 0.25)]
    write_csv(tmp_path / "p.csv", ("image", "name", "score"), *rows)
    columns = dict(zip(("image_id", "label", "score"), zip(*rows, strict=True), strict=True))
    pq.write_table(pa.table({name: list(values) for name, values in columns.items()}), tmp_path / "p.parquet")
    write_json(tmp_path / "list.json", [{"image_id": i, "label": n, "score": s} for i, n, s in rows])
    return tmp_path


@pytest.mark.parametrize("file", ["p.csv", "p.parquet", "list.json"])
def test_every_format_says_the_same_and_the_highest_score_stands(three_formats, file):
    raw = predictions.read("v", three_formats, file=file, **ACME)
    rows = [tuple(row.values()) for row in raw.labels.to_pylist()]
    assert rows == [("pets/1", "cat", 1, 0.75, "vendor:acme"), ("pets/a/b", "number 4 ", 1, 0.25, "vendor:acme")]
    assert raw.images.num_rows == 0
    assert raw.dropped == [("labels", 1, "repeats a name on the same image")]
    check_source(raw, "v")


def test_scores_by_name_and_names_without_scores(tmp_path):
    write_json(tmp_path / "s.json", {"1": {"cat": 0.5, "dog": 1}})
    write_json(tmp_path / "n.json", {"1": ["cat", "dog"], "2": []})
    scored = predictions.read("v", tmp_path / "s.json", **ACME)
    named = predictions.read("v", tmp_path / "n.json", **ACME)
    assert scored.labels["confidence"].to_pylist() == [0.5, 1.0]
    assert named.labels["confidence"].to_pylist() == [1.0, 1.0]


def test_low_scores_are_left_out_and_counted(three_formats):
    raw = predictions.read("v", three_formats, file="p.csv", min_score=0.5, **ACME)
    assert source_pairs(raw.labels) == {("1", "cat")}
    assert ("labels", 1, "score below `min_score`") in raw.dropped
    check_source(raw, "v")


def test_predictions_by_file_name_find_their_images(tmp_path):
    images = pa.table(
        {
            "image_id": ["pets/7", "pets/8", "pets/9", "other/1"],
            "uri": ["data/a.jpg", "data/x/b.jpg", "data/y/b.jpg", "data/c.jpg"],
        }
    )
    write_json(
        tmp_path / "n.json", {"a.jpg": ["cat"], "8": ["cat"], "b.jpg": ["cat"], "c.jpg": ["cat"], "nope": ["cat"]}
    )
    found = match_images(predictions.read("v", tmp_path / "n.json", **ACME).labels, images)
    assert pairs(found.rows) == {("pets/7", "cat"), ("pets/8", "cat")}
    assert list(found.lost) == [
        "pets/b.jpg",
        "pets/c.jpg",
        "pets/nope",
    ]  # b.jpg is two images; c.jpg is another source's


def test_real_detector_and_vendor_files(real_data):
    folder = real_data / "predictions"
    detector = predictions.read("d", folder, file="voc2007_test_detector_a.parquet", of="voc", origin="detector:yolo")
    check_source(detector, "d")
    assert detector.labels.num_rows == 21_078
    assert len(set(detector.labels["image_id"].to_pylist())) == 4952
    vendor = predictions.read("v", folder, file="voc2007_test_vendor.json", of="voc", origin="vendor:gemma")
    check_source(vendor, "v")
    odd = set(vendor.vocabulary) - set(detector.vocabulary)
    assert len(odd) == 26  # names outside the 20 classes stay, for mapping to list
    assert sum(1 for _, label in pairs(vendor.labels) if label in odd) == 41


def test_real_file_names_match_coco_images(real_data, tmp_path):
    raw = coco.read("coco", real_data / "coco", annotations="annotations/instances_val.json")
    names = [uri.rsplit("/", 1)[1] for uri in raw.images["uri"].to_pylist()]
    write_json(tmp_path / "n.json", {name: ["person"] for name in names})
    found = match_images(predictions.read("v", tmp_path / "n.json", of="coco", origin="vendor:x").labels, raw.images)
    assert (found.rows.num_rows, found.lost) == (34, {})
