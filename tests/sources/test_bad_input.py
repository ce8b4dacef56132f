"""What people really hand in: each case works, or is refused in one line that says where, what, and what to do."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.errors import SourceError
from tasks.sources import SOURCES
from tasks.sources.openimages_tables import read_hierarchy
from tests.sources.deliveries import (
    DELIVERIES,
    check_source,
    coco_document,
    datumaro_document,
    voc_xml,
    write_json,
)

COCO, OTX = "annotations/instances.json", "annotations.json"
HUMAN = "ImageID,Source,LabelName,Confidence\n"


@dataclass(frozen=True)
class Case:
    """A delivery of `kind`, spoiled by `spoil(root)`; read with its own options and `options` over them.

    says: pieces that the one line of the SourceError has to hold; none: the delivery is read, nothing lost.
    """

    name: str
    kind: str
    spoil: Callable[[Path], object] = lambda root: None
    says: tuple[str, ...] = ()
    options: dict = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.kind}: {self.name}"


def coco(change: Callable[[dict], object]) -> Callable[[Path], object]:
    """Write the COCO document after `change` has been at it."""

    def spoil(root: Path) -> None:
        document = coco_document()
        change(document)
        write_json(root / COCO, document)

    return spoil


def otx(change: Callable[[dict], object]) -> Callable[[Path], object]:
    def spoil(root: Path) -> None:
        document = datumaro_document()
        change(document)
        write_json(root / OTX, document)

    return spoil


def text(file: str, content: str | bytes, encoding: str = "utf-8") -> Callable[[Path], object]:
    """Put `content` in place of a file, byte for byte."""

    def spoil(root: Path) -> None:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_bytes(content if isinstance(content, bytes) else content.encode(encoding))

    return spoil


def cut(file: str) -> Callable[[Path], object]:
    """The first half of a file."""

    def spoil(root: Path) -> None:
        content = (root / file).read_bytes()
        (root / file).write_bytes(content[: len(content) // 2])

    return spoil


def remove(file: str) -> Callable[[Path], object]:
    return lambda root: (root / file).unlink()


def first(document: dict, what: str, **changed: object) -> None:
    document[what][0] |= changed


CASES = [
    # ------------------------------------------------------------ COCO: the file
    Case("no annotation file", "coco", remove(COCO), ("instances.json: no such file", "'annotations'")),
    Case(
        "misspelt file",
        "coco",
        says=("no such file", "'instances.json'"),
        options={"annotations": "annotations/instance.json"},
    ),
    Case(
        "a folder instead of a file", "coco", says=("a folder", "'annotations'"), options={"annotations": "annotations"}
    ),
    Case("empty file", "coco", text(COCO, ""), ("instances.json: empty file",)),
    Case("truncated", "coco", cut(COCO), ("instances.json", "not valid JSON", "truncated")),
    Case("not JSON", "coco", text(COCO, "<html>404</html>"), ("not valid JSON", "byte 0")),
    Case("UTF-16", "coco", text(COCO, json.dumps(coco_document()), "utf-16"), ("instances.json", "not valid JSON")),
    Case("nested without end", "coco", text(COCO, '{"images":' + "[" * 100_000), ("instances.json", "not valid JSON")),
    Case("a list", "coco", text(COCO, "[]"), ("instances.json", "Expected `object`, got `array`")),
    Case("no annotations key", "coco", coco(lambda d: d.pop("annotations")), ("missing required field `annotations`",)),
    Case("byte-order mark", "coco", text(COCO, json.dumps(coco_document()), "utf-8-sig")),
    Case("CRLF", "coco", text(COCO, json.dumps(coco_document(), indent=1).replace("\n", "\r\n"))),
    Case("nothing annotated", "coco", coco(lambda d: d["annotations"].clear())),
    Case("no image", "coco", coco(lambda d: (d["images"].clear(), d["annotations"].clear()))),
    # ------------------------------------------------------------ COCO: ids
    Case(
        "category id that does not exist",
        "coco",
        coco(lambda d: d["annotations"][2].update(category_id=99)),
        ("annotations[2]", "category_id 99", "3 categories"),
    ),
    Case(
        "image id that does not exist",
        "coco",
        coco(lambda d: d["annotations"][4].update(image_id=8)),
        ("annotations[4]", "image_id 8", "3 images"),
    ),
    Case(
        "duplicate image id", "coco", coco(lambda d: d["images"].append(d["images"][0])), ("image id '7' occurs twice",)
    ),
    Case(
        "duplicate category id",
        "coco",
        coco(lambda d: d["categories"].append({"id": 17, "name": "eel"})),
        ("category id '17' occurs twice",),
    ),
    Case(
        "two categories of one name",
        "coco",
        coco(lambda d: d["categories"].append({"id": 3, "name": "cat"})),
        ("category name 'cat' occurs twice",),
    ),
    Case("duplicate annotation ids", "coco", coco(lambda d: [a.update(id=1) for a in d["annotations"]])),
    Case(
        "ids as text in annotations only",
        "coco",
        coco(lambda d: [a.update(image_id=str(a["image_id"])) for a in d["annotations"]]),
        ("image_id '7' is string", "int64", "Use one type"),
    ),
    Case(
        "some ids as text",
        "coco",
        coco(lambda d: d["annotations"][0].update(image_id="7")),
        ("image_id", "not all 64-bit numbers or all text"),
    ),
    Case(
        "id of a wrong type",
        "coco",
        coco(lambda d: first(d, "images", id=1.5)),
        ("Expected `int | str`", "`images[0].id`"),
    ),
    Case(
        "id null",
        "coco",
        coco(lambda d: first(d, "annotations", image_id=None)),
        ("annotations[0].image_id", "got `null`"),
    ),
    Case("id beyond 64 bits", "coco", coco(lambda d: first(d, "annotations", image_id=10**30)), ("annotations[0]",)),
    Case(
        "negative id",
        "coco",
        coco(lambda d: (first(d, "categories", id=-1), [a.update(category_id=-1) for a in d["annotations"]])),
    ),
    Case(
        "LVIS negative of no category",
        "coco",
        coco(lambda d: first(d, "images", neg_category_ids=[5])),
        ("images[0].neg_category_ids", "no category has id 5"),
    ),
    # ------------------------------------------------------------ COCO: names and numbers
    Case(
        "odd class names",
        "coco",
        coco(
            lambda d: [
                c.update(name=n) for c, n in zip(d["categories"], ("__proto__", "../x", '🐈, "cat"'), strict=True)
            ]
        ),
    ),
    Case(
        "class name is a number",
        "coco",
        coco(lambda d: first(d, "categories", name=5)),
        ("categories", "`categories[0].name`", "Expected `str`"),
    ),
    Case("NaN", "coco", text(COCO, json.dumps(coco_document()).replace("90.0", "NaN")), ("not valid JSON", "byte")),
    Case("negative box, not needed", "coco", coco(lambda d: first(d, "annotations", bbox=[0, 0, -1, 4]))),
    Case(
        "negative box where sizes count",
        "coco",
        coco(lambda d: first(d, "annotations", bbox=[0, 0, -1, 4])),
        ("annotations[0]", "negative side", "min_area"),
        {"min_area": 1.0},
    ),
    Case(
        "no area where sizes count",
        "coco",
        coco(lambda d: [d["annotations"][1].pop(k) for k in ("area", "bbox")]),
        ("annotations[1]", "area is None"),
        {"min_area": 1.0},
    ),
    Case(
        "option with a wrong value",
        "coco",
        says=("'crowd'", "'unknwon'", "Did you mean 'unknown'"),
        options={"crowd": "unknwon"},
    ),
    Case(
        "no folder for a split",
        "coco",
        says=("no folder for split 'test'",),
        options={"annotations": {"test": COCO}, "images": {"train": "x"}},
    ),
    # ------------------------------------------------------------ COCO: file names
    *(
        Case(
            f"file name {name!r}",
            "coco",
            coco(lambda d, name=name: first(d, "images", file_name=name)),
            ("images[0]", "refused", repr(name)),
        )
        for name in (
            "../../etc/passwd",
            "/etc/passwd",
            "a/../../b.jpg",
            "file:///etc/passwd",
            "s3://b::file:///etc/x",
            "nul\0.jpg",
        )
    ),
    Case("empty file name", "coco", coco(lambda d: first(d, "images", file_name="")), ("images[0]", "no file_name")),
    Case("dots that do not climb", "coco", coco(lambda d: first(d, "images", file_name="a..b/..c.jpg"))),
    Case("remote image", "coco", coco(lambda d: first(d, "images", file_name="https://example.org/a.jpg"))),
    Case("no image on disk", "coco", lambda root: [p.unlink() for p in (root / "images").iterdir()]),
    # ------------------------------------------------------------ Open Images
    Case("no file", "openimages", remove("human.csv"), ("human.csv: no such file", "'labels'")),
    Case("empty file", "openimages", text("human.csv", ""), ("human.csv: empty file",)),
    Case("only a header", "openimages", text("human.csv", HUMAN)),
    Case(
        "wrong header",
        "openimages",
        text("human.csv", "ImageId,Source,LabelName,Confidence\na,b,c,1\n"),
        ("human.csv:1", "no column 'ImageID'", "'ImageId'"),
    ),
    Case("BOM and CRLF", "openimages", text("human.csv", (HUMAN + "a,v,/m/x,1\n").replace("\n", "\r\n"), "utf-8-sig")),
    Case("no line break at the end", "openimages", text("human.csv", HUMAN + "a,v,/m/x,1")),
    Case(
        "truncated row",
        "openimages",
        text("human.csv", HUMAN + "a,v,/m/x,1\nb,v"),
        ("human.csv:3", "2 values under 4 columns"),
    ),
    Case(
        "too many values",
        "openimages",
        text("human.csv", HUMAN + "a,v,/m/x,1,9\n"),
        ("human.csv:2", "5 values under 4 columns"),
    ),
    Case(
        "confidence is no number",
        "openimages",
        text("human.csv", HUMAN + "a,v,/m/x,1\nb,v,/m/x,yes\n"),
        ("human.csv:3", "Confidence", "'yes' is no number"),
    ),
    Case(
        "confidence NaN",
        "openimages",
        text("human.csv", HUMAN + "a,v,/m/x,nan\n"),
        ("human.csv", "row 1", "Confidence nan"),
    ),
    Case(
        "machine labels given as human",
        "openimages",
        text("human.csv", HUMAN + "a,v,/m/x,0.7\n"),
        ("row 1", "0.7", "machine_labels"),
    ),
    Case(
        "machine confidence above 1",
        "openimages",
        text("machine.csv", HUMAN + "aa,m,/m/x,1.5\n"),
        ("machine.csv", "row 1", "[0, 1]"),
    ),
    Case("no image id", "openimages", text("human.csv", HUMAN + ",v,/m/x,1\n"), ("human.csv:2", "ImageID: empty")),
    Case("ids that look like numbers", "openimages", text("human.csv", HUMAN + "000123,v,/m/x,1\n1e5,v,/m/x,1\n")),
    Case("id with a slash", "openimages", text("human.csv", HUMAN + "a/b,v,/m/x,1\n")),
    Case(
        "id that climbs",
        "openimages",
        text("human.csv", HUMAN + "../../x,v,/m/x,1\n"),
        ("refused image name", "../../x"),
    ),
    Case("odd labels", "openimages", text("human.csv", HUMAN + 'a,v,__proto__,1\na,v,../x,0\na,v,"a, ""b"" 🎈",1\n')),
    Case("duplicate rows", "openimages", text("human.csv", HUMAN + "a,v,/m/x,1\n" * 3)),
    Case("negative boxes", "openimages", text("boxes.csv", "ImageID,LabelName,XMin,IsGroupOf\naa,/m/x,-0.5,-1\n")),
    Case(
        "box flags missing where they count",
        "openimages",
        text("boxes.csv", "ImageID,LabelName\naa,/m/x\n"),
        ("boxes.csv:1", "no column 'IsGroupOf'"),
    ),
    Case(
        "not UTF-8",
        "openimages",
        text("classes.csv", "LabelName,DisplayName\n/m/1,Caf\xe9\n", "latin-1"),
        ("classes.csv", "not UTF-8"),
    ),
    Case(
        "class with two names",
        "openimages",
        text("classes.csv", "/m/1,a\n/m/1,b\n"),
        ("classes.csv:2", "'/m/1'", "'a' and 'b'"),
    ),
    Case(
        "class name with a bare comma", "openimages", text("classes.csv", "/m/1,a, b\n"), ("classes.csv:1", "3 values")
    ),
    Case(
        "class file with another header",
        "openimages",
        text("classes.csv", "MID,Name\n/m/1,a\n"),
        ("classes.csv:1", "LabelName,DisplayName"),
    ),
    Case("class file empty", "openimages", text("classes.csv", ""), ("classes.csv: empty file",)),
    Case(
        "no images folder and no address",
        "openimages",
        says=("neither a folder", "OriginalURL"),
        options={"images": ""},
    ),
    Case(
        "an image in two splits",
        "openimages",
        text("t.csv", HUMAN + "aa,v,/m/x,1\n"),
        ("'aa'", "two splits"),
        {"labels": {"a": "human.csv", "b": "t.csv"}},
    ),
    Case(
        "image list with an id twice",
        "openimages",
        text("l.csv", "ImageID\naa\naa\n"),
        ("l.csv", "'aa' occurs twice"),
        {"image_list": "l.csv"},
    ),
    # ------------------------------------------------------------ VOC
    Case("no lists", "voc", says=("no such folder", "VOCdevkit/VOC2007"), options={"lists": "Lists"}),
    Case(
        "misspelt list",
        "voc",
        says=("trainvall.txt: no such file", "'trainval.txt'"),
        options={"splits": {"train": "trainvall"}},
    ),
    Case("truncated XML", "voc", cut("Annotations/001.xml"), ("001.xml: not valid XML",)),
    Case("empty XML", "voc", text("Annotations/001.xml", ""), ("001.xml: not valid XML",)),
    Case(
        "XML that declares entities",
        "voc",
        text("Annotations/001.xml", '<!DOCTYPE a [<!ENTITY x "y">]><a>&x;</a>'),
        ("001.xml: refused", "entities"),
    ),
    Case(
        "class that is not declared",
        "voc",
        text("Annotations/001.xml", voc_xml(("dgo", 0))),
        ("001.xml", "'dgo'", "'dog'"),
    ),
    Case(
        "object without a name",
        "voc",
        text("Annotations/001.xml", voc_xml(("", 0))),
        ("001.xml: object 1", "name is ''"),
    ),
    Case(
        "difficult is no flag",
        "voc",
        text("Annotations/001.xml", voc_xml(("dog", 7))),
        ("001.xml: object 1", "difficult is '7'"),
    ),
    Case("empty list", "voc", text("ImageSets/Main/test.txt", "\n"), ("test.txt: empty file",)),
    Case("list with BOM, CRLF and a state column", "voc", text("ImageSets/Main/test.txt", "003  1\r\n", "utf-8-sig")),
    Case(
        "id in two lists", "voc", text("ImageSets/Main/test.txt", "001\n"), ("'001' is listed twice", "train and test")
    ),
    Case("id that climbs", "voc", text("ImageSets/Main/test.txt", "../../x\n"), ("test.txt", "refused", "../../x")),
    Case("no annotation at all", "voc", says=("none of the 4 listed ids",), options={"annotations": "Elsewhere"}),
    Case(
        "own class names",
        "voc",
        text("Annotations/001.xml", voc_xml(("__proto__", 0))),
        options={"classes": ["cat", "dog", "__proto__", "../x"]},
    ),
    # ------------------------------------------------------------ OTX
    Case("no file", "otx", remove(OTX), ("annotations.json: no such file",)),
    Case("empty file", "otx", text(OTX, ""), ("annotations.json: empty file",)),
    Case("truncated", "otx", cut(OTX), ("annotations.json", "not valid JSON")),
    Case(
        "COCO given",
        "otx",
        text(OTX, json.dumps({"images": [], "annotations": []})),
        ("neither Datumaro", "annotations, images"),
    ),
    Case(
        "label that does not exist",
        "otx",
        otx(lambda d: d["items"][0]["annotations"][0].update(label_id=2)),
        ("items[0] (id 'a')", "label 2"),
    ),
    Case(
        "negative label",
        "otx",
        otx(lambda d: d["items"][0]["annotations"][0].update(label_id=-1)),
        ("items[0]", "label -1"),
    ),
    Case(
        "label of a wrong type",
        "otx",
        otx(lambda d: d["items"][0]["annotations"][0].update(label_id="cat")),
        ("label_id", "got `str`"),
    ),
    Case(
        "label declared twice",
        "otx",
        otx(lambda d: d["categories"]["label"]["labels"].append({"name": "cat"})),
        ("'cat' is declared twice",),
    ),
    Case(
        "one image, two answers",
        "otx",
        otx(lambda d: d["items"].append({"id": "a", "image": {"path": "a.jpg"}})),
        ("'a.jpg' is listed twice",),
    ),
    Case(
        "path that climbs",
        "otx",
        otx(lambda d: d["items"][0]["image"].update(path="../a.jpg")),
        ("refused", "../a.jpg"),
    ),
    Case(
        "undeclared name",
        "otx",
        text(OTX, json.dumps({"classes": ["cat"], "images": [["a.jpg", ["cta"]]]})),
        ("images[0]", "'cta'", "'cat'"),
    ),
    Case(
        "other annotation types",
        "otx",
        otx(lambda d: d["items"][1]["annotations"].append({"type": "caption", "caption": "x"})),
    ),
    # ------------------------------------------------------------ folder
    Case("no folder", "folder", says=("no such folder",), options={"manifest": "", "images": "nope"}),
    Case(
        "no image column",
        "folder",
        text("manifest.csv", "path,present\na.jpg,cat\n"),
        ("manifest.csv:1", "no column 'image'"),
    ),
    Case("empty manifest", "folder", text("manifest.csv", ""), ("manifest.csv: empty file",)),
    Case(
        "BOM and CRLF", "folder", text("manifest.csv", "image,present,absent,unknown\r\na.jpg,cat,,\r\n", "utf-8-sig")
    ),
    Case(
        "label present and absent",
        "folder",
        text("manifest.csv", "image,present,absent\na.jpg,cat|dog,dog\n"),
        ("manifest.csv:2", "'dog' is both present and absent"),
    ),
    Case(
        "image listed twice",
        "folder",
        text("manifest.csv", "image,present\na.jpg,cat\na.jpg,dog\n"),
        ("manifest.csv:3", "'a.jpg'", "manifest.csv:2"),
    ),
    Case("short row", "folder", text("manifest.csv", "image,present\na.jpg\n"), ("manifest.csv:2", "1 values under 2")),
    Case(
        "unclosed quote",
        "folder",
        text("manifest.csv", 'image,present\na.jpg,"cat\n'),
        ("manifest.csv", "not valid CSV"),
    ),
    Case(
        "image that climbs",
        "folder",
        text("manifest.csv", "image,present\n../a.jpg,cat\n"),
        ("manifest.csv:2", "refused"),
    ),
    Case(
        "image without name", "folder", text("manifest.csv", "image,present\n,cat\n"), ("manifest.csv:2", "image is ''")
    ),
    Case(
        "not Parquet",
        "folder",
        text("m.parquet", "oops"),
        ("m.parquet: not a readable Parquet file",),
        {"manifest": "m.parquet"},
    ),
    Case(
        "numbers as labels",
        "folder",
        lambda root: pq.write_table(pa.table({"image": ["a"], "present": [7]}), root / "m.parquet"),
        ("m.parquet:1", "present is 7"),
        {"manifest": "m.parquet"},
    ),
    Case("wrong value of labels", "folder", says=("'labels'", "'folders'"), options={"labels": "folder"}),
    # ------------------------------------------------------------ predictions
    Case("no file", "predictions", remove("vendor.json"), ("vendor.json: no such file",)),
    Case("empty file", "predictions", text("vendor.json", ""), ("vendor.json: empty file",)),
    Case("truncated", "predictions", cut("vendor.json"), ("vendor.json", "not valid JSON")),
    Case("a number", "predictions", text("vendor.json", "5"), ("vendor.json", "found int")),
    Case("names are no names", "predictions", text("vendor.json", '{"1": "cat"}'), ("image '1'", '"cat"')),
    Case("null name", "predictions", text("vendor.json", '{"1": [null]}'), ("image '1'", "label is None")),
    Case(
        "score NaN",
        "predictions",
        text("p.csv", "image_id,label,score\n1,cat,nan\n"),
        ("p.csv: line 2", "nan is outside [0, 1]"),
        {"file": "p.csv"},
    ),
    Case(
        "score in percent",
        "predictions",
        text("p.csv", "image_id,label,score\n1,cat,87\n"),
        ("line 2", "Divide percentages by 100"),
        {"file": "p.csv"},
    ),
    Case(
        "score is no number",
        "predictions",
        text("p.csv", "image_id,label,score\n1,cat,high\n"),
        ("line 2", "'high' is no number"),
        {"file": "p.csv"},
    ),
    Case(
        "no label column",
        "predictions",
        text("p.csv", "image_id,tag\n1,cat\n"),
        ("p.csv: no column label",),
        {"file": "p.csv"},
    ),
    Case(
        "BOM, CRLF, quotes and emoji",
        "predictions",
        text("p.csv", 'image_id,label\r\n1,"cat, ""tabby"" 🐈"\r\n', "utf-8-sig"),
        options={"file": "p.csv"},
    ),
    Case(
        "unknown format",
        "predictions",
        text("p.xml", "<a/>"),
        ("p.xml", "Use .csv, .json or .parquet"),
        {"file": "p.xml"},
    ),
    Case("origin of nobody", "predictions", says=("origin is 'acme'", "vendor:<name>"), options={"origin": "acme"}),
    Case("odd names", "predictions", text("vendor.json", '{"a/b": ["__proto__", "../x", "number 4 "]}')),
    Case("number as id", "predictions", text("vendor.json", '[{"image_id": 7, "label": "cat", "score": 1}]')),
    Case("record without label", "predictions", text("vendor.json", '[{"image_id": 7}]'), ("no column label",)),
    # ------------------------------------------------------------ url_list
    Case("no list", "url_list", remove("urls.csv"), ("urls.csv: no such file",)),
    Case(
        "wrong header", "url_list", text("urls.csv", "word,url\na,http://x/\n"), ("urls.csv:1", "no column 'keyword'")
    ),
    Case(
        "local address",
        "url_list",
        text("urls.csv", "keyword,url\na,file:///etc/passwd\n"),
        ("urls.csv:2", "file:///etc/passwd"),
    ),
    Case("no keyword", "url_list", text("urls.csv", "keyword,url\n,http://x/1\n"), ("urls.csv:2", "keyword is empty")),
    Case(
        "damaged journal",
        "url_list",
        text("downloads.jsonl", "x\n{}\n"),
        ("downloads.jsonl:1", "not a download record"),
    ),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_bad_input_works_or_says_where_what_and_what_to_do(case, tmp_path):
    options = DELIVERIES[case.kind](tmp_path)
    case.spoil(tmp_path)
    if not case.says:
        name = "pets"
        check_source(SOURCES[case.kind](name, tmp_path, **options | case.options), name)
        return
    with pytest.raises(SourceError) as caught:
        SOURCES[case.kind]("pets", tmp_path, **options | case.options)
    message = str(caught.value)
    assert "\n" not in message, message
    for piece in case.says:
        assert piece in message, message
    assert message.rstrip().endswith((".", "?")), f"does not say what to do: {message}"


def test_every_kind_of_source_has_bad_input():
    assert {case.kind for case in CASES} == set(SOURCES)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "empty file"),
        ("[]", "no LabelName"),
        ('{"LabelName": "a", "Subcategory": [{"Name": "b"}]}', "a node below 'a' has no LabelName"),
        ('{"LabelName": "a", "Subcategory": [{"LabelName": "a"}]}', "cycle in the hierarchy: a -> a"),
        ('{"LabelName": "a", "Subcategory"', "not valid JSON"),
        ('{"LabelName": "a", "Subcategory": 5}', "Subcategory of 'a' is no list"),
    ],
)
def test_a_bad_hierarchy_is_refused(content, says, tmp_path):
    (tmp_path / "h.json").write_text(content)
    with pytest.raises(SourceError, match=says):
        read_hierarchy(tmp_path / "h.json")


def test_a_hierarchy_as_deep_as_it_likes_is_read_or_refused_but_never_crashes(tmp_path):
    deep = '{"LabelName": "a", "Subcategory": [' * 50_000
    (tmp_path / "h.json").write_text(deep)
    with pytest.raises(SourceError, match=r"h\.json"):
        read_hierarchy(tmp_path / "h.json")
