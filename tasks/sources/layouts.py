"""Which reader fits files that a person points at, and with which options: what `python -m tasks init` asks.

To add a layout: a function `(path) -> Layout | None` here, and a line in LAYOUTS. It looks at names and headers; the
reader that it names reads the files whole and refuses what is wrong in them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from tasks.core.errors import SourceError
from tasks.core.image_suffixes import IMAGE_SUFFIXES
from tasks.core.split_words import SPLIT_WORDS
from tasks.sources.files import csv_rows, decode_json, mapped_bytes
from tasks.sources.voc import VOC_CLASSES, read_annotation

DEEPEST = 3  # folders below the one that is looked at
SAMPLE = 50  # image names by which a folder is found


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
    raise SourceError(f"{path}: no layout that is known. Known: {'; '.join(LAYOUTS)}.")


# ---------------------------------------------------------------- looking around


def split_word(name: str) -> str | None:
    """The official split that a name ends in or begins with: val of instances_val2017, train of train-annotations."""
    words = [re.sub(r"\d+$", "", word) for word in re.split(r"[^a-z0-9]+", name.lower())]
    return next((SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS), None)


def files_below(path: Path, suffix: str) -> list[Path]:
    """Files with that suffix in the folder and a few folders below, in order; `path` itself when it is a file."""
    if path.is_file():
        return [path] if path.name.lower().endswith(suffix) else []
    return sorted(Path(d) / n for d, _, names in _walk(path) for n in names if n.lower().endswith(suffix))


def _walk(root: Path) -> Iterable[tuple[str, list[str], list[str]]]:
    for directory, below, names in os.walk(root):
        depth = len(Path(directory).relative_to(root).parts)
        below[:] = sorted(b for b in below if not b.startswith(".")) if depth < DEEPEST else []
        yield directory, below, names


def image_folder_of(root: Path, names: Sequence[str]) -> str | None:
    """The folder below `root` in which most of these names are files, relative to it; None where not one is."""
    sample = names[:: max(1, len(names) // SAMPLE)][:SAMPLE]
    best = max(
        ((sum((Path(d) / n).is_file() for n in sample), -len(d), d) for d, _, _ in _walk(root)), default=(0, 0, "")
    )
    return Path(best[2]).relative_to(root).as_posix() if best[0] else None


def _by_split(files: Sequence[Path], root: Path, *, split_name: Callable[[Path], str]) -> str | dict[str, str]:
    """The one file, or {split: file} by the split word in what `split_name` gives of each."""
    if len(files) == 1:
        return files[0].relative_to(root).as_posix()
    splits = [split_word(split_name(file)) for file in files]
    if None in splits or len(set(splits)) < len(splits):
        names = ", ".join(file.relative_to(root).as_posix() for file in files)
        raise SourceError(f"{root}: {len(files)} annotation files that name no split each: {names}. Point at one file.")
    return {split: file.relative_to(root).as_posix() for split, file in zip(splits, files, strict=True)}


# ---------------------------------------------------------------- one function a layout


def _json_keys(path: Path) -> set[str]:
    try:
        return set(decode_json(mapped_bytes(path), dict[str, msgspec.Raw], where=str(path)))
    except SourceError:
        return set()


def coco(path: Path) -> Layout | None:
    """instances JSON: one file, an annotations folder, or Roboflow's _annotations.coco.json in each split's folder."""
    files = [f for f in files_below(path, ".json") if {"images", "categories"} <= _json_keys(f)]
    files = [f for f in files if f.name.startswith("instances")] or files
    if not files:
        return None
    root = path if path.is_dir() else path.parent
    root = root.parent if root.name == "annotations" else root
    beside = all(file.name.startswith("_annotations") for file in files) and len(files) > 1
    annotations = _by_split(files, root, split_name=lambda f: f.parent.name if beside else f.stem)
    folders = {}
    for file in files:
        listed = decode_json(mapped_bytes(file), _Files, where=str(file)).images
        names = [f.file_name or "/".join(f.coco_url.split("/")[-2:]) for f in listed]
        near = image_folder_of(file.parent, names) if beside else None
        folder = file.parent.joinpath(near).relative_to(root).as_posix() if near else image_folder_of(root, names)
        if folder is None:
            raise SourceError(f"{file}: none of its images, e.g. {names[:1]}, is below {root}. Put them there.")
        folders[file.relative_to(root).as_posix()] = folder
    if isinstance(annotations, str):
        return Layout("COCO JSON", "coco", root, {"annotations": annotations, "images": folders[annotations]})
    images = {split: folders[file] for split, file in annotations.items()}
    one = next(iter(images.values()))
    options: dict[str, Any] = {"annotations": annotations, "images": one if set(images.values()) == {one} else images}
    if beside:
        options["identify_by"] = "file_name"  # Roboflow counts from 0 in each file
    return Layout("Roboflow's COCO export" if beside else "COCO JSON", "coco", root, options)


def voc(path: Path) -> Layout | None:
    """Annotations and ImageSets/Main, in the folder or one or two below (VOCdevkit/VOC2007)."""
    if not path.is_dir():
        return None
    roots = [Path(d) for d, below, _ in _walk(path) if {"Annotations", "ImageSets"} <= set(below)]
    roots = [root for root in roots if (root / "ImageSets/Main").is_dir()]
    if not roots:
        return None
    if len(roots) > 1:
        raise SourceError(f"{path}: {len(roots)} VOC folders: {', '.join(map(str, roots))}. Point at one of them.")
    root, options = roots[0], {}
    files = sorted((root / "Annotations").glob("*.xml"))
    names = {label for file in files for label, _ in read_annotation(file).objects}
    if not names <= set(VOC_CLASSES):
        options["classes"] = sorted(names)
    folder = root / "JPEGImages"
    if not folder.is_dir():
        below = image_folder_of(root, [f"{file.stem}.jpg" for file in files])
        if below is None:
            raise SourceError(f"{root}: no picture of its annotations is below it. Put them into JPEGImages.")
        options["images"], folder = below, root / below
    if usable := _lists_with_pictures(root / "ImageSets/Main", {p.stem for p in folder.iterdir()}):
        options["splits"] = usable
    return Layout("Pascal VOC", "voc", root, options)


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
    files = files_below(path, ".xml") if path.is_dir() else []
    folders = sorted({file.parent for file in files})
    if not folders or not any(p.suffix.lower() in IMAGE_SUFFIXES for p in folders[0].iterdir()):
        return None
    splits = [split_word(folder.name) for folder in folders]
    if len(folders) == 1 or None in splits or len(set(splits)) < len(splits):
        return Layout("XML beside pictures (labelImg)", "xml_beside", path, {})
    parts = {s: f.relative_to(path).as_posix() for s, f in zip(splits, folders, strict=True)}
    return Layout("XML beside pictures, a folder a split (Roboflow)", "xml_beside", path, {"folders": parts})


def otx(path: Path) -> Layout | None:
    """Datumaro's or deep-object-reid's JSON."""
    known = ({"categories", "items"}, {"classes", "images"})
    files = [f for f in files_below(path, ".json") if any(keys <= _json_keys(f) for keys in known)]
    if not files:
        return None
    root = path if path.is_dir() else path.parent
    root = root.parent if root.name == "annotations" else root
    images = next((name for name in ("images", ".") if (root / name).is_dir()), ".")
    return Layout(
        "Datumaro JSON",
        "otx",
        root,
        {"annotations": _by_split(files, root, split_name=lambda f: f.stem), "images": images},
    )


def openimages(path: Path) -> Layout | None:
    """Open Images' CSVs: image labels, else boxes, with class descriptions and the hierarchy where they lie beside."""
    headers = {file: [v.strip() for v in next(csv_rows(file), (0, []))[1]] for file in files_below(path, ".csv")}
    named = [f for f, header in headers.items() if {"ImageID", "LabelName"} <= set(header)]
    if not named:
        return None
    root = path if path.is_dir() else path.parent
    boxes = [f for f in named if "XMin" in headers[f]]
    labels = [f for f in named if f not in boxes]
    option = "labels" if labels else "boxes"
    options: dict[str, Any] = {option: _by_split(labels or boxes, root, split_name=lambda f: f.stem)}
    if descriptions := [f for f in files_below(root, ".csv") if "class-descriptions" in f.name]:
        options["classes"] = descriptions[0].relative_to(root).as_posix()
    column = headers[named[0]].index("ImageID")
    ids = [values[column] for _, values in islice(csv_rows(named[0]), 1, 1000)]
    images = image_folder_of(root, [f"{i}.jpg" for i in dict.fromkeys(ids)])
    options |= {"images": images or "images", "only_existing": True}
    hierarchies = [f for f in files_below(root, ".json") if "hierarchy" in f.name]
    return Layout("Open Images CSV", "openimages", root, options, hierarchies[0] if hierarchies else None)


def manifest(path: Path) -> Layout | None:
    """A CSV or Parquet file with a column `image`."""
    files = [*files_below(path, ".csv"), *files_below(path, ".parquet")]
    files = [f for f in files if f.suffix == ".parquet" or "image" in next(csv_rows(f), (0, []))[1]]
    if not files:
        return None
    root = path if path.is_dir() else path.parent
    if len(files) > 1:
        raise SourceError(f"{root}: several manifests: {', '.join(f.name for f in files)}. Point at one of them.")
    return Layout("a manifest", "folder", root, {"manifest": files[0].relative_to(root).as_posix()})


def folders(path: Path) -> Layout | None:
    """A folder of pictures a label."""
    if not path.is_dir():
        return None
    with_pictures = [d for d, _, names in _walk(path) if any(Path(n).suffix.lower() in IMAGE_SUFFIXES for n in names)]
    if not [d for d in with_pictures if Path(d) != path]:
        return None
    return Layout("a folder a label", "folder", path, {"labels": "folders"})


LAYOUTS: dict[str, Callable[[Path], Layout | None]] = {
    "COCO JSON (a file, annotations/instances_*.json, Roboflow's _annotations.coco.json)": coco,
    "Pascal VOC (Annotations, ImageSets/Main)": voc,
    "XML beside pictures (labelImg, Roboflow)": labelimg,
    "Datumaro JSON": otx,
    "Open Images CSV": openimages,
    "a manifest (CSV or Parquet with a column `image`)": manifest,
    "a folder of pictures a label": folders,
}
"""What a person calls it -> how it is found; the first that fits counts."""
