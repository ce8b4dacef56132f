"""Pascal VOC: difficult objects, lists, and the real 2007 and 2012 files."""

from __future__ import annotations

import tarfile

import numpy as np
import pytest

from tasks.core.errors import SourceError
from tasks.core.states import states_of
from tasks.sources import voc
from tasks.sources.object_lists import Picture, source_of
from tests.sources import deliveries
from tests.sources.deliveries import check_source, source_pairs, voc_xml


@pytest.mark.parametrize(
    ("difficult", "present", "unknown"),
    [
        ("unknown", {("001", "dog"), ("003", "cat")}, {("001", "cat")}),
        ("present", {("001", "dog"), ("001", "cat"), ("003", "cat")}, set()),
        ("absent", {("001", "dog"), ("003", "cat")}, set()),
    ],
)
def test_a_cell_with_only_difficult_objects_is_what_the_option_says(tmp_path, difficult, present, unknown):
    deliveries.voc(tmp_path)
    raw = voc.read("voc", tmp_path, difficult=difficult)
    assert source_pairs(raw.labels) == present
    assert source_pairs(raw.unknown) == unknown
    assert len(raw.coverage) == 20
    check_source(raw, "voc")


def test_a_listed_id_without_annotation_is_left_out_and_counted(tmp_path):
    deliveries.voc(tmp_path)
    raw = voc.read("voc", tmp_path)
    assert raw.images["official_split"].to_pylist() == ["train", "train", "test"]
    assert ("images", 1, "listed, but without an annotation file") in raw.dropped


def test_the_owner_is_credited_and_strange_file_names_are_not_followed(tmp_path):
    deliveries.voc(tmp_path)
    (tmp_path / "Annotations/001.xml").write_text(voc_xml(file_name="C:\\pictures\\x.jpg"))
    (tmp_path / "Annotations/002.xml").write_text(voc_xml(file_name="002.png"))
    raw = voc.read("voc", tmp_path)
    assert [uri.rsplit("/", 1)[1] for uri in raw.images["uri"].to_pylist()] == ["001.jpg", "002.png", "003.jpg"]
    assert raw.images["attribution"][0].as_py() == "Ann"


def test_parts_of_an_object_are_no_objects(tmp_path):
    deliveries.voc(tmp_path)
    part = "<part><name>head</name></part>"
    (tmp_path / "Annotations/001.xml").write_text(voc_xml(("person", 0)).replace("</object>", f"{part}</object>"))
    assert ("001", "person") in source_pairs(voc.read("voc", tmp_path).labels)


def test_the_parent_of_a_year_is_pointed_into_it(tmp_path):
    deliveries.voc(tmp_path / "VOC2007")
    with pytest.raises(SourceError, match=r"Did you mean the folder 'VOC2007' inside\?"):
        voc.read("voc", tmp_path)


# ---------------------------------------------------------------- real files


def unpack(archive, folder):
    with tarfile.open(archive) as file:
        file.extractall(folder, filter="data")


@pytest.fixture(scope="module")
def voc2007(real_data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("voc2007")
    unpack(real_data / "voc" / "VOC2007.tar.gz", folder)
    return folder / "VOC2007"


@pytest.fixture(scope="module")
def raw2007(voc2007):
    return voc.read("voc", voc2007)


def list_states(voc2007, label: str, part: str) -> dict[str, int]:
    """Image id -> 1 present, -1 absent, 0 difficult only, as the official class list has it."""
    lines = (voc2007 / f"ImageSets/Main/{label}_{part}.txt").read_text().split("\n")
    return {line.split()[0]: int(line.split()[1]) for line in lines if line.strip()}


def test_voc2007_has_5011_and_4952_images(raw2007):
    splits = raw2007.images["official_split"].to_pylist()
    assert (splits.count("train"), splits.count("test")) == (5011, 4952)
    check_source(raw2007, "voc")


def test_voc2007_every_cell_equals_the_official_lists(voc2007, raw2007):
    present, unknown = source_pairs(raw2007.labels), source_pairs(raw2007.unknown)
    num_pairs = differing = 0
    for part in ("trainval", "test"):
        for label in voc.VOC_CLASSES:
            for image_id, state in list_states(voc2007, label, part).items():
                ours = 1 if (image_id, label) in present else 0 if (image_id, label) in unknown else -1
                num_pairs += 1
                differing += ours != state
    assert (num_pairs, differing) == (9963 * 20, 0)
    assert (len(present), len(unknown)) == (14_319, 1_226)


def test_voc2007_cooccurrence_on_trainval_equals_the_published_counts(real_data, raw2007):
    """adj[i, j]: images with both labels, diagonal 0; nums[i]: images with label i; difficult-only is not present."""
    published = np.load(real_data / "graph" / "voc_cooccurrence.npz", allow_pickle=True)
    labels = [str(label) for label in published["labels"]]
    train = [
        image_id
        for image_id, split in zip(
            *(raw2007.images[c].to_pylist() for c in ("image_id", "official_split")), strict=True
        )
        if split == "train"
    ]
    targets = states_of(raw2007.labels, train, labels).targets_NC.astype(np.int64)
    counts = targets.T @ targets
    assert np.array_equal(np.diag(counts), published["nums"])
    assert np.array_equal(counts - np.diag(np.diag(counts)), published["adj"])


def test_voc2012_kit_reads_what_is_annotated(real_data, tmp_path):
    unpack(real_data / "voc" / "VOC2012-animals-train" / "annotations.tar.gz", tmp_path)
    raw = voc.read("voc12", tmp_path / "VOC2012")
    check_source(raw, "voc12")
    assert raw.num_in[0] == ("images", 5717)
    assert (raw.images.num_rows, raw.unknown.num_rows) == (1697, 132)
    present = source_pairs(raw.labels)
    counts = {label: sum(1 for _, other in present if other == label) for label in ("cat", "dog", "person", "train")}
    assert counts == {"cat": 539, "dog": 632, "person": 298, "train": 0}
    states = list_states(tmp_path / "VOC2012", "dog", "train")
    ids = {image_id.split("/", 1)[1] for image_id in raw.images["image_id"].to_pylist()}
    assert {i for i, state in states.items() if state == 1 and i in ids} == {
        i for i, label in present if label == "dog"
    }


def test_the_largest_box_of_a_class_is_kept_and_an_object_without_a_box_has_no_size(tmp_path):
    box = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>{}</xmax><ymax>10</ymax></bndbox>"
    objects = [("cat", box.format(5)), ("cat", box.format(20)), ("dog", ""), ("cow", box.format("x"))]
    text = "".join(f"<object><name>{label}</name>{inside}</object>" for label, inside in objects)
    path = tmp_path / "a.xml"
    path.write_text(f"<annotation>{text}</annotation>", encoding="utf-8")
    annotation = voc.read_annotation(path)
    assert annotation.areas[:2] == [50, 200]
    assert all(area != area for area in annotation.areas[2:])
    picture = Picture("a", ["a.jpg"], annotation.listed("unknown"), "a.xml")
    sizes = source_of("v", str(tmp_path), [picture], where="a.xml").objects
    assert sizes.to_pylist() == [{"image_id": "v/a", "label": "cat", "area_px": 200}]
