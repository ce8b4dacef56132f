"""What people hand in: XML files beside their pictures."""

from __future__ import annotations

from tests.sources.bad_input.case import Case, text, truncated
from tests.sources.deliveries import voc_xml

CASES = [
    Case("no such folder", says=("dev: no such folder", "'folders'"), options={"folders": {"val": "dev"}}),
    Case(
        "no XML at all",
        lambda root: [path.unlink() for path in root.rglob("*.xml")],
        ("no XML file in .",),
        {"folders": "."},
    ),
    Case("truncated XML", truncated("train/a.xml"), ("train/a.xml: not valid XML",)),
    Case("an object without a name", text("train/a.xml", voc_xml(("", 0))), ("a.xml: object 1", "name is ''")),
    Case(
        "class that is not declared",
        text("train/a.xml", voc_xml(("dgo", 0))),
        ("train/a.xml", "'dgo'", "'dog'"),
        options={"classes": ["cat", "dog"]},
    ),
    Case(
        "a file name inside that says something else", text("train/b.xml", voc_xml(("cat", 0), file_name="c:\\x.png"))
    ),
]
