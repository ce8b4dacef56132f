"""Which reader fits files that a person points at, and with which options: what `python -m tasks init` asks.

To add a layout: a function `(path) -> Layout | None` here, and a line in LAYOUTS. It looks at names and headers; the
reader that it names reads the files whole and refuses what is wrong in them.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import yaml

from tasks.core.errors import SourceError
from tasks.core.image_suffixes import IMAGE_SUFFIXES
from tasks.core.split_words import SPLIT_WORDS, official_split
from tasks.sources.files import csv_rows, decode_json, mapped_bytes
from tasks.sources.label_table import READERS, labels_seem_apart, means_images
from tasks.sources.layout_files import (
    begins_with,
    begins_with_object,
    files_below,
    header,
    image_folder_of,
    is_list,
    json_keys,
    one_or_by_split,
    pictures_below,
    puzzles,
    split_word,
)
from tasks.sources.voc import VOC_CLASSES, read_annotation, xml_files
from tasks.sources.yolo import yaml_as_text

NO_LABELS = {*("images", "imgs", "img", "jpegimages", "pictures", "photos", "jpg", "jpeg", "png", "data", "default")}
NO_LABELS |= {*("masks", "labels", "annotations", "segmentationclass", "segmentationobject", "bmp", "raw")}
"""Names of folders that hold pictures, and are no labels of them."""


@dataclass(frozen=True)
class Layout:
    """Files that a reader understands. options: of the reader `kind`, whose `root` is the source's path.

    hierarchy: a file that says which class implies which, where one lies beside.
    """

    what: str
    kind: str
    root: Path
    options: dict[str, Any]
    hierarchy: Path | None = None


class _File(msgspec.Struct):
    id: Any = None
    file_name: str = ""
    coco_url: str = ""


class _Files(msgspec.Struct):
    images: list[_File]


def find_layout(path: Path) -> Layout:
    """The layout of an annotation file or a folder. Raises SourceError naming the layouts that are known."""
    if not path.exists():
        raise SourceError(f"{path}: no such file or folder.")
    for find in LAYOUTS.values():
        if layout := find(path):
            return layout
    seen = "".join(f" {clause}." for clause in puzzles(path)[:3])
    raise SourceError(f"{path}: no layout that is known.{seen} Known: {'; '.join(LAYOUTS)}.")


def _root(path: Path) -> Path:
    """The folder of an annotation file, or the one above `annotations`."""
    root = path if path.is_dir() else path.parent
    return root.parent if root.name.lower() == "annotations" else root


# ---------------------------------------------------------------- one function a layout


def coco(path: Path) -> Layout | None:
    """instances JSON: one file, an annotations folder, or Roboflow's _annotations.coco.json in each split's folder."""
    files = [f for f in files_below(path, ".json") if {"images", "categories"} <= json_keys(f) and not is_list(f)]
    files = [f for f in files if f.name.startswith("instances")] or files
    if not files:
        return None
    root = _root(path)
    beside = all(file.name.startswith("_annotations") for file in files) and len(files) > 1
    annotations = one_or_by_split(files, root, split_name=lambda f: f.parent.name if beside else f.stem)
    folders, ids = {}, Counter()
    for file in files:
        listed = decode_json(mapped_bytes(file), _Files, where=str(file)).images
        ids.update(f.id for f in listed)
        names = [f.file_name or "/".join(f.coco_url.split("/")[-2:]) for f in listed]
        near = image_folder_of(file.parent, names) if beside else None
        folder = (
            file.parent.joinpath(near).relative_to(root).as_posix()
            if near
            else image_folder_of(root, names, split_word(file.stem))
        )
        if folder is None:
            raise SourceError(f"{file}: none of its images, e.g. {names[:1]}, is below {root}. Put them there.")
        folders[file.relative_to(root).as_posix()] = folder
    if isinstance(annotations, str):
        return Layout("COCO JSON", "coco", root, {"annotations": annotations, "images": folders[annotations]})
    images = {split: folders[file] for split, file in annotations.items()}
    one = next(iter(images.values()))
    options: dict[str, Any] = {"annotations": annotations, "images": one if set(images.values()) == {one} else images}
    if max(ids.values(), default=0) > 1:
        options["identify_by"] = "file_name"  # Roboflow and CVAT count anew in each file
    return Layout("Roboflow's COCO export" if beside else "COCO JSON", "coco", root, options)


def cvat(path: Path) -> Layout | None:
    """CVAT's own XML, with the pictures in `images` or anywhere beside."""
    files = [f for f in files_below(path, ".xml") if begins_with(f, b"<annotations>")]
    if not files:
        return None
    if len(files) > 1:
        raise SourceError(f"{path}: several CVAT exports: {', '.join(f.name for f in files)}. Point at one of them.")
    root = files[0].parent
    images = "images" if (root / "images").is_dir() else "."
    return Layout("CVAT for images", "cvat", root, {"annotations": files[0].name, "images": images})


def label_studio(path: Path) -> Layout | None:
    """Label Studio's JSON export, with the pictures anywhere beside."""
    lists = {f: json_keys(f) for f in files_below(path, ".json") if is_list(f)}
    files = [f for f, keys in lists.items() if {"data", "annotations"} <= keys]
    if not files:
        slim = {**lists, **{f: set(header(f)) for f in files_below(path, ".csv")}}
        if odd := next((f for f, keys in slim.items() if {"annotation_id", "lead_time"} <= keys), None):
            raise SourceError(f"{odd}: Label Studio's short form. Export the project as JSON, not JSON-MIN or CSV.")
        return None
    if len(files) > 1:
        raise SourceError(f"{path}: several exports: {', '.join(f.name for f in files)}. Point at one of them.")
    root = files[0].parent
    folders = {file.parent for file in pictures_below(root)}
    images = next(iter(folders)).relative_to(root).as_posix() if len(folders) == 1 else "."
    return Layout("Label Studio JSON", "label_studio", root, {"annotations": files[0].name, "images": images})


def via(path: Path) -> Layout | None:
    """VIA's project, or its annotations as JSON or CSV."""

    def is_via(file: Path) -> bool:
        if file.suffix.lower() == ".csv":
            return "region_attributes" in header(file)
        return "_via_img_metadata" in json_keys(file) or begins_with(file, b'"filename"')

    files = [f for suffix in (".json", ".csv") for f in files_below(path, suffix) if is_via(f)]
    if not files:
        return None
    root = _root(path)
    annotations = one_or_by_split(files, root, split_name=lambda f: f.relative_to(root).as_posix())
    by_file = [annotations] if isinstance(annotations, str) else annotations.values()
    folders = [Path(file).parent.as_posix() for file in by_file]
    images = folders[0] if isinstance(annotations, str) else dict(zip(annotations, folders, strict=True))
    return Layout("VGG Image Annotator", "via", root, {"annotations": annotations, "images": images})


def voc(path: Path) -> Layout | None:
    """A folder of XML files apart from their pictures, called Annotations or not, with or without ImageSets/Main."""
    if not path.is_dir():
        return None
    samples = {file.parent: file for file in xml_files(path)}
    apart = [d for d, file in samples.items() if begins_with(file, b"<annotation>") and not _picture_beside(file)]
    above = {d: next((p for p in (d, *d.parents) if p.name.lower() == "annotations"), d) for d in apart}
    if not apart:
        return None
    if len(set(above.values())) > 1:
        folders = ", ".join(str(d.relative_to(path)) for d in apart[:3])
        raise SourceError(f"{path}: {len(apart)} folders of VOC's XML: {folders}. Point at one with its pictures.")
    top = above[apart[0]]
    root, annotations = top.parent, apart[0] if len(apart) == 1 else top
    options: dict[str, Any] = {}
    if annotations.relative_to(root).as_posix() != "Annotations":
        options["annotations"] = annotations.relative_to(root).as_posix()
    files = list(xml_files(annotations))
    names = {label for file in files for label, _ in read_annotation(file).objects}
    official = any((root / "ImageSets/Main").glob("aeroplane_*.txt"))
    if not names <= set(VOC_CLASSES) or (not official and len(names) < len(VOC_CLASSES)):
        options["classes"] = sorted(names)
    folder = root / "JPEGImages"
    if not folder.is_dir():
        stems = {file.stem for file in files}
        holding = Counter(file.parent for file in pictures_below(root) if file.stem in stems).most_common(1)
        if not holding:
            raise SourceError(f"{root}: no picture of its annotations is below it. Put them into JPEGImages.")
        folder = holding[0][0]
        options["images"] = folder.relative_to(root).as_posix()
    if usable := _lists_with_pictures(root / "ImageSets/Main", {p.stem for p in folder.iterdir()}):
        options["splits"] = usable
    return Layout("Pascal VOC", "voc", root, options)


def _picture_beside(file: Path) -> bool:
    return any(p.stem == file.stem and p.suffix.lower() in IMAGE_SUFFIXES for p in file.parent.iterdir())


def _lists_with_pictures(lists: Path, pictures: set[str]) -> dict[str, str]:
    """{split: list} where a usual list has no picture at all and must be left out; else {}, the reader's default."""
    there = [name for name in ("trainval", "train", "val", "test") if (lists / f"{name}.txt").is_file()]
    there = [name for name in there if "trainval" not in there or name in ("trainval", "test")]
    ids = {name: [line.split()[0] for line in _lines(lists / f"{name}.txt")] for name in there}
    usable = [name for name in there if pictures.intersection(ids[name])]
    return {} if usable == there else {SPLIT_WORDS[name]: name for name in usable}


def _lines(path: Path) -> list[str]:
    return [line for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]


def labelimg(path: Path) -> Layout | None:
    """An XML beside each picture, as labelImg and Roboflow's VOC export write, in one folder or one a split."""
    files = list(xml_files(path)) if path.is_dir() else []
    folders = sorted({file.parent for file in files})
    if not folders or not any(p.suffix.lower() in IMAGE_SUFFIXES for p in folders[0].iterdir()):
        return None
    splits = [split_word(folder.name) for folder in folders]
    if len(folders) == 1 or None in splits or len(set(splits)) < len(splits):
        return Layout("XML beside pictures (labelImg)", "xml_beside", path, {})
    parts = {s: f.relative_to(path).as_posix() for s, f in zip(splits, folders, strict=True)}
    return Layout("XML beside pictures, a folder a split (Roboflow)", "xml_beside", path, {"folders": parts})


def yolo(path: Path) -> Layout | None:
    """data.yaml, or class names in classes.txt or obj.names, with text files beside the pictures or in `labels`."""
    settings = [f for suffix in (".yaml", ".yml") for f in files_below(path, suffix) if _declares_classes(f)]
    settings.sort(key=lambda f: f.stem != "data")
    names = settings or [f for text in ("classes.txt", "obj.names") for f in files_below(path, text) if f.name == text]
    for file in names:
        if root := next((root for root in (file.parent, path) if pictures_below(root)), None):
            return Layout("YOLO", "yolo", root, {"names": file.relative_to(root).as_posix()})
    stems = {file.stem for file in pictures_below(path)}
    texts = [f for f in files_below(path, ".txt") if f.stem in stems and begins_with_object(f)]
    if texts and path.is_dir():
        raise SourceError(
            f"{texts[0]}: YOLO's text, but no file names the classes. Put data.yaml or classes.txt above."
        )
    return None


def _declares_classes(file: Path) -> bool:
    """Whether a YAML file has `names` as data.yaml has them; a broken one that names them is the reader's to refuse."""
    text = file.read_bytes()
    with contextlib.suppress(ValueError, yaml.YAMLError):
        settings = yaml_as_text(text.decode("utf-8-sig"))
        return isinstance(settings, dict) and isinstance(settings.get("names"), list | dict)
    return b"names:" in text


def otx(path: Path) -> Layout | None:
    """Datumaro's or deep-object-reid's JSON."""
    known = ({"categories", "items"}, {"classes", "images"})
    files = [f for f in files_below(path, ".json") if any(keys <= json_keys(f) for keys in known) and not is_list(f)]
    if not files:
        return None
    root = _root(path)
    images = next((name for name in ("images", ".") if (root / name).is_dir()), ".")
    annotations = one_or_by_split(files, root, split_name=lambda f: f.stem)
    return Layout("Datumaro JSON", "otx", root, {"annotations": annotations, "images": images})


def openimages(path: Path) -> Layout | None:
    """Open Images' CSVs: image labels, else boxes, with class descriptions and the hierarchy where they lie beside."""
    headers = {file: header(file) for file in files_below(path, ".csv")}
    named = [f for f, columns in headers.items() if {"ImageID", "LabelName"} <= set(columns)]
    if not named:
        return None
    root = path if path.is_dir() else path.parent
    boxes = [f for f in named if "XMin" in headers[f]]
    labels = [f for f in named if f not in boxes]
    option = "labels" if labels else "boxes"
    options: dict[str, Any] = {option: one_or_by_split(labels or boxes, root, split_name=lambda f: f.stem)}
    if descriptions := [f for f in files_below(root, ".csv") if "class-descriptions" in f.name]:
        options["classes"] = descriptions[0].relative_to(root).as_posix()
    column = headers[named[0]].index("ImageID")
    ids = [values[column] for _, values in islice(csv_rows(named[0]), 1, 1000)]
    images = image_folder_of(root, [f"{i}.jpg" for i in dict.fromkeys(ids)])
    options |= {"images": images or "images", "only_existing": True}
    hierarchies = [f for f in files_below(root, ".json") if "hierarchy" in f.name]
    return Layout("Open Images CSV", "openimages", root, options, hierarchies[0] if hierarchies else None)


def manifest(path: Path) -> Layout | None:
    """A table with a column of images: one, or one a split (Roboflow's _classes.csv, Hugging Face's metadata.csv)."""
    files = [f for suffix in (".csv", ".tsv", *READERS) for f in files_below(path, suffix)]
    files = [f for f in files if means_images(f)]
    if not files:
        return None
    root = path if path.is_dir() else path.parent
    each_beside = len(files) > 1 and len({file.parent for file in files}) == len(files)
    if len(files) > 1 and not each_beside and len({tuple(header(file)) for file in files}) > 1:
        listed = ", ".join(file.name for file in files)
        raise SourceError(f"{root}: several manifests of different columns: {listed}. Point at one of them.")
    split_name = (lambda f: f.parent.name) if each_beside else (lambda f: f.stem)
    options: dict[str, Any] = {"manifest": one_or_by_split(files, root, split_name=split_name)}
    if separator := labels_seem_apart(files):
        options["separator"] = separator
    return Layout("a table of pictures" + (", one a split" if len(files) > 1 else ""), "folder", root, options)


def folders(path: Path) -> Layout | None:
    """A folder of pictures a label, of two labels at least; in the one folder inside, where there is only one."""
    if not path.is_dir():
        return None
    below = [Path(d).relative_to(path).parts for d in sorted({str(file.parent) for file in pictures_below(path)})]
    first = {parts[:1] for parts in below}
    if len(first) == 1 and (only := next(iter(first))) and official_split(only[0]) is None and len(below) > 1:
        return folders(path / only[0])
    by_split = all(parts and official_split(parts[0]) for parts in below)
    mixed = sorted({parts[0] for parts in below if len(parts) > 1 and official_split(parts[0])})
    if mixed and not by_split:
        others = sorted({parts[0] for parts in below if parts and not official_split(parts[0])})
        raise SourceError(
            f"{path}: folders of labels are below {', '.join(mixed)}, beside are {', '.join(others) or 'pictures'}. "
            "Point at a folder that holds splits alone, or labels alone."
        )
    labels = {name for parts in below for name in (parts[1:2] if by_split else parts[:1])}
    if len({name for name in labels if name.lower() not in NO_LABELS}) < min(2, len(labels) or 2):
        return None
    return Layout("a folder a label", "folder", path, {"labels": "folders"})


LAYOUTS: dict[str, Callable[[Path], Layout | None]] = {
    "COCO JSON (a file, annotations/instances_*.json, Roboflow's _annotations.coco.json)": coco,
    "CVAT for images (annotations.xml)": cvat,
    "Label Studio JSON": label_studio,
    "VGG Image Annotator (JSON, CSV)": via,
    "Pascal VOC (Annotations, ImageSets/Main)": voc,
    "XML beside pictures (labelImg, Roboflow)": labelimg,
    "YOLO (data.yaml, classes.txt, obj.names)": yolo,
    "Datumaro JSON": otx,
    "Open Images CSV": openimages,
    "a table of pictures (CSV, Parquet or JSON lines with a column `image`; _classes.csv, metadata.csv)": manifest,
    "a folder of pictures a label": folders,
}
"""What a person calls it -> how it is found; the first that fits counts."""
