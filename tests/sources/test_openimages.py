"""Open Images: verified, machine and box labels kept apart, partial by nature; class names, lists, hierarchy."""

from __future__ import annotations

import csv

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.core.errors import SourceError
from tasks.core.tables import ABSENT, PRESENT
from tasks.sources import openimages
from tasks.sources.openimages_tables import read_class_descriptions, read_hierarchy
from tests.sources import deliveries
from tests.sources.deliveries import check_source, source_pairs, touch, write_csv, write_json

HUMAN_COLUMNS = ("ImageID", "Source", "LabelName", "Confidence")
LIST_COLUMNS = ("ImageID", "Subset", "OriginalURL", "OriginalLandingURL", "License", "Author", "Title")


def test_one_is_present_zero_is_verified_absent_and_the_rest_is_unknown(tmp_path):
    raw = openimages.read("oi", tmp_path, **deliveries.openimages(tmp_path))
    assert source_pairs(raw.labels, origin="verified", state=PRESENT) == {("aa", "/m/cat")}
    assert source_pairs(raw.labels, origin="verified", state=ABSENT) == {("aa", "/m/dog"), ("bb", "/m/dog")}
    assert raw.coverage == []
    assert raw.unknown.num_rows == 0


def test_machine_labels_have_an_origin_of_their_own_and_keep_the_highest_confidence(tmp_path):
    raw = openimages.read("oi", tmp_path, **deliveries.openimages(tmp_path))
    rows = [row for row in raw.labels.to_pylist() if row["origin"] == "model:openimages"]
    assert [(row["image_id"], row["label"], row["state"]) for row in rows] == [("oi/bb", "/m/cat", PRESENT)]
    assert rows[0]["confidence"] == pytest.approx(0.9)


def test_a_box_that_does_not_count_leaves_the_label_unknown(tmp_path):
    options = deliveries.openimages(tmp_path)
    strict = openimages.read("oi", tmp_path, **options)
    assert source_pairs(strict.labels, origin="box") == {("aa", "/m/cat")}
    assert ("labels", 1, "box marked IsGroupOf") in strict.dropped
    lenient = openimages.read("oi", tmp_path, **options | {"use_group_of": True})
    assert source_pairs(lenient.labels, origin="box") == {("aa", "/m/cat"), ("bb", "/m/cat")}


def test_images_are_those_of_the_files_and_of_the_folder_with_their_real_extension(tmp_path):
    raw = openimages.read("oi", tmp_path, **deliveries.openimages(tmp_path))
    names = {row["image_id"]: row["uri"].rsplit("/", 1)[1] for row in raw.images.to_pylist()}
    assert names == {"oi/aa": "aa.jpg", "oi/bb": "bb.png", "oi/cc": "cc.jpg"}


def test_contradicting_verdicts_are_both_kept_for_mapping_to_report(tmp_path):
    write_csv(tmp_path / "h.csv", HUMAN_COLUMNS, ("aa", "v", "/m/cat", 1), ("aa", "c", "/m/cat", 0))
    raw = openimages.read("oi", tmp_path, labels="h.csv")
    assert sorted(raw.labels["state"].to_pylist()) == [ABSENT, PRESENT]
    check_source(raw, "oi")


def test_an_image_list_defines_the_images_and_credits_them(tmp_path):
    write_csv(tmp_path / "h.csv", HUMAN_COLUMNS, ("aa", "v", "/m/cat", 1), ("zz", "v", "/m/cat", 0))
    write_csv(
        tmp_path / "images.csv",
        LIST_COLUMNS,
        ("dd", "validation", "http://x.example/d.jpg", "http://x.example/d", "by/2.0", "Ann", 'a "title", with commas'),
        ("aa", "train", "http://x.example/a.jpg", "", "by/2.0", "", ""),
    )
    raw = openimages.read("oi", tmp_path, labels="h.csv", image_list="images.csv", images="")
    first, second = raw.images.to_pylist()
    assert first == {
        "image_id": "oi/dd",
        "uri": "http://x.example/d.jpg",
        "licence": "by/2.0",
        "attribution": "Ann, http://x.example/d",
        "official_split": "val",
    }
    assert (second["official_split"], second["attribution"]) == ("train", None)
    assert source_pairs(raw.labels) == {("aa", "/m/cat")}
    assert ("labels", 1, "of an image that is not in the source (`image_list`, `only_existing`)") in raw.dropped
    check_source(raw, "oi")


def test_only_existing_leaves_out_images_that_were_not_downloaded(tmp_path):
    write_csv(tmp_path / "h.csv", HUMAN_COLUMNS, ("aa", "v", "/m/cat", 1), ("zz", "v", "/m/cat", 0))
    touch(tmp_path / "images/aa.jpg")
    raw = openimages.read("oi", tmp_path, labels="h.csv", only_existing=True)
    assert raw.images["image_id"].to_pylist() == ["oi/aa"]
    assert ("images", 1, "no file in the images folder (`only_existing`)") in raw.dropped
    check_source(raw, "oi")


def test_splits_have_their_files_and_folders(tmp_path):
    write_csv(tmp_path / "t.csv", HUMAN_COLUMNS, ("aa", "v", "/m/cat", 1))
    write_csv(tmp_path / "v.csv", HUMAN_COLUMNS, ("bb", "v", "/m/cat", 0))
    touch(tmp_path / "img/train/cc.jpg")
    raw = openimages.read(
        "oi",
        tmp_path,
        labels={"train": "t.csv", "validation": "v.csv"},
        images={"train": "img/train", "validation": "s3://open/validation"},
    )
    assert {(r["image_id"], r["official_split"], r["uri"].split("/")[-2]) for r in raw.images.to_pylist()} == {
        ("oi/aa", "train", "train"),
        ("oi/bb", "val", "validation"),
        ("oi/cc", "train", "train"),
    }


def test_columns_are_found_by_name_and_headers_may_have_blanks_bom_and_crlf(tmp_path):
    text = "Confidence, LabelName ,ImageID,XClick\r\n1.0,/m/cat,0123,x\r\n"
    (tmp_path / "h.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    raw = openimages.read("oi", tmp_path, labels="h.csv")
    assert raw.labels.to_pylist() == [
        {"image_id": "oi/0123", "label": "/m/cat", "state": 1, "confidence": 1.0, "origin": "verified"}
    ]


@settings(max_examples=30)
@given(
    st.lists(
        st.tuples(st.sampled_from(["a", "b", "c/d"]), st.sampled_from(["/m/x", "__proto__", "../x"]), st.integers(0, 1))
    )
)
def test_every_verdict_is_a_row_or_a_reason(tmp_path_factory, verdicts):
    root = tmp_path_factory.mktemp("oi")
    write_csv(root / "h.csv", HUMAN_COLUMNS, *((i, "v", label, state) for i, label, state in verdicts))
    raw = openimages.read("oi", root, labels="h.csv")
    check_source(raw, "oi")
    expected = {(f"oi/{i}", label, state) for i, label, state in verdicts}
    assert expected == {(row["image_id"], row["label"], row["state"]) for row in raw.labels.to_pylist()}


# ---------------------------------------------------------------- class names and hierarchy


def test_class_descriptions_are_read_with_and_without_header(tmp_path):
    rows = [("/m/1", 'Sprenger\'s "tulip", red'), ("/m/2", "Café 🍰")]
    old = write_csv(tmp_path / "old.csv", *rows)
    new = write_csv(tmp_path / "new.csv", ("LabelName", "DisplayName "), *rows)
    assert read_class_descriptions(old) == read_class_descriptions(new) == dict(rows)


def tree(name: str, *below: dict, parts: tuple[dict, ...] = ()) -> dict:
    return (
        {"LabelName": name} | ({"Subcategory": list(below)} if below else {}) | ({"Part": list(parts)} if parts else {})
    )


def test_parents_come_from_subcategories_never_from_parts(tmp_path):
    car = tree("car", tree("taxi"), parts=(tree("wheel", tree("spare wheel")),))
    path = write_json(tmp_path / "h.json", tree("/m/0bl9f", car, tree("toy", tree("taxi"))))
    assert read_hierarchy(path) == {
        "car": [],
        "spare wheel": ["wheel"],
        "taxi": ["car", "toy"],
        "toy": [],
        "wheel": [],
    }


def test_a_cycle_is_refused_and_named(tmp_path):
    path = write_json(tmp_path / "h.json", tree("/m/0bl9f", tree("a", tree("b", tree("a")))))
    with pytest.raises(SourceError, match=r"cycle in the hierarchy: (a -> b -> a|b -> a -> b)"):
        read_hierarchy(path)


# ---------------------------------------------------------------- real files


def test_real_kit_every_row_is_conserved(real_data):
    root = real_data / "openimages"
    raw = openimages.read(
        "oi", root, labels="human-imagelabels.csv", boxes="bbox.csv", classes="oidv6-class-descriptions.csv"
    )
    check_source(raw, "oi")
    assert raw.num_in == [("images", 250), ("labels", 288 + 825)]
    with open(root / "human-imagelabels.csv", newline="") as file:
        expected = {(row["ImageID"], row["LabelName"]) for row in csv.DictReader(file)}
    assert source_pairs(raw.labels, origin="verified", state=PRESENT) == expected
    assert source_pairs(raw.labels, origin="box") == expected  # the kit's image labels are derived from its boxes
    assert set(raw.labels["state"].to_pylist()) == {PRESENT}  # it has no verified negatives, and none are invented
    assert len(raw.vocabulary) == 19_994
    by_name: dict[str, int] = {}
    for _, mid in expected:
        by_name[raw.vocabulary[mid]] = by_name.get(raw.vocabulary[mid], 0) + 1
    assert by_name == {"Apple": 51, "Bird": 49, "Bicycle": 57, "Boat": 53, "Person": 78}
    unlabelled = set(raw.images["image_id"].to_pylist()) - set(raw.labels["image_id"].to_pylist())
    assert unlabelled == {"oi/584ed644a86418c0"}


def test_real_official_boxes_are_conserved(real_data):
    raw = openimages.read(
        "oi", real_data / "openimages", boxes="body-parts-train-annotations-bbox.csv", images="elsewhere"
    )
    check_source(raw, "oi")
    assert raw.num_in == [("images", 10_079), ("labels", 13_134)]
    assert len(raw.vocabulary) == 6


def test_real_hierarchy_has_the_601_boxable_classes(real_data):
    parents = read_hierarchy(real_data / "openimages" / "bbox_labels_600_hierarchy.json")
    names = read_class_descriptions(real_data / "openimages" / "oidv6-class-descriptions.csv")
    assert len(parents) == 601
    assert set(parents) <= set(names)
    mid = {name: key for key, name in names.items() if key in parents}
    assert parents[mid["Taxi"]] == [mid["Land vehicle"]]
    assert parents[mid["Limousine"]] == [mid["Car"]]
    assert mid["Car"] not in parents[mid["Wheel"]]  # a part of it
