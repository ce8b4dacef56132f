"""Cases: more files of the same kinds, as other tools, spreadsheets and people write them."""

from __future__ import annotations

import json
import shutil

import pytest

from tasks.core.errors import SourceError, VerdictError
from tasks.core.label_studio import label_paths
from tasks.core.picture_names import PictureNames
from tasks.review.imports import Importer, from_label_studio
from tasks.sources import coco, folder, openimages, predictions, voc, xml_beside
from tasks.taxonomy.reading import parse_taxonomy
from tests.cases.project import coco_file, picture, told
from tests.cases.test_tables_and_splits import CAT_AND_DOG
from tests.sources.deliveries import check_source, coco_document, source_pairs, touch, voc_xml, write_csv, write_json

CAT_AND_DOG_ON_0 = (("s/0", "cat"), ("s/0", "dog"))
# ---------------------------------------------------------------- tables


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("image;labels\r\n0.jpg;cat|dog\r\n1.jpg;dog\r\n", "utf-8-sig"),
        ("image\tlabels\r\n0.jpg\tcat|dog\r\n1.jpg\tdog\r\n", "utf-16"),
        ("sep=;\r\nimage;labels\r\n0.jpg;cat|dog\r\n1.jpg;dog\r\n", "utf-8"),
        ("image,labels,\n0.jpg,cat|dog,\n1.jpg,dog,\n,,\n,,\n", "utf-8"),
        ("FILENAME,LABELS\n0.JPG,cat|dog\n1.JPG,dog\n", "utf-8"),
        ('"image","labels"\r\n"0.jpg"," cat | dog "\r\n"1.jpg","dog"\r\n', "utf-8"),
        ("image,labels\n0.jpg,cat|dog\n1.jpg,dog\n0.jpg,dog|cat\n1.jpg,dog\n", "utf-8"),
        ("image,labels\n0.jpg,\"['cat', 'dog']\"\n1.jpg,['dog']\n2.jpg,[]\n", "utf-8"),
        ('image,labels\n0.jpg,"[""cat"", ""dog""]"\n1.jpg,"[""dog""]"\n', "utf-8"),
        ("image,labels\nC:\\\\pets\\\\images\\\\0.jpg,cat|dog\nC:\\\\pets\\\\images\\\\1.jpg,dog\n", "utf-8"),
        ("image,labels\n/home/ann/pets/images/0.jpg,cat|dog\n/home/ann/pets/images/1.jpg,dog\n", "utf-8"),
        ("image,labels\n0.jpg ,cat|dog\n 1.jpg,dog\n2.jpg,\n", "utf-8"),
    ],
    ids=[
        "Excel's semicolons, BOM and CRLF", "Excel's Unicode text", "Excel's separator line", "empty columns and rows",
        "capitals", "quotes and blanks", "rows twice", "Python's lists", "JSON's lists", "another machine's drive",
        "another machine's folder", "blanks around names, and no label",
    ],
)  # fmt: skip
def test_a_table_is_read_as_spreadsheets_and_pandas_write_it(tmp_path, text, encoding):
    touch(*(tmp_path / f"images/{n}.jpg" for n in range(3)))
    (tmp_path / "m.csv").write_bytes(text.encode(encoding))
    raw = folder.read("f", tmp_path, manifest="m.csv", images="images")
    file_of = {row["image_id"]: row["uri"].rsplit("/", 1)[1] for row in raw.images.to_pylist()}
    labels = {(file_of[row["image_id"]], row["label"]): row["state"] for row in raw.labels.to_pylist()}
    assert labels == {("0.jpg", "cat"): 1, ("0.jpg", "dog"): 1, ("1.jpg", "dog"): 1}
    check_source(raw, "f")


def test_rows_of_one_image_that_differ_stay_refused(tmp_path):
    write_csv(tmp_path / "m.csv", ("image", "labels"), ("0.jpg", "cat"), ("0.jpg", "dog"))
    with pytest.raises(SourceError, match=r"m\.csv:3: image '0\.jpg' is listed a second time"):
        folder.read("f", tmp_path, manifest="m.csv")


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("m.csv.gz", b"\x1f\x8b\x08\x00", r"m\.csv\.gz: packed \(gzip\)\. Unpack it"),
        ("m.csv", b"PK\x03\x04\x14\x00", r"m\.csv: packed \(zip\)"),
        ("m.xlsx", b"PK\x03\x04\x14\x00", r"m\.xlsx: a spreadsheet's own file\. Save the sheet as CSV"),
        ("m.csv", "image,label\n0.jpg,Käfer\n".encode("cp1252"), r"m\.csv: not UTF-8 text .*Save it as UTF-8"),
    ],
)
def test_a_file_that_is_no_text_says_in_one_line_what_to_do(tmp_path, name, content, says):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SourceError, match=says):
        folder.read("f", tmp_path, manifest=name)


def test_fastai_s_is_valid_is_the_official_split(tmp_path):
    rows = [("fname", "labels", "is_valid"), ("1.jpg", "cat dog", "True"), ("2.jpg", "dog", "False")]
    write_csv(tmp_path / "m.csv", *rows)
    raw = folder.read("f", tmp_path, manifest="m.csv", separator=" ")
    assert raw.images["official_split"].to_pylist() == ["val", "train"]


def test_json_lines_may_lack_keys_and_hold_numbers(tmp_path):
    lines = ['{"file_name": "1.png", "label": 3}', "", '{"file_name": "2.png"}']
    (tmp_path / "metadata.jsonl").write_text("\n".join(lines))
    raw = folder.read("f", tmp_path, manifest="metadata.jsonl")
    assert (raw.images.num_rows, source_pairs(raw.labels)) == (2, {("1.png", "3")})


# ---------------------------------------------------------------- folders


def test_what_windows_and_macos_leave_in_folders_is_no_image(tmp_path):
    touch(tmp_path / "cat/1.JPG", tmp_path / "cat/Thumbs.db", tmp_path / "cat/.DS_Store", tmp_path / "cat/desktop.ini")
    touch(tmp_path / "__MACOSX/cat/._1.JPG")
    raw = folder.read("f", tmp_path)
    assert raw.images["image_id"].to_pylist() == ["f/cat/1.JPG"]
    assert [(unit, count) for unit, count, _ in raw.dropped] == [("images", 2)]


def test_open_images_takes_pictures_alone_and_counts_those_of_one_stem(tmp_path):
    write_csv(tmp_path / "l.csv", ("ImageID", "Source", "LabelName", "Confidence"), ("a", "verification", "/m/cat", 1))
    touch(*(tmp_path / "images" / name for name in ("a.png", "a.jpg", "b.JPG", "Thumbs.db", ".DS_Store", "notes.txt")))
    raw = openimages.read("o", tmp_path, labels="l.csv")
    assert sorted(uri.rsplit("/", 1)[1] for uri in raw.images["uri"].to_pylist()) == ["a.jpg", "b.JPG"]
    assert ("images", 1, "another file of the same stem is the image") in raw.dropped
    check_source(raw, "o")


def test_two_pictures_of_one_stem_beside_one_xml_are_separate_distinct_by_its_file_name(tmp_path):
    touch(tmp_path / "a.jpg", tmp_path / "a.png")
    (tmp_path / "a.xml").write_text(voc_xml(("cat", 0), file_name="C:\\pets\\a.png"))
    raw = xml_beside.read("x", tmp_path)
    assert [uri.rsplit("/", 1)[1] for uri in raw.images["uri"].to_pylist()] == ["a.png"]
    assert raw.dropped == [("images", 1, "picture without an annotation file of its own")]
    check_source(raw, "x")


def test_pictures_in_split_folders_without_labels_are_told(tmp_path):
    touch(tmp_path / "train/1.jpg", tmp_path / "valid/2.jpg")
    assert folder.read("f", tmp_path).doubts() == ["no image of 2 has a label"]


# ---------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("written", "on_disk"),
    [
        ("/home/ann/pets/images/a.jpg", "a.jpg"),
        ("E:\\pets\\images\\day 1\\A.JPG", "day 1/a.jpg"),
        ("./images/../images/a.jpg", "a.jpg"),
        ("IMG%200001.jpeg", "img 0001.jpg"),
        ("139.png", "000000000139.png"),
        ("a.b", "a.b.jpg"),
        ("day 1/a", "day 1/a.webp"),
        (" a.jpg", "a.jpg"),
    ],
)
def test_a_coco_file_name_of_another_tool_finds_its_picture(tmp_path, written, on_disk):
    coco_file(tmp_path / "a.json", {written: ["cat"]})
    touch(tmp_path / "images" / on_disk)
    uris = coco.read("s", tmp_path, annotations="a.json").images["uri"].to_pylist()
    assert uris == [str(tmp_path / "images" / on_disk)]


def test_an_absolute_name_never_leads_out_of_the_folder(tmp_path):
    touch(tmp_path / "secret.jpg", tmp_path / "s/images/a.jpg")
    coco_file(tmp_path / "s/a.json", {str(tmp_path / "secret.jpg"): ["cat"]})
    with pytest.raises(SourceError, match="refused image name"):
        coco.read("s", tmp_path / "s", annotations="a.json")


def test_a_vendor_s_address_is_matched_by_its_end():
    names = PictureNames.of_images(["s/0", "s/1"], ["raw/images/val/0001.jpg", "raw/images/val/0002.jpg"])
    assert names.find("https://cdn.example/pets/val/0002.jpg?w=224#x") == "s/1"


# ---------------------------------------------------------------- COCO

ODD = {
    "iscrowd as text": lambda d: [a.update(iscrowd=str(a["iscrowd"])) for a in d["annotations"]],
    "iscrowd with a point": lambda d: [a.update(iscrowd=float(a["iscrowd"])) for a in d["annotations"]],
    "licences without id": lambda d: d.update(licenses=[{"name": None, "url": ""}]),
    "licences an object": lambda d: d.update(licenses={}),
    "licence with a point": lambda d: d["images"][0].update(license=4.0),
    "addresses null": lambda d: [i.update(flickr_url=None, coco_url=None) for i in d["images"]],
    "supercategory null": lambda d: [c.update(supercategory=None) for c in d["categories"]],
    "extra keys": lambda d: d.update(contributor={"x": [1, {"y": None}]}),
}


@pytest.mark.parametrize("change", ODD.values(), ids=ODD)
def test_what_labels_do_not_need_may_be_odd(tmp_path, change):
    document = coco_document()
    write_json(tmp_path / "annotations/instances.json", document)
    expected = source_pairs(coco.read("s", tmp_path, crowd="unknown").labels)
    change(document)
    write_json(tmp_path / "annotations/instances.json", document)
    assert source_pairs(coco.read("s", tmp_path, crowd="unknown").labels) == expected


def test_category_names_may_be_numbers(tmp_path):
    document = coco_document()
    document["categories"][0]["name"] = 17
    write_json(tmp_path / "annotations/instances.json", document)
    assert ("7", "17") in source_pairs(coco.read("s", tmp_path).labels)


def test_a_root_category_that_bears_the_only_class_s_name_is_that_class(tmp_path):
    document = {
        "categories": [
            {"id": 0, "name": "boat", "supercategory": "none"},
            {"id": 1, "name": "boat", "supercategory": "boat"},
        ],
        "images": [{"id": 0, "file_name": "a.jpg"}, {"id": 1, "file_name": "b.jpg"}],
        "annotations": [{"id": 0, "image_id": 1, "category_id": 1}],
    }
    write_json(tmp_path / "a.json", document)
    raw = coco.read("s", tmp_path, annotations="a.json")
    assert (source_pairs(raw.labels), raw.coverage) == ({("1", "boat")}, ["boat"])


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (json.dumps(coco_document()).encode("utf-16"), "UTF-16 text. Save it as UTF-8"),
        (b"\x1f\x8b\x08\x00aaaa", r"packed \(gzip\)"),
    ],
)
def test_json_that_is_no_utf_8_text_says_in_one_line_what_to_do(tmp_path, content, says):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(SourceError, match=says):
        coco.read("s", tmp_path, annotations="a.json")


# ---------------------------------------------------------------- VOC


def test_an_xml_in_capitals_in_a_folder_below_is_read_without_lists(tmp_path):
    (tmp_path / "Annotations/day 1").mkdir(parents=True)
    (tmp_path / "Annotations/day 1/A.XML").write_text(voc_xml(("robot", 0)))
    (tmp_path / "Annotations/b.xml").write_text(voc_xml())
    touch(tmp_path / "JPEGImages/day 1/A.jpg", tmp_path / "JPEGImages/b.jpg", tmp_path / "JPEGImages/c.jpg")
    raw = voc.read("v", tmp_path)
    assert source_pairs(raw.labels) == {("day 1/A", "robot")}
    assert (raw.coverage, raw.images.num_rows) == (["robot"], 2)
    assert raw.dropped == [("images", 1, "picture without an annotation file")]
    check_source(raw, "v")


def test_lists_may_name_picture_files_and_splits_in_capitals(tmp_path):
    (tmp_path / "Annotations").mkdir()
    for name in ("a", "b"):
        (tmp_path / f"Annotations/{name}.xml").write_text(voc_xml(("cat", 0)))
        touch(tmp_path / f"JPEGImages/{name}.jpg")
    write_csv(tmp_path / "ImageSets/Main/Train.txt", ["a.jpg"])
    write_csv(tmp_path / "ImageSets/Main/Validation.txt", ["b.JPG"])
    raw = voc.read("v", tmp_path)
    assert raw.images["official_split"].to_pylist() == ["train", "val"]


# ---------------------------------------------------------------- verdicts, predictions, taxonomy


def test_label_studio_s_regions_and_taxonomies_are_verdicts(project):
    case = project("verdict_same_basename")
    case.run("ingest")
    result = [
        {"type": "rectanglelabels", "value": {"x": 1, "y": 1, "rectanglelabels": ["cat"]}},
        {"type": "rectanglelabels", "value": {"x": 5, "y": 5, "rectanglelabels": ["cat"]}},
        {"type": "taxonomy", "value": {"taxonomy": [["animal", "dog"]]}},
    ]
    tasks = [{"id": 1, "data": {"image": "val/0001.jpg"}, "annotations": [{"result": result, "completed_by": 1}]}]
    taxonomy = parse_taxonomy({"labels": [{"id": "cat"}, {"id": "dog"}]})
    make = Importer(
        case.workspace.read("ingested.images", source="s"), taxonomy, who="ann", when="2026-05-01T00:00:00+00:00"
    )
    verdicts = from_label_studio(json.dumps(tasks), make, where="ls.json")
    assert [(v.image_id, v.label, v.verdict) for v in verdicts] == [
        ("s/0", "cat", "present"),
        ("s/0", "dog", "present"),
    ]
    tasks[0]["annotations"][0]["result"][0]["value"]["rectanglelabels"] = "cat"
    with pytest.raises(VerdictError, match=r"ls\.json: task 1.*value\.rectanglelabels: expected a list"):
        from_label_studio(json.dumps(tasks), make, where="ls.json")


def test_what_is_no_label_in_a_result_is_passed_by():
    assert label_paths({"text": ["a caption"], "rating": 4, "choices": None, "labels": ["cat"]}) == [["cat"]]


@pytest.mark.parametrize(
    ("score", "hint"),
    [(-1.3, "by a sigmoid"), (7.9, "Divide percentages by 100"), (1200, "by a sigmoid"), ("inf", "Remove the row")],
)
def test_a_score_that_is_no_probability_says_what_it_may_be(tmp_path, score, hint):
    write_csv(tmp_path / "p.csv", ("image", "label", "score"), ("0002.jpg", "cat", score))
    with pytest.raises(SourceError, match=hint):
        predictions.read("v", tmp_path, file="p.csv", of="s", origin="vendor:acme")


def test_predictions_of_which_most_match_nothing_are_an_error_unless_that_is_allowed(project, tmp_path):
    rows = [("val/0002", "cat", 0.5), *((f"nope{n}.jpg", "cat", 0.5) for n in range(3))]
    case = project("vendor_ids_are_file_names")
    write_csv(tmp_path / "vend/p.csv", ("image", "label", "score"), *rows)
    with pytest.raises(
        SourceError, match=r"v: 1 of its 4 predictions matches an image: 3 are a prediction on an image"
    ):
        case.run("ingest", "map_labels")
    case = project("vendor_ids_are_file_names", ingest={"min_usable_share": 0.1})
    write_csv(tmp_path / "vend/p.csv", ("image", "label", "score"), *rows)
    case.run("ingest", "map_labels")
    assert case.report("v")["dropped"] == {"prediction on an image that no source lists": 3}


# ---------------------------------------------------------------- said at the terminal


def test_what_mapping_leaves_out_is_said_with_count_and_worst_example(project, tmp_path, caplog):
    caplog.set_level("INFO")
    files = {"0.jpg": ["cat", "eel"], "1.jpg": ["eel", "bat"]}
    coco_file(tmp_path / "a.json", files)
    for name in files:
        picture(tmp_path / "images" / name)
    case = project(sources={"s": {"kind": "coco", "path": ".", "annotations": "a.json"}}, labels=CAT_AND_DOG[:1])
    case.run("ingest", "map_labels")
    line = "map_labels: 3 of 4 labels left out: source class is not in the taxonomy, e.g. 'eel' (2 rows)"
    assert line in [record.getMessage() for record in caplog.records]


def test_labels_on_which_equal_pictures_disagree_are_said_with_the_pictures(project, tmp_path, caplog):
    caplog.set_level("INFO")
    picture(tmp_path / "images/a.jpg")
    shutil.copy(tmp_path / "images/a.jpg", tmp_path / "images/b.jpg")
    coco_file(tmp_path / "a.json", {"a.jpg": ["cat"], "b.jpg": ["dog"]})
    case = project(sources={"s": {"kind": "coco", "path": ".", "annotations": "a.json"}}, labels=CAT_AND_DOG)
    case.run("ingest", "map_labels", "deduplicate")
    lines = [record.getMessage() for record in caplog.records if record.getMessage().startswith("deduplicate")]
    assert lines == [
        "deduplicate: 2 of 2 labels left out: duplicates disagree, rule 'unknown', "
        "e.g. 'cat' present on s/0, absent on s/1"
    ]


def test_a_picture_of_a_phone_is_quarantined_with_what_is_missing(project, tmp_path, caplog):
    coco_file(tmp_path / "a.json", {"a.jpg": ["cat"], "b.jxl": ["cat"]})
    picture(tmp_path / "images/a.jpg")
    (tmp_path / "images/b.jxl").write_bytes(b"\xff\x0a" + bytes(20))
    project(sources={"s": {"kind": "coco", "path": ".", "annotations": "a.json"}}).run("ingest")
    assert any("1 of 2 images quarantined: JPEG XL, which no library here reads" in line for line in told(caplog))
