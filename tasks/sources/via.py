"""VGG Image Annotator 1 and 2: the project, and the annotations exported as JSON or CSV.

    {"a.jpg1234": {"filename": "a.jpg", "regions": [{"region_attributes": {"kind": "cat"}}], "file_attributes": {}}}
    {"_via_img_metadata": {…the same…}}                                                 the project
    filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes

A label is the value of an attribute: of a region, or of the whole file; a check box holds {value: true or false}.
Format: https://www.robots.ox.ac.uk/~vgg/software/via/docs/.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tasks.core.errors import SourceError, did_you_mean
from tasks.sources.files import by_split, csv_records, existing_file, image_folder, read_json
from tasks.sources.object_lists import Object, Picture, source_of
from tasks.sources.raw import RawSource, concat_sources

CSV_COLUMNS = ("filename", "file_attributes", "region_shape_attributes", "region_attributes")
USUAL = ("label", "class", "category", "name", "type", "object", "tag", "labels", "classes", "tags")
"""Attributes that hold the label, where there are others beside."""


class _Region(NamedTuple):
    """A region, or a file of which `shape` is empty."""

    image: str
    where: str
    attributes: Mapping[str, Any]
    shape: Mapping[str, Any]


def read(
    name: str,
    root: Path,
    *,
    annotations: str | dict[str, str] = "via_region_data.json",
    images: str | dict[str, str] = ".",
    attribute: str = "",
    exhaustive: bool = True,
    follow_links: bool = False,
) -> RawSource:
    """A VIA source; native ids are file names, with the split in front where there is a file a split.

    annotations: file under `root`, or {official split: file}.  images: folder or URI prefix, or {official split: one}.
    attribute: the one that holds the label; "": the only one, or the only one that is called label, class, name, …
    exhaustive: whether a value that no region of a picture has is absent, or unknown.
    follow_links: allow images that are symbolic links to other folders.
    Raises SourceError naming file and region.
    """
    folders, parts = dict(by_split(images)), []
    for split, file in by_split(annotations):
        path = existing_file(Path(root), file, option="annotations")
        regions = list(_csv_regions(path) if path.suffix.lower() == ".csv" else _json_regions(path))
        key = attribute or _only_attribute(path, regions)
        objects: dict[str, list[Object]] = {region.image: [] for region in regions}
        for region in regions:
            objects[region.image] += [Object(v, _area(region.shape)) for v in _values(region.attributes.get(key))]
        bare = sum(bool(region.shape) and not _values(region.attributes.get(key)) for region in regions)
        pictures = [
            Picture(f"{split}/{image}" if split else image, [image], own, f"{path}: {image!r}", split)
            for image, own in objects.items()
        ]
        folder = image_folder(Path(root), folders.get(split, folders.get(None, ".")))
        source = source_of(
            name,
            folder,
            pictures,
            where=str(path),
            exhaustive=exhaustive,
            dropped=[("labels", bare, f"region without a value of its attribute {key!r}")],
            follow_links=follow_links,
        )
        parts.append((path, source))
    return concat_sources(parts)


def _json_regions(path: Path) -> Iterator[_Region]:
    """Each file and each of its regions."""
    document = read_json(path)
    document = document.get("_via_img_metadata", document) if isinstance(document, dict) else None
    if not isinstance(document, dict) or not all(isinstance(f, dict) and "filename" in f for f in document.values()):
        raise SourceError(
            f"{path}: no VIA 1 or 2 annotations: files with `filename` and `regions`. Export them as JSON."
        )
    for key, entry in document.items():
        where = f"{path}: {key!r}"
        image = str(entry["filename"])
        yield _Region(image, where, _mapping(entry.get("file_attributes"), where), {})
        regions = entry.get("regions") or []
        for number, region in enumerate(regions.values() if isinstance(regions, dict) else regions):  # VIA 1: a dict
            at = f"{where}: region {number}"
            region = _mapping(region, at)
            attributes, shape = (region.get(part) for part in ("region_attributes", "shape_attributes"))
            yield _Region(image, at, _mapping(attributes, at), _mapping(shape, at))


def _csv_regions(path: Path) -> Iterator[_Region]:
    """The same of an exported table; VIA 1 begins its header with `#`."""
    for line, row in csv_records(path):
        where, row = f"{path}:{line}", {column.lstrip("#"): value for column, value in row.items()}
        if missing := [column for column in CSV_COLUMNS if column not in row]:
            raise SourceError(f"{path}:1: no column '{missing[0]}'. Export the annotations from VIA as CSV.")
        parsed = {}
        for column in CSV_COLUMNS[1:]:
            try:
                parsed[column] = _mapping(json.loads(row[column] or "{}"), where)
            except ValueError as error:
                raise SourceError(f"{where}: {column} is no JSON ({error}). Export the file again.") from error
        yield _Region(row["filename"], where, parsed["file_attributes"], {})
        yield _Region(row["filename"], where, parsed["region_attributes"], parsed["region_shape_attributes"])


def _mapping(value: object, where: str) -> Mapping[str, Any]:
    if not isinstance(value or {}, dict):
        raise SourceError(f"{where}: expected attributes {{name: value}}, found {value!r:.60}. Export the file again.")
    return value or {}


def _only_attribute(path: Path, regions: list[_Region]) -> str:
    """The attribute that holds the label: of regions, else of files. Raises SourceError where it cannot be told.

    VIA itself suggests `caption`, `public_domain` and `image_url` for files.
    """
    of_regions = [region for region in regions if region.shape and region.attributes]
    known = list(dict.fromkeys(key for region in of_regions or regions for key in region.attributes))
    usual = [key for key in known if key.strip().lower() in USUAL]
    chosen = known if len(known) == 1 else usual
    if len(chosen) != 1:
        raise SourceError(
            f"{path}: {'no region has an attribute' if not known else 'several attributes may be the label'}. "
            f"Set the source's option `attribute`. {did_you_mean('label', known)}".rstrip()
        )
    return chosen[0]


def _values(value: object) -> list[str]:
    """Labels of an attribute's value."""
    if isinstance(value, dict):
        return [str(label).strip() for label, checked in value.items() if checked]
    return [part for part in (str(value).strip(),) if part and value is not None]


def _area(shape: Mapping[str, Any]) -> float:
    """Of a rectangle, px²; other shapes have no size here."""
    try:
        return float(shape["width"]) * float(shape["height"])
    except (KeyError, TypeError, ValueError):
        return math.nan
