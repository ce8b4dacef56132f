"""Cases: files that tools write a little otherwise, and what is said of what they lack."""

from __future__ import annotations

import json

import pytest

from tasks.core.errors import SourceError
from tasks.sources import coco, otx, voc
from tests.cases.project import coco_file, picture, told
from tests.sources.deliveries import source_pairs, write_json

CAT_AND_DOG = [{"id": name, "from": {"coco": [name]}} for name in ("cat", "dog")]


def test_files_that_list_the_same_categories_in_another_order_are_one_source(project):
    case = project("coco_categories_in_other_order")
    case.run("ingest")
    labels = case.workspace.read("ingested.labels", source="s")
    assert labels.num_rows == 6
    assert source_pairs(labels) >= {("0", "A"), ("4", "B"), ("5", "C")}


def test_files_of_different_categories_are_refused_and_the_category_is_named(tmp_path):
    coco_file(tmp_path / "a.json", {"a.jpg": ["cat"]})
    coco_file(tmp_path / "b.json", {"b.jpg": ["dog"]}, first_id=1)
    with pytest.raises(SourceError, match=r"b\.json: labels differ from those of .*a\.json, e\.g\. 'cat'"):
        coco.read("s", tmp_path, annotations={"train": "a.json", "val": "b.json"})


def test_pictures_without_any_annotation_are_said_loudly(project, caplog):
    case = project("coco_without_annotations")
    case.run("ingest", "map_labels")
    assert any("no label at all is present: all 2 classes would be absent on all 4 images" in s for s in told(caplog))
    assert case.report("s")["never_present"] == ["cat", "dog"]


def test_a_label_that_occurs_nowhere_is_listed(project, tmp_path):
    coco_file(tmp_path / "a.json", {"a.jpg": ["cat"], "b.jpg": ["dog"]})
    document = json.loads((tmp_path / "a.json").read_text())
    document["annotations"] = document["annotations"][:1]
    write_json(tmp_path / "a.json", document)
    picture(tmp_path / "images/a.jpg")
    picture(tmp_path / "images/b.jpg")
    case = project(sources={"s": {"kind": "coco", "path": ".", "annotations": "a.json"}}, labels=CAT_AND_DOG)
    case.run("ingest", "map_labels")
    assert case.report("s")["never_present"] == ["dog"]


def half_absent(project, tmp_path, *, absent: int, **overlay) -> object:
    coco_file(tmp_path / "a.json", {f"{n}.jpg": ["cat"] for n in range(10)})
    for n in range(10 - absent):
        picture(tmp_path / f"images/{n}.jpg")
    source = {"kind": "coco", "path": ".", "annotations": "a.json"}
    case = project(sources={"s": source}, labels=CAT_AND_DOG[:1], **overlay)
    case.run("ingest")
    return case


def test_quarantined_pictures_are_said_at_the_terminal_with_count_reason_and_example(project, tmp_path, caplog):
    half_absent(project, tmp_path, absent=2)
    assert "ingest@s: 2 of 10 images quarantined: absent file, e.g. images/8.jpg" in told(caplog)


def test_a_source_of_which_most_is_not_usable_fails_unless_that_is_allowed(project, tmp_path):
    with pytest.raises(SourceError, match=r"4 of its 10 images usable: 6 of 10 .* absent file.*min_usable_share"):
        half_absent(project, tmp_path, absent=6)
    assert len(half_absent(project, tmp_path, absent=6, ingest={"min_usable_share": 0.1}).images("s")) == 10


# ---------------------------------------------------------------- VOC


def test_xml_in_gb2312_is_read(project):
    case = project("voc_xml_gb2312")
    case.run("ingest")
    assert source_pairs(case.workspace.read("ingested.labels", source="v")) == {(i, "狗") for i in "012"}


@pytest.mark.parametrize(
    ("declared", "encoding"),
    [
        ("GBK", "gbk"),
        ("ansi", "cp1252"),
        ("ISO-8859-1", "latin-1"),
        ("utf-8", "utf-8"),
        ("utf-8", "utf-8-sig"),
        ("utf-16", "utf-16"),
        ("Shift_JIS", "shift_jis"),
        ("Big5", "big5"),
    ],
)
def test_xml_in_other_encodings_is_read(tmp_path, declared, encoding):
    name = "café" if encoding in ("cp1252", "latin-1") else "犬"
    text = f'<?xml version="1.0" encoding="{declared}"?>\n<annotation><object><name>{name}</name></object></annotation>'
    (tmp_path / "a.xml").write_bytes(text.encode(encoding))
    assert voc.read_annotation(tmp_path / "a.xml").objects == [(name, False)]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "gb18030"])
def test_entities_are_refused_in_every_encoding(tmp_path, encoding):
    text = f'<?xml version="1.0" encoding="{encoding}"?><!DOCTYPE a [<!ENTITY x "y">]><annotation>&x;</annotation>'
    (tmp_path / "a.xml").write_bytes(text.encode(encoding))
    with pytest.raises(SourceError, match="refused: it declares XML entities"):
        voc.read_annotation(tmp_path / "a.xml")


def test_an_encoding_that_python_does_not_know_is_named_in_one_line(tmp_path):
    (tmp_path / "a.xml").write_bytes(b'<?xml version="1.0" encoding="martian"?><annotation/>')
    with pytest.raises(SourceError, match=r"a\.xml: encoding 'martian' is unknown"):
        voc.read_annotation(tmp_path / "a.xml")


@pytest.mark.parametrize(
    ("mark", "difficult"),
    [("Unspecified", False), ("", False), ("0", False), ("1", True), ("True", True)],
)
def test_difficult_as_other_tools_write_it(tmp_path, mark, difficult):
    text = f"<annotation><object><name>cat</name><difficult>{mark}</difficult></object></annotation>"
    (tmp_path / "a.xml").write_text(text, encoding="utf-8")
    assert voc.read_annotation(tmp_path / "a.xml").objects == [("cat", difficult)]


def test_lists_of_ids_with_blanks_are_read(project):
    case = project("voc_ids_with_blanks")
    case.run("ingest")
    assert {i: row["status"] for i, row in case.images("v").items()} == {f"my {n}": "ok" for n in range(3)}


@pytest.mark.parametrize(
    ("lines", "ids"),
    [
        ("my 0\nmy 1\nmy x\n", ["my 0", "my 1", "my x"]),
        ('"my 0" 1\n"my 1" -1\n', ["my 0", "my 1"]),
        ("000001  1\n000002 -1\n000003  0\n", ["000001", "000002", "000003"]),
    ],
)
def test_plain_and_class_lists_with_and_without_quotes(tmp_path, lines, ids):
    (tmp_path / "l.txt").write_text(lines, encoding="utf-8")
    assert voc._read_list(tmp_path / "l.txt") == ids


# ---------------------------------------------------------------- convert


def test_pictures_of_one_stem_become_items_of_different_ids(project):
    case = project("convert_same_stem")
    otx.convert("coco", case.folder / "raw/c.json", "datumaro", case.folder / "out.json")
    items = json.loads((case.folder / "out.json").read_text(encoding="utf-8"))["items"]
    assert [item["id"] for item in items] == ["a b", "s/a.jpg", "s/a.png"]
    assert [item["image"]["path"] for item in items] == ["a b.jpg", "s/a.jpg", "s/a.png"]


def test_one_picture_listed_twice_with_different_labels_stays_refused(project):
    case = project("convert_same_stem")
    with pytest.raises(SourceError, match=r"image 'a\.jpg' is listed twice with different labels"):
        case.run("ingest")
