"""Small data sets, laid out and written exactly as annotation tools and hosts export them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from tests.sources.deliveries import (
    DELIVERIES,
    coco_document,
    cvat_xml,
    datumaro_document,
    label_studio_document,
    touch,
    via_document,
    voc_xml,
    write_csv,
    write_json,
)


def text(path: Path, content: str, encoding: str = "utf-8") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode(encoding))


# ---------------------------------------------------------------- Roboflow


def roboflow_coco(root: Path) -> None:
    """Each file counts its images from the same number on."""
    for split in ("train", "valid", "test"):
        write_json(root / split / "_annotations.coco.json", coco_document())
        touch(*(root / split / f"{name}.jpg" for name in "abc"))
    text(root / "README.roboflow.txt", "Pets - v1\n")


def roboflow_voc(root: Path) -> None:
    for split, names in {"train": ["dog", "cat"], "valid": ["dog"], "test": ["cat"]}.items():
        for name in names:
            touch(root / split / f"{name}_jpg.rf.0a1b2c.jpg")
            file = f"{name}_jpg.rf.0a1b2c"
            text(root / split / f"{file}.xml", voc_xml((name, 0), file_name=f"{file}.jpg"))


def roboflow_classes(root: Path) -> None:
    for split in ("train", "valid", "test"):
        text(root / split / "_classes.csv", "filename, cat, dog\na_jpg.rf.1.jpg, 1, 0\nb_jpg.rf.2.jpg, 1, 1\n")
        touch(root / split / "a_jpg.rf.1.jpg", root / split / "b_jpg.rf.2.jpg")


def roboflow_yolo(root: Path) -> None:
    """Its data.yaml names the splits from a folder beside the one that it lies in."""
    for split in ("train", "valid", "test"):
        touch(root / split / "images/a_jpg.rf.1.jpg")
        text(root / split / "labels/a_jpg.rf.1.txt", "1 0.5 0.5 0.25 0.125\n0 0.5 0.5 0.25 0.125")
    lines = [
        "train: ../train/images",
        "val: ../valid/images",
        "test: ../test/images",
        "",
        "nc: 2",
        "names: ['cat', 'dog']",
    ]
    text(root / "data.yaml", "\n".join([*lines, "", "roboflow:", "  workspace: pets", "  version: 1"]))


# ---------------------------------------------------------------- YOLO


def ultralytics(root: Path) -> None:
    DELIVERIES["yolo"](root)


def coco8(root: Path) -> None:
    """`path` says where the author's machine had it."""
    DELIVERIES["yolo"](root)
    names = "names:\n  0: cat\n  1: dog\n"
    text(
        root / "pets.yaml",
        f"path: ../datasets/pets # root\ntrain: images/train\nval: images/val\ntest: # none\n{names}",
    )
    (root / "data.yaml").unlink()


def darknet_of_cvat(root: Path) -> None:
    text(root / "obj.names", "cat\ndog\n")
    text(root / "obj.data", "classes = 2\ntrain = data/train.txt\nnames = data/obj.names\nbackup = backup/\n")
    text(root / "train.txt", "data/obj_train_data/a.jpg\ndata/obj_train_data/b.jpg\n")
    touch(root / "obj_train_data/a.jpg", root / "obj_train_data/b.jpg")
    text(root / "obj_train_data/a.txt", "1 0.5 0.5 0.2 0.2\n")
    text(root / "obj_train_data/b.txt", "")


def yolo_of_label_studio(root: Path) -> None:
    text(root / "classes.txt", "cat\ndog\n")
    write_json(root / "notes.json", {"categories": [{"id": 0, "name": "cat"}, {"id": 1, "name": "dog"}], "info": {}})
    touch(root / "images/0a1b2c3d-a.jpg")
    text(root / "labels/0a1b2c3d-a.txt", "0 0.5 0.5 0.2 0.2\n1 0.5 0.5 0.2 0.2\n")


# ---------------------------------------------------------------- CVAT, Label Studio, VIA, Datumaro


def coco_of_cvat(root: Path) -> None:
    document = coco_document()
    for image in document["images"]:
        image["file_name"] = f"day 1/{image['file_name']}"
    write_json(root / "annotations/instances_default.json", document)
    touch(*(root / f"images/day 1/{name}.jpg" for name in "abc"))


def coco_of_cvat_with_subsets(root: Path) -> None:
    """Each subset counts its images from 1."""
    for subset in ("Train", "Validation"):
        write_json(root / f"annotations/instances_{subset}.json", coco_document())
        touch(*(root / f"images/{subset}/{name}.jpg" for name in "abc"))


def voc_of_cvat(root: Path) -> None:
    for name in ("a", "b"):
        text(root / f"Annotations/{name}.xml", voc_xml(("cat", 0), ("robot", 0), file_name=f"{name}.jpg"))
        touch(root / f"JPEGImages/{name}.jpg")
    text(root / "ImageSets/Main/default.txt", "a\nb\n")
    text(root / "labelmap.txt", "# label:color_rgb:parts:actions\nbackground:0,0,0::\ncat:1,2,3::\nrobot:4,5,6::\n")


def cvat_for_images(root: Path) -> None:
    text(root / "annotations.xml", cvat_xml())
    touch(root / "images/x/a.jpg", root / "images/x/b.jpg")


def coco_of_label_studio(root: Path) -> None:
    """Written on Windows: backslashes, and images whose `file_name` starts above their folder."""
    document = coco_document()
    for image in document["images"]:
        image["file_name"] = f"images\\0a1b2c3d-{image['file_name']}"
    write_json(root / "result.json", document)
    touch(*(root / f"images/0a1b2c3d-{name}.jpg" for name in "abc"))


def voc_of_label_studio(root: Path) -> None:
    """No lists, and file names without extension."""
    for name in ("0a1b2c3d-a", "0a1b2c3d-b"):
        text(root / f"Annotations/{name}.xml", voc_xml(("robot", 0), file_name=name))
        touch(root / f"images/{name}.png")


def label_studio(root: Path) -> None:
    write_json(root / "project-1-at-2026-05-01-10-00-0a1b2c3d.json", label_studio_document())
    touch(root / "media/a.jpg", root / "media/b.jpg")


def via_project(root: Path) -> None:
    write_json(root / "via_project_1May2026_10h0m.json", {"_via_settings": {}, "_via_img_metadata": via_document()})
    touch(root / "a.jpg", root / "b.jpg")


def via_json_a_split(root: Path) -> None:
    """As the balloon data set has it."""
    for split in ("train", "val"):
        write_json(root / split / "via_region_data.json", via_document())
        touch(root / split / "a.jpg", root / split / "b.jpg")


def via_csv(root: Path) -> None:
    columns = "filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes"
    box = '"{""name"":""rect"",""x"":1,""y"":2,""width"":3,""height"":4}"'
    rows = ['a.jpg,100,"{}",1,0,' + box + ',"{""kind"":""cat""}"', 'b.jpg,90,"{}",0,0,"{}","{}"']
    text(root / "via_export_csv.csv", "\n".join([columns, *rows]) + "\n")
    touch(root / "a.jpg", root / "b.jpg")


def datumaro(root: Path) -> None:
    document = datumaro_document() | {"info": {}}
    for item in document["items"]:
        item["image"] |= {"size": [9, 9]}
        item |= {"attr": {"frame": 0}, "point_cloud": {"path": ""}}
    for subset in ("train", "validation"):
        renamed = json.loads(
            json.dumps(document).replace("a.jpg", f"{subset}_a.jpg").replace("b.jpg", f"{subset}_b.jpg")
        )
        write_json(root / f"annotations/{subset}.json", renamed)
        touch(root / f"images/{subset}/{subset}_a.jpg", root / f"images/{subset}/{subset}_b.jpg")


# ---------------------------------------------------------------- folders and tables


def voc_with_pictures(root: Path) -> None:
    DELIVERIES["voc"](root / "VOCdevkit/VOC2007")
    touch(*(root / f"VOCdevkit/VOC2007/JPEGImages/{name}.jpg" for name in ("001", "002", "003")))


def a_folder_a_label(root: Path) -> None:
    touch(root / "cat/1.jpg", root / "dog/2.jpg")


def imagefolder_with_label_folders(root: Path) -> None:
    touch(root / "train/cat/1.jpg", root / "train/dog/2.jpg", root / "test/cat/3.jpg")


def imagefolder_with_csv(root: Path) -> None:
    for split in ("train", "test"):
        text(root / split / "metadata.csv", "file_name,label\n0001.png,cat\nsub/0002.png,dog\n")
        touch(root / split / "0001.png", root / split / "sub/0002.png")


def imagefolder_with_jsonl(root: Path) -> None:
    """Hugging Face's own example of objects: class numbers and boxes."""
    lines = [
        {"file_name": "0001.png", "objects": {"bbox": [[302.0, 109.0, 73.0, 52.0]], "categories": [0]}},
        {"file_name": "0002.png", "objects": {"bbox": [[810.0, 100.0, 57.0, 28.0]], "categories": [1, 0]}},
    ]
    text(root / "metadata.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    touch(root / "0001.png", root / "0002.png")


def fastai(root: Path) -> None:
    """PASCAL_2007's train.csv."""
    rows = [("1.jpg", "chair car", "True"), ("2.jpg", "car", "True"), ("3.jpg", "car horse", "False")]
    rows += [("4.jpg", "horse", "False"), ("5.jpg", "chair", "False")]
    write_csv(root / "train.csv", ("fname", "labels", "is_valid"), *rows)
    touch(*(root / f"train/{n}.jpg" for n in range(1, 6)))


def a_manifest(root: Path) -> None:
    write_csv(root / "list.csv", ("image", "present"), ("1.jpg", "cat"))
    touch(root / "1.jpg")


LAYOUTS: dict[str, tuple[Callable[[Path], object], str, dict[str | None, int]]] = {
    "a COCO folder": (DELIVERIES["coco"], "coco", {None: 3}),
    "Roboflow's COCO export": (roboflow_coco, "coco", {"train": 3, "val": 3, "test": 3}),
    "CVAT's COCO export": (coco_of_cvat, "coco", {None: 3}),
    "CVAT's COCO export of two subsets": (coco_of_cvat_with_subsets, "coco", {"train": 3, "val": 3}),
    "Label Studio's COCO export": (coco_of_label_studio, "coco", {None: 3}),
    "CVAT for images": (cvat_for_images, "cvat", {None: 2}),
    "Label Studio's JSON": (label_studio, "label_studio", {None: 2}),
    "a VIA project": (via_project, "via", {None: 2}),
    "VIA's JSON a split": (via_json_a_split, "via", {"train": 2, "val": 2}),
    "VIA's CSV": (via_csv, "via", {None: 2}),
    "a VOCdevkit": (voc_with_pictures, "voc", {"train": 2, "test": 1}),
    "CVAT's VOC export": (voc_of_cvat, "voc", {None: 2}),
    "Label Studio's VOC export": (voc_of_label_studio, "voc", {None: 2}),
    "XML beside pictures": (DELIVERIES["xml_beside"], "xml_beside", {"train": 2, "val": 1}),
    "Roboflow's VOC export": (roboflow_voc, "xml_beside", {"train": 2, "val": 1, "test": 1}),
    "Ultralytics' YOLO": (ultralytics, "yolo", {"train": 2, "val": 1}),
    "YOLO with a path of the author's machine": (coco8, "yolo", {"train": 2, "val": 1}),
    "Roboflow's YOLO export": (roboflow_yolo, "yolo", {"train": 1, "val": 1, "test": 1}),
    "CVAT's YOLO export": (darknet_of_cvat, "yolo", {None: 2}),
    "Label Studio's YOLO export": (yolo_of_label_studio, "yolo", {None: 1}),
    "OTX's Datumaro JSON": (DELIVERIES["otx"], "otx", {None: 2}),
    "Datumaro": (datumaro, "otx", {"train": 2, "val": 2}),
    "a folder a label": (a_folder_a_label, "folder", {None: 2}),
    "Hugging Face's imagefolder, a folder a label": (imagefolder_with_label_folders, "folder", {"train": 2, "test": 1}),
    "Hugging Face's imagefolder with metadata.csv": (imagefolder_with_csv, "folder", {"train": 2, "test": 2}),
    "Hugging Face's imagefolder with metadata.jsonl": (imagefolder_with_jsonl, "folder", {None: 2}),
    "Roboflow's _classes.csv": (roboflow_classes, "folder", {"train": 2, "val": 2, "test": 2}),
    "fastai's CSV": (fastai, "folder", {"val": 2, "train": 3}),
    "a manifest": (a_manifest, "folder", {None: 1}),
}
"""What it is -> how it is written, the reader that reads it, images by official split."""
