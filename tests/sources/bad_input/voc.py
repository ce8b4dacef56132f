"""What people hand in: Pascal VOC folders."""

from __future__ import annotations

from tests.sources.bad_input.case import Case, text, truncated
from tests.sources.deliveries import voc_xml

CASES = [
    Case("no lists", says=("no such folder", "VOCdevkit/VOC2007"), options={"lists": "Lists"}),
    Case(
        "misspelt list",
        says=("trainvall.txt: no such file", "'trainval.txt'"),
        options={"splits": {"train": "trainvall"}},
    ),
    Case("truncated XML", truncated("Annotations/001.xml"), ("001.xml: not valid XML",)),
    Case("empty XML", text("Annotations/001.xml", ""), ("001.xml: not valid XML",)),
    Case(
        "XML that declares entities",
        text("Annotations/001.xml", '<!DOCTYPE a [<!ENTITY x "y">]><a>&x;</a>'),
        ("001.xml: refused", "entities"),
    ),
    Case(
        "class that is not declared",
        text("Annotations/001.xml", voc_xml(("dgo", 0))),
        ("001.xml", "'dgo'", "'dog'"),
        options={"classes": ["cat", "dog"]},
    ),
    Case(
        "object without a name",
        text("Annotations/001.xml", voc_xml(("", 0))),
        ("001.xml: object 1", "name is ''"),
    ),
    Case(
        "difficult is no flag",
        text("Annotations/001.xml", voc_xml(("dog", 7))),
        ("001.xml: object 1", "difficult is '7'"),
    ),
    Case("empty list", text("ImageSets/Main/test.txt", "\n"), ("test.txt: empty file",)),
    Case("list with BOM, CRLF and a state column", text("ImageSets/Main/test.txt", "003  1\r\n", "utf-8-sig")),
    Case("id in two lists", text("ImageSets/Main/test.txt", "001\n"), ("'001' is listed twice", "train and test")),
    Case("id that leads out", text("ImageSets/Main/test.txt", "../../x\n"), ("test.txt", "refused", "../../x")),
    Case("no annotation at all", says=("none of the 4 listed ids",), options={"annotations": "Elsewhere"}),
    Case(
        "own class names",
        text("Annotations/001.xml", voc_xml(("__proto__", 0))),
        options={"classes": ["cat", "dog", "__proto__", "../x"]},
    ),
]
