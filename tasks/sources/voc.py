"""Pascal VOC folders (2007 and 2012 layouts): one XML a picture, splits as lists of ids.

    <root>/Annotations/<id>.xml, <root>/ImageSets/Main/<list>.txt, <root>/JPEGImages/<id>.jpg

All classes are annotated on every image, but objects marked "difficult" are left out of VOC's own evaluation: a
pair with nothing else is unknown by default, exactly the pairs that VOC's class lists mark 0.
Format: Everingham et al., "The PASCAL Visual Object Classes Challenge 2007/2012 Development Kit".
"""

from __future__ import annotations

import codecs
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa

from tasks.core.errors import SourceError, did_you_mean
from tasks.core.tables import PRESENT
from tasks.sources.files import check_links, existing_file, image_folder, image_uri, names_on_disk
from tasks.sources.raw import (
    ObjectPairs,
    RawSource,
    collapse_objects,
    images_table,
    labels_table,
    objects_table,
    state_of,
    unknown_table,
)

VOC_CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog"),
    *("horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
DIFFICULT = 1
STATE_COLUMN = re.compile(r"\s+(-1|0|1)$")
ENCODINGS = {"ansi": "cp1252", "gb2312": "gb18030", "gbk": "gb18030", "unicode": "utf-16"}
"""What a declared encoding is read as: names that Python lacks, and the larger set that holds a smaller one."""
MARKS = {"1": True, "true": True, "0": False, "false": False, "": False, "unspecified": False}
"""`difficult` in lower case; tools that do not ask write `Unspecified`."""


@dataclass(frozen=True)
class Annotation:
    """One XML file. objects: (class, difficult) in its order.  areas: of their boxes, px², NaN without a box."""

    objects: list[tuple[str, bool]]
    areas: list[float]
    file_name: str
    attribution: str | None


def read(
    name: str,
    root: Path,
    *,
    splits: dict[str, str] | None = None,
    classes: Sequence[str] = VOC_CLASSES,
    difficult: Literal["unknown", "present", "absent"] = "unknown",
    annotations: str = "Annotations",
    lists: str = "ImageSets/Main",
    images: str = "JPEGImages",
    follow_links: bool = False,
) -> RawSource:
    """A VOC source; the folders are relative to `root`, e.g. `VOCdevkit/VOC2007`.

    splits: {official split: list}; by default {train: trainval, test: test} where these lists exist, else
        {train: train, val: val}.  classes: exhaustively annotated classes; any other name in the files is refused.
    difficult: what an object marked difficult says about its class when it is the only one of it on the image.
    follow_links: allow images that are symbolic links to other folders.
    Listed ids without an annotation file are left out and counted: nothing is known of them.
    Raises SourceError naming file and object.
    """
    root = Path(root)
    folder = image_folder(root, images)
    ids, official, missing = _listed_ids(root, root / lists, root / annotations, splits)
    files = [read_annotation(root / annotations / f"{image_id}.xml") for image_id in ids]
    names = names_on_disk(
        folder, [_names(i, f) for i, f in zip(ids, files, strict=True)], where=str(root / annotations)
    )
    uris = [image_uri(folder, file, where=f"{root / annotations}/{i}.xml") for i, file in zip(ids, names, strict=True)]
    check_links(folder, names, follow_links=follow_links)

    objects = _collapse(root / annotations, ids, files, classes, difficult)
    credits = [annotation.attribution for annotation in files]
    table = images_table(name, ids, uris, attribution=credits, official_split=official)
    dropped = [*objects.dropped, ("images", missing, "listed, but without an annotation file")]
    return RawSource(
        images=table,
        labels=labels_table(table["image_id"], classes, objects.present, origin="annotation"),
        coverage=list(classes),
        vocabulary={label: label for label in classes},
        unknown=unknown_table(table["image_id"], classes, objects.unknown),
        objects=_sizes(table, classes, files),
        num_in=[("images", len(ids) + missing), ("labels", sum(len(f.objects) for f in files))],
        dropped=[row for row in dropped if row[1]],
    )


def _names(image_id: str, annotation: Annotation) -> list[str]:
    """What an image's file may be called. Tools write all sorts of paths into the file name, and some no extension."""
    adds_the_extension = Path(annotation.file_name).stem == image_id and Path(annotation.file_name).suffix
    own = [annotation.file_name] if adds_the_extension else [f"{image_id}.jpg"]
    return [*own, image_id, *([annotation.file_name] if annotation.file_name else [])]


def _sizes(images: pa.Table, classes: Sequence[str], files: Sequence[Annotation]) -> pa.Table:
    """Largest box of each class on each image; OBJECTS. Classes were checked before."""
    position_of_class = {label: j for j, label in enumerate(classes)}
    rows = np.repeat(np.arange(len(files)), [len(file.objects) for file in files])
    columns = np.asarray([position_of_class[label] for file in files for label, _ in file.objects], np.int64)
    areas = np.asarray([area for file in files for area in file.areas], np.float64)
    return objects_table(images["image_id"], classes, rows, columns, areas)


def _collapse(
    annotations: Path, ids: Sequence[str], files: Sequence[Annotation], classes: Sequence[str], difficult: str
) -> ObjectPairs:
    """Present and unknown pairs of all objects. Raises SourceError for a class that is not declared."""
    position_of_class = {label: j for j, label in enumerate(classes)}
    state = state_of(difficult, option="difficult")
    objects = []
    for row, (image_id, annotation) in enumerate(zip(ids, files, strict=True)):
        for label, is_difficult in annotation.objects:
            if label not in position_of_class:
                raise SourceError(
                    f"{annotations}/{image_id}.xml: class {label!r} is not in `classes`. {did_you_mean(label, classes)}"
                )
            objects.append((row, position_of_class[label], state if is_difficult else PRESENT))
    rows, columns, states = np.asarray(objects, np.int64).reshape(-1, 3).T
    return collapse_objects(
        rows,
        columns,
        states,
        num_labels=len(classes),
        reasons={DIFFICULT: f"difficult object (`difficult: {difficult}`)"},
        why_O=np.full(len(states), DIFFICULT),
    )


# ---------------------------------------------------------------- lists


def _listed_ids(
    root: Path, lists: Path, annotations: Path, splits: dict[str, str] | None
) -> tuple[list[str], list[str], int]:
    """Ids with an annotation file, the official split of each, and the number of listed ids without one."""
    split_of: dict[str, str] = {}
    for split, list_name in _splits(root, lists, splits).items():
        for image_id in _read_list(existing_file(lists, f"{list_name}.txt", option="splits")):
            if image_id in split_of:
                raise SourceError(
                    f"{lists}: id {image_id!r} is listed twice, in {split_of[image_id]} and {split}. "
                    "Set `splits` to lists that do not overlap."
                )
            split_of[image_id] = split
    ids = [image_id for image_id in split_of if (annotations / f"{image_id}.xml").is_file()]
    if not ids:
        raise SourceError(
            f"{annotations}: none of the {len(split_of)} listed ids has an XML file here. Check the option."
        )
    return ids, [split_of[image_id] for image_id in ids], len(split_of) - len(ids)


def _splits(root: Path, lists: Path, splits: dict[str, str] | None) -> dict[str, str]:
    """Official split -> list name."""
    if splits is not None:
        return splits
    if not lists.is_dir():
        beside = sorted(p.parent.parent.name for p in root.glob("*/ImageSets/Main"))
        hint = f" Did you mean the folder {beside[0]!r} inside?" if beside else ""
        raise SourceError(f"{lists}: no such folder.{hint} Point the source at one year, e.g. VOCdevkit/VOC2007.")
    there = {p.stem for p in lists.glob("*.txt")}
    usual = (
        {"train": "trainval", "test": "test"}
        if "trainval" in there
        else {"train": "train", "val": "val", "test": "test"}
    )
    present = {split: list_ for split, list_ in usual.items() if list_ in there}
    if not present:
        raise SourceError(f"{lists}: none of trainval.txt, train.txt, val.txt, test.txt is here. Set `splits`.")
    return present


def _read_list(path: Path) -> list[str]:
    """Ids of a list: the whole line, which may be quoted, or what stands before the 1, -1 or 0 of a class list."""
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise SourceError(f"{path}: not UTF-8 text ({error.reason}). Fetch it again.") from error
    states = all(STATE_COLUMN.search(line) for line in lines)
    ids = [STATE_COLUMN.sub("", line) if states else line for line in lines]
    ids = [i[1:-1] if len(i) > 2 and i[0] == i[-1] == '"' else i for i in ids]
    if not ids:
        raise SourceError(f"{path}: empty file. Fetch it again.")
    for image_id in ids:
        image_uri("Annotations", image_id, where=str(path))  # an id is part of a path: no `..`
    return ids


# ---------------------------------------------------------------- XML


def read_annotation(path: Path) -> Annotation:
    """Objects, file name and owner of one XML file.

    Raises SourceError when it does not parse, declares entities (none of VOC's files does: they serve to exhaust
    memory or to read other files), or holds an object without a name.
    """
    text = _xml_text(path)
    if "<!ENTITY" in text:
        raise SourceError(f"{path}: refused: it declares XML entities. Fetch it from a source you trust.")
    try:
        tree = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise SourceError(f"{path}: not valid XML ({error}). Fetch it again.") from error
    objects, areas = [], []
    for number, node in enumerate(tree.findall("object"), start=1):
        label = (node.findtext("name") or "").strip()
        mark = (node.findtext("difficult") or "0").strip()
        if not label or mark.lower() not in MARKS:
            raise SourceError(
                f"{path}: object {number}: name is {label!r}, difficult is {mark!r}; expected a name and 0 or 1."
            )
        objects.append((label, MARKS[mark.lower()]))
        areas.append(_area(node.find("bndbox")))
    owner = [tree.findtext("owner/name"), tree.findtext("owner/flickrid")]
    credit = ", ".join(text.strip() for text in owner if text and text.strip() not in ("", "?"))
    return Annotation(objects, areas, (tree.findtext("filename") or "").strip(), credit or None)


def _xml_text(path: Path) -> str:
    """The text of an XML file by its byte-order mark or its declaration, without the declaration; UTF-8 by default."""
    data = path.read_bytes()
    declared = re.match(rb"""\s*<\?xml[^>]*?encoding\s*=\s*["']([^"']+)["']""", data)
    encoding = declared.group(1).decode("ascii", "replace").lower() if declared else "utf-8"
    if data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        encoding = "utf-16"
    elif data.startswith(codecs.BOM_UTF8):
        encoding = "utf-8-sig"
    try:
        text = data.decode(ENCODINGS.get(encoding, encoding))
    except LookupError as error:
        raise SourceError(f"{path}: encoding {encoding!r} is unknown. Save the file as UTF-8.") from error
    except UnicodeDecodeError as error:
        raise SourceError(f"{path}: not valid XML: no {encoding} text ({error.reason}). Save it as UTF-8.") from error
    return re.sub(r"^\s*<\?xml.*?\?>", "", text, count=1, flags=re.DOTALL)


def _area(box: ElementTree.Element | None) -> float:
    """Of a bndbox, whose pixel indices count from 1 and include both ends; NaN where it is missing or no box."""
    try:
        left, top, right, bottom = (float(box.findtext(side)) for side in ("xmin", "ymin", "xmax", "ymax"))
    except (AttributeError, TypeError, ValueError):
        return np.nan
    return (right - left + 1) * (bottom - top + 1) if right >= left and bottom >= top else np.nan
