"""What people hand in: CVAT for images."""

from __future__ import annotations

from tests.sources.bad_input.case import Case, remove, text, truncated
from tests.sources.deliveries import cvat_xml

FILE = "annotations.xml"

CASES = [
    Case("no file", remove(FILE), ("annotations.xml: no such file",)),
    Case("truncated", truncated(FILE), ("annotations.xml: not valid XML",)),
    Case("video", text(FILE, '<annotations><track label="cat"/></annotations>'), ("video tracks", "CVAT for images")),
    Case("another tool's XML", text(FILE, "<annotation/>"), ("found <annotation>",)),
    Case("no image", text(FILE, "<annotations/>"), ("it lists no picture",)),
    Case("a tag without a label", text(FILE, cvat_xml().replace('tag label="cat"', "tag")), ("<tag> without a label",)),
    Case(
        "an image twice", text(FILE, cvat_xml().replace("x/b.jpg", "x/a.jpg")), ("'x/a.jpg' is listed a second time",)
    ),
    Case("subsets", text(FILE, cvat_xml().replace('"default"', '"Validation"', 1))),
    Case("entities", text(FILE, '<!DOCTYPE a [<!ENTITY x "y">]><annotations/>'), ("declares XML entities",)),
]
