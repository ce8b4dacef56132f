"""Datumaro (OTX) and deep-object-reid JSON: read, written, converted; repetitions collapsed, never lost."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.errors import SourceError
from tasks.sources import coco, otx
from tests.sources.deliveries import check_source, coco_document, datumaro_document, pairs, source_pairs, write_json


def test_repeated_labels_are_collapsed_and_counted(tmp_path):
    write_json(tmp_path / "annotations.json", datumaro_document())
    raw = otx.read("pets", tmp_path)
    assert source_pairs(raw.labels) == {("a.jpg", "cat"), ("a.jpg", "dog")}
    assert raw.dropped == [("labels", 1, "repeats a label of the same image")]
    assert raw.coverage == ["cat", "dog"]
    assert raw.images.num_rows == 2


def test_a_file_written_by_running_the_converter_twice_counts_once(tmp_path):
    document = datumaro_document()
    document["items"] *= 2
    write_json(tmp_path / "annotations.json", document)
    raw = otx.read("pets", tmp_path)
    assert raw.images.num_rows == 2
    assert ("images", 2, "listed again") in raw.dropped
    check_source(raw, "pets")


def test_dotted_names_with_one_stem_are_two_images(tmp_path):
    document = datumaro_document()
    for item, path in zip(document["items"], ("a.1.jpg", "a.2.jpg"), strict=True):
        item |= {"id": "a", "image": {"path": path}}
    write_json(tmp_path / "annotations.json", document)
    assert otx.read("pets", tmp_path).images["image_id"].to_pylist() == ["pets/a.1.jpg", "pets/a.2.jpg"]


def test_an_item_without_image_path_is_named_by_its_id(tmp_path):
    document = datumaro_document()
    del document["items"][1]["image"]
    write_json(tmp_path / "annotations.json", document)
    assert otx.read("pets", tmp_path).images["uri"][1].as_py().endswith("images/b.jpg")


@pytest.mark.parametrize("classes", [["cat", "dog"], [0, 1]])
def test_reid_labels_may_be_names_or_numbers(tmp_path, classes):
    document = {"classes": classes, "images": [["x/a.jpg", [classes[1], classes[1]]], ["b.jpg", []]]}
    write_json(tmp_path / "annotations.json", document)
    raw = otx.read("pets", tmp_path)
    assert source_pairs(raw.labels) == {("x/a.jpg", str(classes[1]))}
    check_source(raw, "pets")


def test_reid_labels_may_be_positions_of_named_classes(tmp_path):
    write_json(tmp_path / "annotations.json", {"classes": ["cat", "dog"], "images": [["a.jpg", [1]]]})
    assert source_pairs(otx.read("pets", tmp_path).labels) == {("a.jpg", "dog")}


def test_written_groups_tell_otx_that_the_set_is_multi_label(tmp_path):
    otx.write_datumaro(tmp_path / "x.json", otx.LabelledImages(["cat", "dog"], [("s/a.1.jpg", ["dog", "dog", "cat"])]))
    document = json.loads((tmp_path / "x.json").read_text())
    categories = document["categories"]["label"]
    assert categories["label_groups"][0] == {"name": "___cat", "group_type": "exclusive", "labels": ["cat"]}
    assert [label["name"] for label in categories["labels"]] == ["cat", "dog"]
    (item,) = document["items"]
    assert (item["id"], item["image"]["path"]) == ("s/a.1", "s/a.1.jpg")
    assert [(a["id"], a["type"], a["group"], a["label_id"]) for a in item["annotations"]] == [
        (0, "label", 0, 1),
        (1, "label", 0, 0),
    ]


names = st.sampled_from(["cat", "dög 🐕", "__proto__", "../x", 'with "quotes", commas'])


@given(st.lists(st.lists(names, unique=True)), st.sampled_from(sorted(otx.WRITERS)))
def test_what_is_written_is_read_back(tmp_path_factory, labels, target):
    classes = sorted(["cat", "dög 🐕", "__proto__", "../x", 'with "quotes", commas'])
    data = otx.LabelledImages(classes, [(f"dir/{i}.jpg", given) for i, given in enumerate(labels)])
    path = tmp_path_factory.mktemp("otx") / "x.json"
    otx.WRITERS[target](path, data)
    assert otx.read_labelled_images(path) == data


def test_converting_an_unknown_format_or_a_partial_source_is_refused(tmp_path):
    with pytest.raises(SourceError, match=r"'datumaru' is unknown here\. Did you mean 'datumaro'"):
        otx.convert("coco", tmp_path / "x.json", "datumaru", tmp_path / "y.json")
    document = coco_document()
    document["images"][0]["neg_category_ids"] = [90]
    write_json(tmp_path / "lvis.json", document)
    with pytest.raises(SourceError, match="not exhaustive"):
        otx.convert("coco", tmp_path / "lvis.json", "reid", tmp_path / "y.json")
    assert not (tmp_path / "y.json").exists()


def test_real_coco_survives_conversion_to_both_formats(real_data, tmp_path):
    source = real_data / "coco" / "annotations" / "instances_val.json"
    otx.convert("coco", source, "datumaro", tmp_path / "datumaro.json")
    otx.convert("datumaro", tmp_path / "datumaro.json", "reid", tmp_path / "reid.json")
    raw = coco.read("x", real_data / "coco", annotations="annotations/instances_val.json")
    file_of = {r["image_id"]: r["uri"].rsplit("/", 1)[1] for r in raw.images.to_pylist()}
    expected = {(file_of[image_id], label) for image_id, label in pairs(raw.labels)}
    for file in ("datumaro.json", "reid.json"):
        converted = otx.read("x", tmp_path, annotations=file)
        check_source(converted, "x")
        assert source_pairs(converted.labels) == expected
        assert set(converted.coverage) == set(raw.coverage)
        assert converted.images.num_rows == 34
