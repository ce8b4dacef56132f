"""The two JSON formats of multi-label training code: Datumaro's (OTX) and deep-object-reid's; read, written, converted.

    datumaro   {"categories": {"label": {"labels": [{"name"}], "label_groups": […]}},
                "items": [{"id", "image": {"path"}, "annotations": [{"type": "label", "label_id"}]}]}
    reid       {"classes": [name], "images": [[path, [name or index, …]], …]}

Both are exhaustive: what an image does not list is absent. They list a label once per object, and OTX's converter,
run twice in one process, lists every image twice; both kinds of repetition are collapsed and counted.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import msgspec
import numpy as np

from tasks.core.errors import SourceError, did_you_mean
from tasks.core.tables import PRESENT, write_text
from tasks.sources import coco
from tasks.sources.files import (
    by_split,
    decode_json,
    existing_file,
    image_folder,
    image_uris,
    mapped_bytes,
)
from tasks.sources.raw import (
    RawSource,
    collapse_objects,
    concat_sources,
    first_duplicate,
    images_table,
    labels_table,
)

GROUP_PREFIX = "___"
"""OTX takes a dataset for multi-label when every class is a group of its own whose name begins so."""


@dataclass(frozen=True)
class LabelledImages:
    """A multi-label data set, exhaustive over `classes`: (image path, class names, repetitions kept) per image."""

    classes: list[str]
    images: list[tuple[str, list[str]]]


class _Media(msgspec.Struct):
    path: str = ""


class _Label(msgspec.Struct):
    label_id: int | None = None
    type: str = "label"


class _Item(msgspec.Struct):
    id: str
    image: _Media | None = None
    annotations: list[_Label] = []


class _Name(msgspec.Struct):
    name: str


class _Names(msgspec.Struct):
    labels: list[_Name]


class _Categories(msgspec.Struct):
    label: _Names


class _Datumaro(msgspec.Struct):
    categories: _Categories
    items: list[_Item]


class _Reid(msgspec.Struct):
    classes: list[str | int]
    images: list[tuple[str, list[str | int]]]


def read(
    name: str,
    root: Path,
    *,
    annotations: str | dict[str, str] = "annotations.json",
    images: str = "images",
    exhaustive: bool = True,
    follow_links: bool = False,
) -> RawSource:
    """A source in either format, told apart by its keys. Native ids are image paths (stems collide).

    annotations: file under `root`, or {official split: file}.  images: folder or URI prefix that paths start from.
    exhaustive: whether a class that an image does not list is absent or unknown.
    follow_links: allow images that are symbolic links to other folders.
    Raises SourceError naming file and item.
    """
    folder = image_folder(Path(root), images)
    parts = []
    for split, file in by_split(annotations):
        path = existing_file(Path(root), file, option="annotations")
        parts.append((path, _source(name, path, folder, split, exhaustive=exhaustive, follow_links=follow_links)))
    return concat_sources(parts)


def _source(
    name: str, path: Path, folder: str, split: str | None, *, exhaustive: bool, follow_links: bool
) -> RawSource:
    data = read_labelled_images(path)
    labels_of: dict[str, list[str]] = {}
    relisted = num_relisted_labels = 0
    for image, labels in data.images:
        if set(labels_of.setdefault(image, labels)) != set(labels):
            raise SourceError(f"{path}: image {image!r} is listed twice with different labels. Keep one entry.")
        if labels_of[image] is not labels:
            relisted += 1
            num_relisted_labels += len(labels)
    position = {label: j for j, label in enumerate(data.classes)}
    rows = [i for i, labels in enumerate(labels_of.values()) for _ in labels]
    columns = [position[label] for labels in labels_of.values() for label in labels]
    objects = collapse_objects(
        np.asarray(rows, np.int64),
        np.asarray(columns, np.int64),
        np.full(len(rows), PRESENT, np.int8),
        num_labels=len(data.classes),
    )
    names, places = [[image] for image in labels_of], [str(path)] * len(labels_of)
    uris = image_uris(folder, names, where=str(path), places=places, follow_links=follow_links)
    table = images_table(name, list(labels_of), uris, official_split=split)
    dropped = [("images", relisted, "listed again"), ("labels", num_relisted_labels, "of an image listed again")]
    return RawSource(
        images=table,
        labels=labels_table(table["image_id"], data.classes, objects.present, origin="annotation"),
        coverage=list(data.classes) if exhaustive else [],
        vocabulary={label: label for label in data.classes},
        num_in=[("images", len(data.images)), ("labels", len(rows) + num_relisted_labels)],
        dropped=[*objects.dropped, *(row for row in dropped if row[1])],
    )


# ---------------------------------------------------------------- reading


def read_labelled_images(path: Path) -> LabelledImages:
    """Either format. Raises SourceError naming the item whose label does not exist."""
    data = mapped_bytes(path)
    keys = decode_json(data, dict[str, msgspec.Raw], where=str(path))
    if "items" in keys:
        labelled = _from_datumaro(path, decode_json(data, _Datumaro, where=str(path)))
    elif {"classes", "images"} <= set(keys):
        labelled = _from_reid(path, decode_json(data, _Reid, where=str(path)))
    else:
        raise SourceError(
            f"{path}: neither Datumaro JSON (keys categories, items) nor deep-object-reid JSON (classes, images); "
            f"found {', '.join(sorted(keys)) or 'no key'}."
        )
    if (twice := first_duplicate(labelled.classes)) is not None:
        raise SourceError(f"{path}: class {twice!r} is declared twice. Rename or remove one.")
    return labelled


def _from_datumaro(path: Path, document: _Datumaro) -> LabelledImages:
    classes = [label.name for label in document.categories.label.labels]
    images = []
    for row, item in enumerate(document.items):
        # Datumaro may leave the path out; the file is then named by the id.
        image = item.image.path if item.image and item.image.path else f"{item.id}.jpg"
        ids = [annotation.label_id for annotation in item.annotations if annotation.label_id is not None]
        images.append((image, [_class_at(path, f"items[{row}] (id {item.id!r})", classes, i) for i in ids]))
    return LabelledImages(classes, images)


def _from_reid(path: Path, document: _Reid) -> LabelledImages:
    """Labels are names, or indices where `classes` are names; classes may be numbers themselves (Visual Genome 500)."""
    classes = [str(c) for c in document.classes]
    known = set(document.classes)
    images = []
    for row, (image, given) in enumerate(document.images):
        where = f"images[{row}] ({image!r})"
        labels = []
        for label in given:
            if label in known:
                labels.append(str(label))
            elif isinstance(label, int):
                labels.append(_class_at(path, where, classes, label))
            else:
                raise SourceError(
                    f"{path}: {where}: class {label!r} is not declared. "
                    f"{did_you_mean(label, classes)} Correct it or add it to `classes`."
                )
        images.append((image, labels))
    return LabelledImages(classes, images)


def _class_at(path: Path, where: str, classes: Sequence[str], index: int) -> str:
    if not 0 <= index < len(classes):
        raise SourceError(
            f"{path}: {where}: label {index} does not exist; the file has {len(classes)}, counted from 0."
        )
    return classes[index]


# ---------------------------------------------------------------- writing


def write_datumaro(path: Path, data: LabelledImages) -> None:
    """Write the JSON that OTX reads as multi-label. An item's id is its path without extension.

    Where two paths differ in their extension alone, it is the path itself.
    """
    index = {label: j for j, label in enumerate(data.classes)}
    stems = Counter(PurePosixPath(image).with_suffix("").as_posix() for image, _ in data.images)
    items = [
        {
            "id": stem if stems[stem := PurePosixPath(image).with_suffix("").as_posix()] == 1 else image,
            "image": {"path": image},
            "annotations": [
                {"id": number, "type": "label", "group": 0, "label_id": index[label]}
                for number, label in enumerate(_distinct(labels))
            ],
        }
        for image, labels in data.images
    ]
    groups = [{"name": GROUP_PREFIX + c, "group_type": "exclusive", "labels": [c]} for c in data.classes]
    names = [{"name": c, "parent": "", "attributes": []} for c in data.classes]
    categories = {"label": {"label_groups": groups, "labels": names, "attributes": []}}
    write_text(path, json.dumps({"info": {}, "categories": categories, "items": items}, ensure_ascii=False))


def write_reid(path: Path, data: LabelledImages) -> None:
    """Write deep-object-reid JSON. Its loader sorts the classes, so they are written sorted."""
    images = [[image, _distinct(labels)] for image, labels in data.images]
    write_text(path, json.dumps({"classes": sorted(data.classes), "images": images}, ensure_ascii=False))


def _distinct(labels: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(labels))


# ---------------------------------------------------------------- converting


def _from_coco(path: Path) -> LabelledImages:
    """A COCO file as it stands, crowd regions counted; image paths are its file names."""
    raw = coco.read("", path.parent, annotations=path.name, images=".", match_names=False, follow_links=True)
    if not raw.coverage:
        raise SourceError(
            f"{path}: not exhaustive (LVIS-style negatives); these formats would call unknown labels absent."
        )
    labels_of: dict[str, list[str]] = {image_id: [] for image_id in raw.images["image_id"].to_pylist()}
    for image_id, label in zip(raw.labels["image_id"].to_pylist(), raw.labels["label"].to_pylist(), strict=True):
        labels_of[image_id].append(label)
    prefix = f"{image_folder(path.parent, '.')}/"
    files = [uri.removeprefix(prefix) for uri in raw.images["uri"].to_pylist()]
    return LabelledImages(raw.coverage, list(zip(files, labels_of.values(), strict=True)))


READERS: dict[str, Callable[[Path], LabelledImages]] = {
    "coco": _from_coco,
    "datumaro": read_labelled_images,
    "reid": read_labelled_images,
}
WRITERS: dict[str, Callable[[Path, LabelledImages], None]] = {"datumaro": write_datumaro, "reid": write_reid}


def convert(src_format: str, src: Path, dst_format: str, dst: Path) -> None:
    """Write the annotation file `src` (coco, datumaro, reid) as `dst` (datumaro, reid); images stay where they are.

    Raises SourceError for an unknown format, and for a source with unknown labels, which the targets cannot express.
    """
    for given, known in ((src_format, READERS), (dst_format, WRITERS)):
        if given not in known:
            raise SourceError(f"convert: format {given!r} is unknown here. {did_you_mean(given, known)}")
    if not Path(src).is_file():
        raise SourceError(f"{src}: no such file.")
    WRITERS[dst_format](Path(dst), READERS[src_format](Path(src)))
