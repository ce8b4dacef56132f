"""Pascal VOC folders: one XML a picture, splits as lists of ids, as the challenge of 2007 and 2012 has them.

    <root>/Annotations/<id>.xml, <root>/ImageSets/Main/<list>.txt, <root>/JPEGImages/<id>.jpg

All classes are annotated on every image, but objects marked "difficult" are left out of VOC's own evaluation: a
pair with nothing else is unknown by default, exactly the pairs that VOC's class lists mark 0. Tools export the same
without lists (Label Studio), or with one list for all (CVAT's default.txt): then every XML is read.
Format: Everingham et al., "The PASCAL Visual Object Classes Challenge 2007/2012 Development Kit".
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np

from tasks.core.errors import SourceError
from tasks.core.image_suffixes import IMAGE_SUFFIXES
from tasks.core.split_words import official_split
from tasks.sources.files import existing_file, image_folder, image_uri
from tasks.sources.object_lists import Object, Picture, source_of
from tasks.sources.raw import RawSource, state_of
from tasks.sources.xml_text import read_xml

VOC_CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog"),
    *("horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
DIFFICULT = 1
LISTS = "ImageSets/Main"
SPLITS = ("train", "val", "test")
STATE_COLUMN = re.compile(r"\s+(-1|0|1)$")
MARKS = {"1": True, "true": True, "0": False, "false": False, "": False, "unspecified": False}
"""`difficult` in lower case; tools that do not ask write `Unspecified`."""

Difficult = Literal["unknown", "present", "absent"]


@dataclass(frozen=True)
class Annotation:
    """One XML file. objects: (class, difficult) in its order.  areas: of their boxes, px², NaN without a box."""

    objects: list[tuple[str, bool]]
    areas: list[float]
    file_name: str
    attribution: str | None

    def listed(self, difficult: Difficult) -> list[Object]:
        """Its objects, with what the option says of a difficult one."""
        state = state_of(difficult, option="difficult")
        return [
            Object(label, area, state, DIFFICULT) if marked else Object(label, area)
            for (label, marked), area in zip(self.objects, self.areas, strict=True)
        ]


def read(
    name: str,
    root: Path,
    *,
    splits: dict[str, str] | None = None,
    classes: Sequence[str] | None = None,
    difficult: Difficult = "unknown",
    annotations: str = "Annotations",
    lists: str = LISTS,
    images: str = "JPEGImages",
    follow_links: bool = False,
) -> RawSource:
    """A VOC source; the folders are relative to `root`, e.g. `VOCdevkit/VOC2007`.

    splits: {official split: list}; by default {train: trainval, test: test} where these lists exist, else
        {train: train, val: val, test: test}, else every XML without a split.
    classes: exhaustively annotated classes, any other is refused; None: VOC's own 20 where the files name no other,
        else those that the files name.
    difficult: what an object marked difficult says about its class when it is the only one of it on the image.
    follow_links: allow images that are symbolic links to other folders.
    Listed ids without an annotation file, and pictures without one where there are no lists, are left out and counted:
    nothing is known of them. Raises SourceError naming file and object.
    """
    root, folder = Path(root), image_folder(Path(root), images)
    split_of, dropped = _ids(root, root / lists, root / annotations, folder, splits)
    pictures = []
    for image_id, split in split_of.items():
        path = xml_of(root / annotations, image_id)
        annotation = read_annotation(path)
        names = _names(image_id, annotation)
        pictures.append(
            Picture(image_id, names, annotation.listed(difficult), str(path), split, annotation.attribution)
        )
    occurring = {o.label for picture in pictures for o in picture.objects}
    if classes is None and occurring <= set(VOC_CLASSES):
        classes = VOC_CLASSES
    return source_of(
        name,
        folder,
        pictures,
        where=str(root / annotations),
        classes=classes,
        reasons=difficult_reasons(difficult),
        dropped=[dropped],
        follow_links=follow_links,
    )


def difficult_reasons(difficult: Difficult) -> dict[int, str]:
    """For `collapse_objects`: why an object marked difficult does not count."""
    return {DIFFICULT: f"difficult object (`difficult: {difficult}`)"}


def _names(image_id: str, annotation: Annotation) -> list[str]:
    """What an image's file may be called. Tools write all sorts of paths into the file name, and some no extension."""
    adds_the_extension = Path(annotation.file_name).stem == image_id and Path(annotation.file_name).suffix
    own = [annotation.file_name] if adds_the_extension else [f"{image_id}.jpg"]
    return [*own, image_id, *([annotation.file_name] if annotation.file_name else [])]


# ---------------------------------------------------------------- lists


def _ids(
    root: Path, lists: Path, annotations: Path, folder: str, splits: dict[str, str] | None
) -> tuple[dict[str, str | None], tuple[str, int, str]]:
    """{id with an annotation file: its official split}, and the ledger row of what has none."""
    chosen = _splits(root, lists, annotations) if splits is None else splits
    if not chosen:
        ids = {path.relative_to(annotations).with_suffix("").as_posix(): None for path in xml_files(annotations)}
        pictures = [p for p in Path(folder).rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES]
        alone = sum(p.relative_to(folder).with_suffix("").as_posix() not in ids for p in pictures)
        return ids, ("images", alone, "picture without an annotation file")
    split_of: dict[str, str | None] = {}
    for split, list_name in chosen.items():
        for image_id in _read_list(existing_file(lists, f"{list_name}.txt", option="splits")):
            if image_id in split_of:
                raise SourceError(
                    f"{lists}: id {image_id!r} is listed twice, in {split_of[image_id]} and {split}. "
                    "Set `splits` to lists that do not overlap."
                )
            split_of[image_id] = split
    there = {image_id: split for image_id, split in split_of.items() if xml_of(annotations, image_id).is_file()}
    if not there:
        raise SourceError(
            f"{annotations}: none of the {len(split_of)} listed ids has an XML file here. Check the option."
        )
    return there, ("images", len(split_of) - len(there), "listed, but without an annotation file")


def xml_files(folder: Path) -> Iterator[Path]:
    """XML files below a folder, in order; hidden ones (macOS' `._a.xml`) are passed by."""
    return (path for path in sorted(folder.rglob("*")) if path.suffix.lower() == ".xml" and path.name[0] != ".")


def xml_of(folder: Path, image_id: str) -> Path:
    """The XML file of an image, which may have its extension in capitals."""
    path = folder / f"{image_id}.xml"
    return path if path.is_file() or not (capitals := path.with_name(f"{path.stem}.XML")).is_file() else capitals


def _splits(root: Path, lists: Path, annotations: Path) -> dict[str, str]:
    """Official split -> list name; {} where there are no lists, or none that bears a split's name."""
    if not lists.is_dir():
        beside = sorted(p.parent.name for p in root.glob("*/Annotations"))
        if not annotations.is_dir() or lists != root / LISTS:
            hint = f" Did you mean the folder {beside[0]!r} inside?" if beside else ""
            raise SourceError(f"{lists}: no such folder.{hint} Point the source at one year, e.g. VOCdevkit/VOC2007.")
        return {}
    there = sorted(p.stem for p in lists.glob("*.txt"))
    of_split = {stem: split for stem in there if (split := official_split(stem))}
    both = next((stem for stem in of_split if stem.lower() == "trainval"), None)
    if both:  # holds the lists train and val
        of_split = {stem: split for stem, split in of_split.items() if split == "test" or stem == both}
    chosen = {split: stem for stem, split in sorted(of_split.items(), key=lambda item: SPLITS.index(item[1]))}
    if len(chosen) < len(of_split):
        raise SourceError(f"{lists}: {', '.join(of_split)}: several lists of one split. Set the option `splits`.")
    return chosen


def _read_list(path: Path) -> list[str]:
    """Ids of a list: the whole line, which may be quoted, or what stands before the 1, -1 or 0 of a class list.

    An image's extension is no part of the id.
    """
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise SourceError(f"{path}: not UTF-8 text ({error.reason}). Fetch it again.") from error
    states = all(STATE_COLUMN.search(line) for line in lines)
    ids = [STATE_COLUMN.sub("", line) if states else line for line in lines]
    ids = [i[1:-1] if len(i) > 2 and i[0] == i[-1] == '"' else i for i in ids]
    ids = [i[: -len(s)] if (s := PurePosixPath(i).suffix).lower() in IMAGE_SUFFIXES else i for i in ids]
    if not ids:
        raise SourceError(f"{path}: empty file. Fetch it again.")
    for image_id in ids:
        image_uri("Annotations", image_id, where=str(path))  # an id is part of a path: no `..`
    return ids


# ---------------------------------------------------------------- XML


def read_annotation(path: Path) -> Annotation:
    """Objects, file name and owner of one XML file. Raises SourceError, also for an object without a name."""
    tree = read_xml(path)
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


def _area(box: ElementTree.Element | None) -> float:
    """Of a bndbox, whose pixel indices count from 1 and include both ends; NaN where it is missing or no box."""
    try:
        left, top, right, bottom = (float(box.findtext(side)) for side in ("xmin", "ymin", "xmax", "ymax"))
    except (AttributeError, TypeError, ValueError):
        return np.nan
    return (right - left + 1) * (bottom - top + 1) if right >= left and bottom >= top else np.nan
