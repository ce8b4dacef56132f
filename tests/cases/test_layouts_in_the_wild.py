"""Cases: folders and tables as people leave them, which `init` reads right or refuses with one line that helps."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.core.errors import SourceError
from tasks.sources import SOURCES, folder
from tasks.sources.layouts import find_layout
from tests.cases.project import coco_file
from tests.commands.layouts_of_tools import text
from tests.sources.deliveries import touch, voc_xml, write_csv, write_json

TWO = ("0.jpg", "1.jpg")


def table(content: str, *, name: str = "labels.csv", encoding: str = "utf-8") -> Callable[[Path], None]:
    def write(root: Path) -> None:
        text(root / name, content, encoding)
        touch(*(root / "images" / file for file in TWO))

    return write


def voc_folders(annotations: str, images: str) -> Callable[[Path], None]:
    def write(root: Path) -> None:
        for file, label in zip(TWO, ("cat", "dog"), strict=True):
            text(root / annotations / f"{file[0]}.xml", voc_xml((label, 0), file_name=file))
            touch(root / images / file)

    return write


def yolo_folders(names: str, settings: str) -> Callable[[Path], None]:
    def write(root: Path) -> None:
        for file, number in zip(TWO, "01", strict=True):
            touch(root / "images/train" / file)
            text(root / f"labels/train/{file[0]}.txt", f"{number} 0.5 0.5 0.1 0.1\n")
        text(root / names, settings)

    return write


def pictures(*files: str) -> Callable[[Path], None]:
    return lambda root: touch(*(root / file for file in files))


def all_of(*writers: Callable[[Path], object]) -> Callable[[Path], None]:
    def write(root: Path) -> None:
        for one in writers:
            one(root)

    return write


def via(regions: object, **file_attributes: str) -> dict:
    return {"filename": "0.jpg", "size": 1, "regions": regions, "file_attributes": file_attributes}


BOX = {"name": "rect", "x": 1, "y": 1, "width": 2, "height": 2}
CAT_AND_DOG = {("0.jpg", "cat"), ("1.jpg", "dog")}

READ: dict[str, tuple[Callable[[Path], object], set[tuple[str, str]]]] = {
    "TensorFlow's table of boxes": (
        table("filename,width,height,class,xmin,ymin,xmax,ymax\n0.jpg,9,9,cat,1,1,2,2\n1.jpg,9,9,dog,1,1,2,2\n"),
        CAT_AND_DOG,
    ),
    "a table of yes and no": (table("image,cat,dog\n0.jpg,Yes,no\n1.jpg,N,y\n"), CAT_AND_DOG),
    "a table of TRUE and FALSE": (table("image,cat,dog\n0.jpg,TRUE,FALSE\n1.jpg,FALSE,TRUE\n"), CAT_AND_DOG),
    "one-hot with blanks": (table("image,cat,dog\n0.jpg,1,\n1.jpg,,1.0\n"), CAT_AND_DOG),
    "UTF-16 without its mark": (table("image;label\r\n0.jpg;cat\r\n1.jpg;dog\r\n", encoding="utf-16-le"), CAT_AND_DOG),
    "an old Mac's line ends": (table("image,label\r0.jpg,cat\r1.jpg,dog\r"), CAT_AND_DOG),
    "tabs": (table("image\tlabel\n0.jpg\tcat\n1.jpg\tdog\n", name="labels.tsv"), CAT_AND_DOG),
    "numbers for names, and pandas' index": (table(",image,label\n0,0,cat\n1,1,dog\n"), CAT_AND_DOG),
    "the chest X-rays' columns": (table("Image Index,Finding Labels\n0.jpg,cat\n1.jpg,dog\n"), CAT_AND_DOG),
    "empty values of databases and blanks": (
        table("image,label\n0.jpg,cat\n0.jpg,NULL\n1.jpg,dog\n1.jpg, \n"),
        CAT_AND_DOG,
    ),
    "numbers for labels": (table("image,label\n0.jpg,0\n1.jpg,1\n"), {("0.jpg", "0"), ("1.jpg", "1")}),
    "labels of several words": (
        table("image,labels\n0.jpg,\"['hot dog']\"\n1.jpg,\"['hot dog', 'cat']\"\n"),
        {("0.jpg", "hot dog"), ("1.jpg", "hot dog"), ("1.jpg", "cat")},
    ),
    "a table a split, in one folder": (
        all_of(
            table("image,label\n0.jpg,cat\n", name="train.csv"), table("image,label\n1.jpg,dog\n", name="valid.csv")
        ),
        CAT_AND_DOG,
    ),
    "VOC in lower case, as Kaggle has it": (voc_folders("annotations", "images"), CAT_AND_DOG),
    "VOC one folder deeper": (voc_folders("annotations/xmls", "images"), CAT_AND_DOG),
    "VOC under names of one's own": (voc_folders("xml", "jpg"), CAT_AND_DOG),
    "labelImg, a folder a day": (
        all_of(voc_folders("1 May", "1 May"), pictures("1 May/notes.txt", "2 May/2.jpg")),
        CAT_AND_DOG,
    ),
    "labelImg's YOLO, names among the labels": (yolo_folders("labels/classes.txt", "cat\ndog\n"), CAT_AND_DOG),
    "YOLO's names apart from the pictures": (
        yolo_folders("config/data.yaml", "train: ../images/train\nnames: [cat, dog]\n"),
        CAT_AND_DOG,
    ),
    "YOLO of another machine": (
        yolo_folders("data.yaml", "train: /home/ann/pets/images/train\nnames:\n  0: cat\n  1: dog\n"),
        CAT_AND_DOG,
    ),
    "YOLO of Windows": (
        yolo_folders("data.yaml", "path: C:\\Users\\ann\ntrain: images\\train\nnames:\n  '0': cat\n  '1': dog\n"),
        CAT_AND_DOG,
    ),
    "YOLO's class that YAML takes for false": (
        yolo_folders("data.yaml", "train: images/train\nnames: {0: yes, 1: no}\n"),
        {("0.jpg", "yes"), ("1.jpg", "no")},
    ),
    "YOLO beside settings of a training": (
        all_of(
            yolo_folders("data.yaml", "train: images/train\nnames: [cat, dog]\n"),
            lambda root: text(root / "args.yaml", "task: detect\nnames: x\nlr0: 0.01\n"),
        ),
        CAT_AND_DOG,
    ),
    "YOLO's text files in capitals": (
        all_of(
            yolo_folders("data.yaml", "train: images/train\nnames: [cat, dog]\n"),
            lambda root: (root / "labels/train/0.txt").rename(root / "labels/train/0.TXT"),
        ),
        CAT_AND_DOG,
    ),
    "VIA's own attributes of files beside a check box of regions": (
        all_of(
            pictures(*TWO),
            lambda root: write_json(
                root / "via.json",
                {
                    "0.jpg1": via(
                        [{"shape_attributes": BOX, "region_attributes": {"kind": {"cat": True, "dog": False}}}],
                        caption="",
                        public_domain="no",
                    ),
                    "1.jpg1": via({"0": {"shape_attributes": BOX, "region_attributes": {"kind": "dog"}}})
                    | {"filename": "1.jpg"},
                },
            ),
        ),
        CAT_AND_DOG,
    ),
    "folders of labels in a folder": (pictures("animals/cat/0.jpg", "animals/dog/1.jpg"), CAT_AND_DOG),
    "splits of folders of labels in a folder": (pictures("set/train/cat/0.jpg", "set/val/dog/1.jpg"), CAT_AND_DOG),
    "what macOS and notebooks leave": (
        pictures("cat/0.jpg", "cat/._0.jpg", "dog/1.jpg", ".ipynb_checkpoints/0.jpg", "__MACOSX/cat/._0.jpg"),
        CAT_AND_DOG,
    ),
    "FiftyOne's COCO": (
        all_of(
            lambda root: coco_file(root / "labels.json", {"0.jpg": ["cat"], "1.jpg": ["dog"]}),
            pictures("data/0.jpg", "data/1.jpg"),
        ),
        CAT_AND_DOG,
    ),
}
"""What it is -> how it is written, and (file, label) of what is present."""


@pytest.mark.parametrize("case", READ)
def test_a_folder_is_read_as_its_owner_means_it(tmp_path, case):
    write, expected = READ[case]
    write(tmp_path)
    layout = find_layout(tmp_path)
    raw = SOURCES[layout.kind]("s", layout.root, **layout.options)
    file_of = {row["image_id"]: Path(row["uri"]) for row in raw.images.to_pylist()}
    assert all(file.is_file() for file in file_of.values())
    assert {(file_of[row["image_id"]].name, row["label"]) for row in raw.labels.to_pylist() if row["state"]} == expected


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "a table without names of columns": (table("0.jpg,cat\n1.jpg,dog\n"), r"labels\.csv: its first row is a picture"),
    "a table in an old encoding": (table("image,label\n0.jpg,Käfer\n", encoding="cp1252"), r"not UTF-8 text"),
    "a table whose columns have other names": (table("Bild,Klasse\n0.jpg,cat\n"), "no column is called image: Bild"),
    "tables of different columns": (
        all_of(table("image,label\n0.jpg,cat\n", name="train.csv"), table("image\n1.jpg\n", name="test.csv")),
        r"several manifests of different columns: test\.csv, train\.csv",
    ),
    "two columns of one name": (
        table("image,label,label\n0.jpg,cat,dog\n"),
        r"labels\.csv:1: two columns are called 'label'",
    ),
    "a split of labels beside pictures of no split": (
        pictures("train/cat/0.jpg", "train/dog/1.jpg", "unlabelled/2.jpg"),
        "folders of labels are below train, beside are unlabelled",
    ),
    "a packed export": (pictures("job.zip"), r"job\.zip: packed\. Unpack it first"),
    "a spreadsheet": (pictures("labels.xlsx", *TWO), r"labels\.xlsx: a spreadsheet\. Save it as CSV"),
    "pictures alone": (pictures(*TWO), "2 pictures, and no file of annotations"),
    "pictures and masks": (pictures("images/0.jpg", "masks/0.png"), "2 pictures, and no file of annotations"),
    "JSON of another tool": (
        lambda root: write_json(root / "0.json", {"shapes": [], "imagePath": "0.jpg"}),
        r"0\.json: JSON of shapes, imagePath",
    ),
    "COCO as UTF-16": (
        lambda root: (root / "a.json").write_bytes(json.dumps({"images": []}).encode("utf-16")),
        "UTF-16 text",
    ),
    "Label Studio's JSON-MIN": (
        lambda root: write_json(root / "p.json", [{"image": "0.jpg", "annotation_id": 1, "lead_time": 1.0}]),
        r"p\.json: Label Studio's short form\. Export the project as JSON",
    ),
    "Label Studio's CSV": (
        lambda root: write_csv(
            root / "p.csv", ("image", "choice", "annotation_id", "lead_time"), ("0.jpg", "cat", 1, 2)
        ),
        r"p\.csv: Label Studio's short form",
    ),
    "YOLO's text without names": (
        all_of(pictures("images/0.jpg"), lambda root: text(root / "labels/0.txt", "0 0.5 0.5 0.1 0.1\n")),
        "no file names the classes",
    ),
    "VOC in two folders": (
        all_of(voc_folders("train/annotations", "train/images"), voc_folders("val/annotations", "val/images")),
        "2 folders of VOC's XML",
    ),
}
"""What it is -> how it is written, and what is said."""


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_read_is_refused_with_what_to_do(tmp_path, case):
    write, says = REFUSED[case]
    write(tmp_path)
    with pytest.raises(SourceError, match=says) as refused:
        find_layout(tmp_path)
    assert "\n" not in str(refused.value)


def test_a_table_s_folders_are_the_official_splits_where_all_of_them_are(tmp_path):
    write_csv(tmp_path / "metadata.csv", ("file_name", "label"), ("train/0.jpg", "cat"), ("test/1.jpg", "dog"))
    raw = folder.read("s", tmp_path, manifest="metadata.csv")
    assert raw.images["official_split"].to_pylist() == ["train", "test"]
