"""What people hand in: COCO JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from tests.sources.bad_input.case import Case, remove, text, truncated
from tests.sources.deliveries import coco_document, write_json

FILE = "annotations/instances.json"


def coco(change: Callable[[dict], object]) -> Callable[[Path], object]:
    """Write the COCO document after `change` has been at it."""

    def spoil(root: Path) -> None:
        document = coco_document()
        change(document)
        write_json(root / FILE, document)

    return spoil


def first(document: dict, what: str, **changed: object) -> None:
    document[what][0] |= changed


CASES = [
    # ------------------------------------------------------------ the file
    Case("no annotation file", remove(FILE), ("instances.json: no such file", "'annotations'")),
    Case(
        "misspelt file",
        says=("no such file", "'instances.json'"),
        options={"annotations": "annotations/instance.json"},
    ),
    Case("a folder instead of a file", says=("a folder", "'annotations'"), options={"annotations": "annotations"}),
    Case("empty file", text(FILE, ""), ("instances.json: empty file",)),
    Case("truncated", truncated(FILE), ("instances.json", "not valid JSON", "truncated")),
    Case("not JSON", text(FILE, "<html>404</html>"), ("not valid JSON", "byte 0")),
    Case("UTF-16", text(FILE, json.dumps(coco_document()), "utf-16"), ("instances.json", "UTF-16 text", "UTF-8")),
    Case("nested without end", text(FILE, '{"images":' + "[" * 100_000), ("instances.json", "not valid JSON")),
    Case("a list", text(FILE, "[]"), ("instances.json", "Expected `object`, got `array`")),
    Case("no annotations key", coco(lambda d: d.pop("annotations")), ("missing required field `annotations`",)),
    Case("byte-order mark", text(FILE, json.dumps(coco_document()), "utf-8-sig")),
    Case("CRLF", text(FILE, json.dumps(coco_document(), indent=1).replace("\n", "\r\n"))),
    Case("nothing annotated", coco(lambda d: d["annotations"].clear())),
    Case("no image", coco(lambda d: (d["images"].clear(), d["annotations"].clear()))),
    # ------------------------------------------------------------ ids
    Case(
        "category id that does not exist",
        coco(lambda d: d["annotations"][2].update(category_id=99)),
        ("annotations[2]", "category_id 99", "3 categories"),
    ),
    Case(
        "image id that does not exist",
        coco(lambda d: d["annotations"][4].update(image_id=8)),
        ("annotations[4]", "image_id 8", "3 images"),
    ),
    Case("duplicate image id", coco(lambda d: d["images"].append(d["images"][0])), ("image id '7' occurs twice",)),
    Case(
        "duplicate category id",
        coco(lambda d: d["categories"].append({"id": 17, "name": "eel"})),
        ("category id '17' occurs twice",),
    ),
    Case(
        "two categories of one name",
        coco(lambda d: d["categories"][1].update(name="cat")),
        ("category name 'cat' occurs twice",),
    ),
    Case(
        "Roboflow's category above the only class, of its name",
        coco(lambda d: d["categories"].insert(0, {"id": 0, "name": "cat", "supercategory": "none"})),
    ),
    Case("duplicate annotation ids", coco(lambda d: [a.update(id=1) for a in d["annotations"]])),
    Case(
        "ids as text in annotations only",
        coco(lambda d: [a.update(image_id=str(a["image_id"])) for a in d["annotations"]]),
        ("image_id '7' is string", "int64", "Use one type"),
    ),
    Case(
        "some ids as text",
        coco(lambda d: d["annotations"][0].update(image_id="7")),
        ("image_id", "not all 64-bit numbers or all text"),
    ),
    Case(
        "id of a wrong type",
        coco(lambda d: first(d, "images", id=1.5)),
        ("images[0].id is 1.5", "whole number"),
    ),
    Case(
        "id null",
        coco(lambda d: first(d, "annotations", image_id=None)),
        ("annotations[0].image_id", "got `null`"),
    ),
    Case("id beyond 64 bits", coco(lambda d: first(d, "annotations", image_id=10**30)), ("annotations[0]",)),
    Case(
        "negative id",
        coco(lambda d: (first(d, "categories", id=-1), [a.update(category_id=-1) for a in d["annotations"]])),
    ),
    Case(
        "LVIS negative of no category",
        coco(lambda d: first(d, "images", neg_category_ids=[5])),
        ("images[0].neg_category_ids", "no category has id 5"),
    ),
    # ------------------------------------------------------------ names and numbers
    Case(
        "odd class names",
        coco(
            lambda d: [
                c.update(name=n) for c, n in zip(d["categories"], ("__proto__", "../x", '🐈, "cat"'), strict=True)
            ]
        ),
    ),
    Case(
        "class name is a number",
        coco(lambda d: first(d, "categories", name=5)),
    ),
    Case(
        "class name null",
        coco(lambda d: first(d, "categories", name=None)),
        ("categories", "`categories[0].name`", "got `null`"),
    ),
    Case("NaN", text(FILE, json.dumps(coco_document()).replace("90.0", "NaN"))),
    Case("NaN where a number is needed", coco(lambda d: first(d, "images", id=float("nan"))), ("`images[0].id`",)),
    Case("negative box, not needed", coco(lambda d: first(d, "annotations", bbox=[0, 0, -1, 4]))),
    Case(
        "negative box where sizes count",
        coco(lambda d: first(d, "annotations", bbox=[0, 0, -1, 4])),
        ("annotations[0]", "negative side", "min_area"),
        {"min_area": 1.0},
    ),
    Case(
        "no area where sizes count",
        coco(lambda d: [d["annotations"][1].pop(k) for k in ("area", "bbox")]),
        ("annotations[1]", "area is None"),
        {"min_area": 1.0},
    ),
    Case(
        "option with a wrong value",
        says=("'crowd'", "'unknwon'", "Did you mean 'unknown'"),
        options={"crowd": "unknwon"},
    ),
    Case(
        "no folder for a split",
        says=("no folder for split 'test'",),
        options={"annotations": {"test": FILE}, "images": {"train": "x"}},
    ),
    # ------------------------------------------------------------ file names
    *(
        Case(
            f"file name {name!r}",
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
    Case("empty file name", coco(lambda d: first(d, "images", file_name="")), ("images[0]", "no file_name")),
    Case("dots that do not lead out", coco(lambda d: first(d, "images", file_name="a..b/..c.jpg"))),
    Case("remote image", coco(lambda d: first(d, "images", file_name="https://example.org/a.jpg"))),
    Case("no image on disk", lambda root: [p.unlink() for p in (root / "images").iterdir()]),
]
