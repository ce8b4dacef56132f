"""The smallest delivery of each kind of source, written to a folder, and what every reader owes its stage."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path

from tasks.core.ledger import Ledger
from tasks.core.tables import LABELS, UNKNOWN, check_unique
from tasks.sources import RAW_IMAGES, RawSource
from tasks.sources.transfer.crawl import Address
from tasks.sources.transfer.fetch import Result


def write_json(path: Path, value: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def write_csv(path: Path, *rows: Sequence[object]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
    return path


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"not opened by a reader")


# ---------------------------------------------------------------- one small delivery a kind


def coco_document() -> dict:
    """Two cats and a crowd of dogs on image 7, a crowd of dogs beside one dog on 9, nothing on 11."""
    return {
        "licenses": [{"id": 4, "name": "Attribution", "url": "http://example.org/by/2.0/"}],
        "images": [
            {"id": 7, "file_name": "a.jpg", "license": 4, "flickr_url": "http://example.org/7"},
            {"id": 9, "file_name": "b.jpg"},
            {"id": 11, "file_name": "c.jpg"},
        ],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 17, "bbox": [0, 0, 10, 10], "area": 90.0, "iscrowd": 0},
            {"id": 2, "image_id": 7, "category_id": 17, "bbox": [5, 5, 2, 2], "area": 4.0, "iscrowd": 0},
            {"id": 3, "image_id": 7, "category_id": 18, "bbox": [0, 0, 9, 9], "area": 50.0, "iscrowd": 1},
            {"id": 4, "image_id": 9, "category_id": 18, "bbox": [0, 0, 9, 9], "area": 50.0, "iscrowd": 1},
            {"id": 5, "image_id": 9, "category_id": 18, "bbox": [0, 0, 3, 3], "area": 9.0, "iscrowd": 0},
        ],
        "categories": [{"id": 17, "name": "cat"}, {"id": 18, "name": "dog"}, {"id": 90, "name": "toothbrush"}],
    }


def coco(root: Path) -> dict:
    write_json(root / "annotations/instances.json", coco_document())
    touch(root / "images/a.jpg", root / "images/b.jpg", root / "images/c.jpg")
    return {"crowd": "unknown"}


def openimages(root: Path) -> dict:
    write_csv(
        root / "human.csv",
        ("ImageID", "Source", "LabelName", "Confidence"),
        ("aa", "verification", "/m/cat", "1"),
        ("aa", "crowdsource-verification", "/m/cat", "1.0"),
        ("aa", "verification", "/m/dog", "0"),
        ("bb", "verification", "/m/dog", "0.0"),
    )
    write_csv(
        root / "machine.csv",
        ("ImageID", "Source", "LabelName", "Confidence"),
        ("bb", "machine", "/m/cat", "0.7"),
        ("bb", "machine", "/m/cat", "0.9"),
    )
    write_csv(
        root / "boxes.csv",
        ("ImageID", "LabelName", "XMin", "IsGroupOf", "IsDepiction"),
        ("aa", "/m/cat", "0.1", "0", "0"),
        ("bb", "/m/cat", "0.1", "1", "0"),
    )
    write_csv(
        root / "classes.csv", ("LabelName", "DisplayName"), ("/m/cat", "Cat"), ("/m/dog", "Dog"), ("/m/eel", "Eel")
    )
    touch(root / "images/aa.jpg", root / "images/bb.png", root / "images/cc.jpg")
    return {
        "labels": "human.csv",
        "machine_labels": "machine.csv",
        "boxes": "boxes.csv",
        "classes": "classes.csv",
        "use_group_of": False,
    }


def voc_xml(*objects: tuple[str, int], file_name: str = "") -> str:
    nodes = "".join(f"<object><name>{name}</name><difficult>{d}</difficult></object>" for name, d in objects)
    return f"<annotation><filename>{file_name}</filename><owner><name>Ann</name></owner>{nodes}</annotation>"


def voc(root: Path) -> dict:
    for image_id, objects in {"001": [("dog", 0), ("dog", 1), ("cat", 1)], "002": [], "003": [("cat", 0)]}.items():
        path = root / f"Annotations/{image_id}.xml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(voc_xml(*objects), encoding="utf-8")
    (root / "ImageSets/Main").mkdir(parents=True)
    (root / "ImageSets/Main/trainval.txt").write_text("001\n002\n004\n", encoding="utf-8")
    (root / "ImageSets/Main/test.txt").write_text("003\n", encoding="utf-8")
    return {}


def xml_beside(root: Path) -> dict:
    for path, objects in {
        "train/a": [("dog", 0), ("dog", 1), ("cat", 1)],
        "train/b": [],
        "valid/a": [("cat", 0)],
    }.items():
        touch(root / f"{path}.jpg")
        (root / f"{path}.xml").write_text(voc_xml(*objects), encoding="utf-8")
    touch(root / "valid/not_annotated.jpg")
    return {"folders": {"train": "train", "val": "valid"}}


def yolo(root: Path) -> dict:
    """As Ultralytics has it; one dog twice, one picture without objects, one that both splits list."""
    (root / "labels/train").mkdir(parents=True)
    touch(root / "images/train/a.jpg", root / "images/train/b.jpg", root / "images/val/c.jpg")
    (root / "labels/train/a.txt").write_text("1 0.5 0.5 0.2 0.2\n1 0.1 0.1 0.1 0.1\n0 0.5 0.5 1 1\n")
    (root / "labels/train/b.txt").write_text("")
    (root / "labels/val").mkdir()
    (root / "labels/val/c.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    (root / "data.yaml").write_text("path: .\ntrain: images/train\nval: images/val\nnames:\n  0: cat\n  1: dog\n")
    return {}


def via_document() -> dict:
    """Two cats and a dog on one picture, a region without a kind and a check box on another."""

    def region(**attributes: object) -> dict:
        return {
            "shape_attributes": {"name": "rect", "x": 1, "y": 1, "width": 4, "height": 5},
            "region_attributes": attributes,
        }

    return {
        "a.jpg100": {
            "filename": "a.jpg",
            "size": 100,
            "regions": [region(kind="cat"), region(kind="cat"), region(kind="dog")],
            "file_attributes": {},
        },
        "b.jpg90": {
            "filename": "b.jpg",
            "size": 90,
            "regions": [region(kind={"cat": True, "dog": False}), region(kind="")],
            "file_attributes": {},
        },
    }


def via(root: Path) -> dict:
    write_json(root / "via_region_data.json", via_document())
    touch(root / "a.jpg", root / "b.jpg")
    return {}


def cvat_xml() -> str:
    labels = "".join(f"<label><name>{name}</name></label>" for name in ("cat", "dog", "eel"))
    return f"""<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version><meta><task><labels>{labels}</labels></task></meta>
  <image id="0" name="x/a.jpg" subset="default" width="9" height="9"><tag label="cat" source="manual"></tag>
    <box label="dog" xtl="0" ytl="0" xbr="4" ybr="5"></box><box label="dog" xtl="0" ytl="0" xbr="1" ybr="1"></box>
  </image>
  <image id="1" name="x/b.jpg" subset="default" width="9" height="9"></image>
</annotations>"""


def cvat(root: Path) -> dict:
    (root / "annotations.xml").write_text(cvat_xml(), encoding="utf-8")
    touch(root / "images/x/a.jpg", root / "images/x/b.jpg")
    return {}


def label_studio_document() -> list[dict]:
    """A cat and a dog by two people, of whom one saw no dog; a task that was skipped."""

    def answer(*results: dict, cancelled: bool = False) -> dict:
        return {"result": list(results), "was_cancelled": cancelled, "completed_by": 1}

    cat = {"from_name": "kind", "to_name": "image", "type": "choices", "value": {"choices": ["cat"]}}
    dog = {"type": "rectanglelabels", "value": {"x": 1, "width": 2, "rectanglelabels": ["dog"]}}
    return [
        {"id": 3, "data": {"image": "/data/upload/1/0a1b2c3d-a.jpg"}, "annotations": [answer(cat, dog), answer(cat)]},
        {"id": 4, "data": {"image": "/data/local-files/?d=pets/b.jpg"}, "annotations": [answer()]},
        {"id": 5, "data": {"image": "/data/upload/1/0a1b2c3d-c.jpg"}, "annotations": [answer(cancelled=True)]},
    ]


def label_studio(root: Path) -> dict:
    write_json(root / "project.json", label_studio_document())
    touch(root / "a.jpg", root / "b.jpg", root / "c.jpg")
    return {}


def datumaro_document() -> dict:
    return {
        "categories": {"label": {"labels": [{"name": "cat"}, {"name": "dog"}], "label_groups": []}},
        "items": [
            {"id": "a", "image": {"path": "a.jpg"}, "annotations": [{"label_id": 1}, {"label_id": 1}, {"label_id": 0}]},
            {"id": "b", "image": {"path": "b.jpg"}, "annotations": []},
        ],
    }


def otx(root: Path) -> dict:
    write_json(root / "annotations.json", datumaro_document())
    return {}


def folder(root: Path) -> dict:
    write_csv(
        root / "manifest.csv",
        ("image", "present", "absent", "unknown", "licence"),
        ("x/1.jpg", "cat|cat", "dog", "", "CC0"),
        ("x/2.jpg", "", "", "cat", ""),
    )
    touch(root / "x/1.jpg", root / "x/2.jpg")
    return {"manifest": "manifest.csv", "exhaustive": True}


def url_list(root: Path) -> dict:
    urls = ("http://h.example/1.jpg", "http://h.example/2.jpg", "http://h.example/3.jpg")
    write_csv(
        root / "urls.csv", ("keyword", "url"), *(("forest", u) for u in urls), ("tree", urls[0]), ("tree", urls[0])
    )
    results = [Result(urls[0], "ok", num_bytes=22), Result(urls[1], "gone", reason="HTTP 404")]
    (root / "downloads.jsonl").write_text("".join(json.dumps(vars(r)) + "\n" for r in results), encoding="utf-8")
    touch(root / "images" / Address(urls[0]).file_name)
    return {}


def predictions(root: Path) -> dict:
    write_json(root / "vendor.json", {"000001": ["Köter", "Köter", "cat"], "a/b": []})
    return {"file": "vendor.json", "of": "pets", "origin": "vendor:acme"}


DELIVERIES: dict[str, Callable[[Path], dict]] = {
    "coco": coco,
    "openimages": openimages,
    "voc": voc,
    "xml_beside": xml_beside,
    "yolo": yolo,
    "via": via,
    "cvat": cvat,
    "label_studio": label_studio,
    "otx": otx,
    "folder": folder,
    "url_list": url_list,
    "predictions": predictions,
}
"""kind -> function that writes a delivery under a folder and returns the options to read it with."""


# ---------------------------------------------------------------- what a reader owes


def check_source(raw: RawSource, name: str) -> None:
    """Schemas, keys, references, and conservation of every row."""
    assert raw.images.schema.equals(RAW_IMAGES)
    assert raw.labels.schema.equals(LABELS)
    assert raw.unknown.schema.equals(UNKNOWN)
    for table in (raw.images, raw.labels, raw.unknown):
        table.validate(full=True)
    check_unique(raw.images, ["image_id"], where=name)
    check_unique(raw.labels, ["image_id", "label", "state", "origin"], where=name)
    check_unique(raw.unknown, ["image_id", "label"], where=name)
    ids = set(raw.images["image_id"].to_pylist())
    assert all(image_id.startswith(f"{name}/") for image_id in ids)
    if ids:
        assert {*raw.labels["image_id"].to_pylist(), *raw.unknown["image_id"].to_pylist()} <= ids
    assert set(raw.labels["label"].to_pylist()) | set(raw.coverage) <= set(raw.vocabulary)
    assert set(raw.unknown["label"].to_pylist()) <= set(raw.coverage)
    assert not pairs(raw.unknown) & pairs(raw.labels)
    assert unexplained(raw) == {}


def unexplained(raw: RawSource) -> dict[str, int]:
    """Rows that came in and are neither in a table nor in a reason."""
    ledger = Ledger("read")
    raw.record(ledger)
    ledger.num_out("images", raw.images.num_rows)
    ledger.num_out("labels", raw.labels.num_rows)
    return ledger.unexplained()


def pairs(table, **equal: object) -> set[tuple[str, str]]:
    """(image id, label) of the rows whose columns equal `equal`."""
    return {(row["image_id"], row["label"]) for row in table.to_pylist() if all(row[c] == v for c, v in equal.items())}


def source_pairs(table, **equal: object) -> set[tuple[str, str]]:
    """The same pairs with the source's own image ids."""
    return {(image_id.split("/", 1)[1], label) for image_id, label in pairs(table, **equal)}
