"""What people hand in: VIA's exports."""

from __future__ import annotations

import json

from tests.sources.bad_input.case import Case, text, truncated
from tests.sources.deliveries import via_document

FILE = "via_region_data.json"
CSV = "filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes\n"


def changed(**region_attributes: object) -> str:
    document = via_document()
    document["a.jpg100"]["regions"][0]["region_attributes"] = region_attributes
    return json.dumps(document)


CASES = [
    Case("truncated", truncated(FILE), (FILE, "not valid JSON")),
    Case("VIA 3", text(FILE, '{"project": {}, "config": {}}'), ("no VIA 1 or 2 annotations",)),
    Case("the project", text(FILE, json.dumps({"_via_settings": {}, "_via_img_metadata": via_document()}))),
    Case(
        "VIA 1, whose regions are numbered",
        text(FILE, '{"a": {"filename": "a.jpg", "regions": {"0": {"region_attributes": {"kind": "cat"}}}}}'),
    ),
    Case("two attributes", text(FILE, changed(name="cat", type="x")), ("several attributes", "`attribute`")),
    Case("two attributes, one chosen", text(FILE, changed(name="cat", type="x")), options={"attribute": "kind"}),
    Case("one of the usual beside others", text(FILE, changed(label="cat", pose="left")), options={}),
    Case(
        "VIA's own attributes of files beside one of regions",
        text(FILE, json.dumps(via_document()).replace('"file_attributes": {}', '"file_attributes": {"caption": ""}')),
    ),
    Case("no attribute", text(FILE, '{"a": {"filename": "a.jpg", "regions": []}}'), ("no region has an attribute",)),
    Case("attributes that are text", text(FILE, changed().replace("{}", '"x"', 1)), ("expected attributes",)),
    Case(
        "a table",
        text("via.csv", CSV + 'a.jpg,9,"{}",1,0,"{""name"":""rect""}","{""kind"":""cat""}"\r\n'),
        options={"annotations": "via.csv"},
    ),
    Case(
        "a table with broken JSON",
        text("via.csv", CSV + 'a.jpg,9,"{}",1,0,"{}","{kind}"\n'),
        ("via.csv:2: region_attributes is no JSON",),
        {"annotations": "via.csv"},
    ),
]
