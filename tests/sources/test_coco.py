"""COCO instances: states of crowds and small objects, LVIS, real files against pycocotools."""

from __future__ import annotations

import contextlib
import io
import json

import numpy as np
import pytest

from tasks.core.errors import SourceError
from tasks.core.states import states_of
from tasks.core.tables import ABSENT
from tasks.sources import coco, coco_json
from tests.sources.deliveries import check_source, coco_document, source_pairs, touch, write_json


@pytest.fixture
def delivered(tmp_path):
    """Write a document and read it: delivered(document, **options)."""

    def deliver(document=None, **options):
        write_json(tmp_path / "annotations/instances.json", document or coco_document())
        (tmp_path / "images").mkdir(exist_ok=True)
        return coco.read("pets", tmp_path, **options)

    return deliver


def test_objects_collapse_to_one_row_per_image_and_label(delivered):
    raw = delivered()
    assert source_pairs(raw.labels) == {("7", "cat"), ("7", "dog"), ("9", "dog")}
    assert raw.num_in == [("images", 3), ("labels", 5)]
    assert raw.dropped == [("labels", 2, "repeats a label of the same image")]
    assert raw.coverage == ["cat", "dog", "toothbrush"]


def test_images_without_annotations_are_kept(delivered):
    assert "pets/11" in delivered().images["image_id"].to_pylist()


def test_licence_attribution_and_place_come_with_the_image(delivered, tmp_path):
    first, second, _ = delivered().images.to_pylist()
    assert first["licence"] == "Attribution (http://example.org/by/2.0/)"
    assert first["attribution"] == "http://example.org/7"
    assert first["uri"] == f"{tmp_path.as_posix()}/images/a.jpg"
    assert second["licence"] is None


@pytest.mark.parametrize(
    ("crowd", "present", "unknown"),
    [
        ("present", {("7", "cat"), ("7", "dog"), ("9", "dog")}, set()),
        ("unknown", {("7", "cat"), ("9", "dog")}, {("7", "dog")}),
        ("absent", {("7", "cat"), ("9", "dog")}, set()),
    ],
)
def test_a_crowd_alone_is_what_the_option_says(delivered, crowd, present, unknown):
    raw = delivered(crowd=crowd)
    assert source_pairs(raw.labels) == present
    assert source_pairs(raw.unknown) == unknown
    check_source(raw, "pets")


def test_a_label_with_only_small_objects_is_unknown_and_not_absent(delivered):
    raw = delivered(min_area=20, crowd="absent")
    assert source_pairs(raw.labels) == {("7", "cat")}
    assert source_pairs(raw.unknown) == {("9", "dog")}
    check_source(raw, "pets")


def test_min_area_falls_back_on_the_box(delivered):
    document = coco_document()
    for annotation in document["annotations"]:
        del annotation["area"]
    assert source_pairs(delivered(document, min_area=99).labels) == {("7", "cat")}  # 10 x 10


def test_without_min_area_boxes_and_areas_are_not_needed(delivered):
    document = coco_document()
    for annotation in document["annotations"]:
        annotation["bbox"] = [0, 0, -5, 3]
        del annotation["area"]
    assert delivered(document).labels.num_rows == 3


def test_a_source_that_is_not_exhaustive_covers_nothing(delivered):
    raw = delivered(exhaustive=False, crowd="unknown")
    assert raw.coverage == []
    assert raw.unknown.num_rows == 0


def test_lvis_negatives_are_verified_absences_and_the_rest_is_unknown(delivered):
    document = coco_document()
    document["images"][0] |= {"neg_category_ids": [90, 90], "not_exhaustive_category_ids": [17]}
    document["images"][2] |= {"neg_category_ids": [17, 18]}
    raw = delivered(document)
    assert source_pairs(raw.labels, state=ABSENT) == {("7", "toothbrush"), ("11", "cat"), ("11", "dog")}
    assert source_pairs(raw.labels, state=1) == {("7", "cat"), ("7", "dog"), ("9", "dog")}
    assert raw.coverage == []
    check_source(raw, "pets")


def test_lvis_negative_beside_an_annotated_object_gives_way_to_it(delivered):
    document = coco_document()
    document["images"][0]["neg_category_ids"] = [17]
    raw = delivered(document)
    assert source_pairs(raw.labels, state=ABSENT) == set()
    assert ("labels", 1, "listed as absent, but an object of it is annotated on the image") in raw.dropped
    check_source(raw, "pets")


def test_lvis_images_without_a_file_name_use_the_address(delivered, tmp_path):
    document = coco_document()
    document["images"][0].pop("file_name")
    document["images"][0]["coco_url"] = "http://images.example.org/train2017/000000000007.jpg"
    assert delivered(document).images["uri"][0].as_py().endswith("/images/train2017/000000000007.jpg")


def test_each_split_has_its_file_and_folder(tmp_path):
    train, val = coco_document(), coco_document()
    for image in val["images"]:
        image["id"] += 100
    for annotation in val["annotations"]:
        annotation["image_id"] += 100
    write_json(tmp_path / "train.json", train)
    write_json(tmp_path / "val.json", val)
    raw = coco.read(
        "pets",
        tmp_path,
        annotations={"train": "train.json", "val": "val.json"},
        images={"train": "train2017", "val": "s3://bucket/val2017/"},
    )
    assert raw.images["official_split"].to_pylist() == ["train"] * 3 + ["val"] * 3
    assert raw.images["uri"][3].as_py() == "s3://bucket/val2017/a.jpg"
    check_source(raw, "pets")


def test_image_ids_may_be_text_with_slashes(delivered):
    document = coco_document()
    for image in document["images"]:
        image["id"] = f"day/{image['id']}"
    for annotation in document["annotations"]:
        annotation["image_id"] = f"day/{annotation['image_id']}"
    assert "pets/day/7" in delivered(document).images["image_id"].to_pylist()


def test_slices_of_any_size_give_the_same_rows(delivered, tmp_path, monkeypatch):
    """Slices end everywhere, also inside nested objects and inside a string that looks like the end of an object."""
    document = coco_document()
    for number, annotation in enumerate(document["annotations"]):
        annotation["note"] = "}, {" * number
        annotation["segmentation"] = {"counts": "x},{y", "size": [1, 2], "parts": [{"a": 1}, {"b": 2}]}
    whole = delivered(document)
    for size in (1, 7, 64, 300):
        monkeypatch.setattr(coco_json, "SLICE_BYTES", size)
        assert delivered(document).labels.equals(whole.labels)


def test_annotations_elsewhere_in_the_file_are_not_the_annotations(delivered, monkeypatch):
    """The one walk over the file starts at the first `"annotations": [`, which may be another one."""
    whole = delivered(coco_document())
    decoys = [
        {"annotations": coco_document()["annotations"]},
        {"info": {"annotations": coco_document()["annotations"] * 3}},
        {"info": '"annotations": [{"image_id": 1, "category_id": 1}, {"image_id": 1, "category_id": 1}, {'},
        {"info": {"annotations": [{"x": 1}, {"x": 2}, {"x": 3}]}},
    ]
    monkeypatch.setattr(coco_json, "SLICE_BYTES", 1)
    for decoy in decoys:
        document = {**decoy, **coco_document()}
        assert delivered(document).labels.equals(whole.labels)


def test_most_annotations_are_taken_in_one_walk(tmp_path, monkeypatch):
    monkeypatch.setattr(coco_json, "SLICE_BYTES", 1)
    path = tmp_path / "a.json"
    path.write_text(json.dumps(coco_document()), encoding="utf-8")
    data = coco_json.mapped_bytes(path)
    document, taken = coco_json._skim(path, data, coco_json.Annotation)
    left = json.loads(bytes(document.annotations))
    assert [a["id"] for a in left] == [coco_document()["annotations"][-1]["id"]]
    assert sum(len(columns.crowd) for columns in taken) == len(coco_document()["annotations"]) - 1


def test_a_wrong_value_is_named_by_its_place_in_the_file_whatever_the_slice(delivered, monkeypatch):
    monkeypatch.setattr(coco_json, "SLICE_BYTES", 1)
    document = coco_document()
    document["annotations"][3]["image_id"] = 9.5
    with pytest.raises(SourceError, match=r"annotations\[3\]\.image_id"):
        delivered(document)


def test_order_of_keys_and_white_space_do_not_matter(delivered, tmp_path):
    raw = delivered()
    document = coco_document()
    turned = {key: document[key] for key in reversed(document)}
    path = tmp_path / "annotations/instances.json"
    path.write_text(json.dumps(turned, indent=3), encoding="utf-8-sig", newline="\r\n")
    again = coco.read("pets", tmp_path)
    assert again.labels.equals(raw.labels)


# ---------------------------------------------------------------- links


def test_an_image_that_is_a_link_out_of_the_folder_is_refused_unless_allowed(delivered, tmp_path):
    touch(tmp_path / "secret.jpg", tmp_path / "images/b.jpg")
    (tmp_path / "images/a.jpg").symlink_to(tmp_path / "secret.jpg")
    with pytest.raises(SourceError, match=r"images/a\.jpg: refused: it is a link to .*secret\.jpg.*follow_links"):
        delivered()
    assert delivered(follow_links=True).images.num_rows == 3


def test_a_linked_subfolder_out_of_the_folder_is_refused(delivered, tmp_path):
    document = coco_document()
    document["images"][0]["file_name"] = "sub/a.jpg"
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "images").mkdir()
    (tmp_path / "images/sub").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SourceError, match="images/sub: refused"):
        delivered(document)


def test_links_inside_the_folder_and_a_linked_folder_itself_are_fine(delivered, tmp_path):
    touch(tmp_path / "disk/real.jpg")
    (tmp_path / "disk/a.jpg").symlink_to("real.jpg")
    (tmp_path / "images").symlink_to(tmp_path / "disk")
    assert delivered().images.num_rows == 3


def test_an_image_that_is_not_on_disk_is_still_listed(delivered):
    assert delivered().images.num_rows == 3


# ---------------------------------------------------------------- real files


def test_real_multi_hot_equals_pycocotools(real_data):
    from pycocotools.coco import COCO

    for part, counts in {"train": (103, 902, 367, 73), "val": (34, 385, 149, 59)}.items():
        file = f"annotations/instances_{part}.json"
        raw = coco.read("coco", real_data / "coco", annotations=file)
        check_source(raw, "coco")
        with contextlib.redirect_stdout(io.StringIO()):
            oracle = COCO(str(real_data / "coco" / file))
        category_ids = oracle.getCatIds()
        names = [category["name"] for category in oracle.loadCats(category_ids)]
        image_ids = oracle.getImgIds()
        expected = np.zeros((len(image_ids), len(category_ids)), np.uint8)
        for i, image_id in enumerate(image_ids):
            for annotation in oracle.loadAnns(oracle.getAnnIds(imgIds=image_id)):
                expected[i, category_ids.index(annotation["category_id"])] = 1
        states = states_of(raw.labels, [f"coco/{i}" for i in image_ids], names)
        assert np.array_equal(states.targets_NC, expected)
        images, objects, labels, categories = counts
        assert raw.num_in == [("images", images), ("labels", objects)]
        assert raw.labels.num_rows == labels
        assert len(set(raw.labels["label"].to_pylist())) == categories
        assert sorted(raw.coverage) == sorted(names)


def test_real_licences_and_empty_images(real_data):
    raw = coco.read("coco", real_data / "coco", annotations="annotations/instances_train.json")
    assert len(set(raw.images["image_id"].to_pylist()) - set(raw.labels["image_id"].to_pylist())) == 3
    assert raw.images["licence"].null_count == raw.images["attribution"].null_count == 0
    assert (real_data / "coco" / "images").is_dir()
    assert all(uri.endswith(".jpg") for uri in raw.images["uri"].to_pylist())


def test_the_largest_stated_area_of_each_cell_is_kept_and_objects_without_one_have_no_size(delivered):
    document = coco_document()
    del document["annotations"][2]["area"]
    sizes = {(r["image_id"], r["label"]): r["area_px"] for r in delivered(document).objects.to_pylist()}
    assert sizes == {("pets/7", "cat"): 90, ("pets/9", "dog"): 50}
