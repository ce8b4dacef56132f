"""What people hand in: OTX's Datumaro JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from tests.sources.bad_input.case import Case, remove, text, truncated
from tests.sources.deliveries import datumaro_document, write_json

FILE = "annotations.json"


def otx(change: Callable[[dict], object]) -> Callable[[Path], object]:
    def spoil(root: Path) -> None:
        document = datumaro_document()
        change(document)
        write_json(root / FILE, document)

    return spoil


CASES = [
    Case("no file", remove(FILE), ("annotations.json: no such file",)),
    Case("empty file", text(FILE, ""), ("annotations.json: empty file",)),
    Case("truncated", truncated(FILE), ("annotations.json", "not valid JSON")),
    Case(
        "COCO given",
        text(FILE, json.dumps({"images": [], "annotations": []})),
        ("neither Datumaro", "annotations, images"),
    ),
    Case(
        "label that does not exist",
        otx(lambda d: d["items"][0]["annotations"][0].update(label_id=2)),
        ("items[0] (id 'a')", "label 2"),
    ),
    Case(
        "negative label",
        otx(lambda d: d["items"][0]["annotations"][0].update(label_id=-1)),
        ("items[0]", "label -1"),
    ),
    Case(
        "label of a wrong type",
        otx(lambda d: d["items"][0]["annotations"][0].update(label_id="cat")),
        ("label_id", "got `str`"),
    ),
    Case(
        "label declared twice",
        otx(lambda d: d["categories"]["label"]["labels"].append({"name": "cat"})),
        ("'cat' is declared twice",),
    ),
    Case(
        "one image, two answers",
        otx(lambda d: d["items"].append({"id": "a", "image": {"path": "a.jpg"}})),
        ("'a.jpg' is listed twice",),
    ),
    Case(
        "path that leads out",
        otx(lambda d: d["items"][0]["image"].update(path="../a.jpg")),
        ("refused", "../a.jpg"),
    ),
    Case(
        "undeclared name",
        text(FILE, json.dumps({"classes": ["cat"], "images": [["a.jpg", ["cta"]]]})),
        ("images[0]", "'cta'", "'cat'"),
    ),
    Case(
        "other annotation types",
        otx(lambda d: d["items"][1]["annotations"].append({"type": "caption", "caption": "x"})),
    ),
]
