"""COCO instances JSON, and LVIS's extension of it, as a source."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa

from tasks.core.errors import SourceError, did_you_mean
from tasks.core.tables import ABSENT, PRESENT, UNKNOWN, UNKNOWN_STATE
from tasks.sources.coco_json import Image, Instances, read_instances
from tasks.sources.files import by_split, existing_file, image_folder, image_uris
from tasks.sources.raw import (
    RawSource,
    collapse_objects,
    concat_sources,
    images_table,
    labels_table,
    objects_table,
    sorted_distinct,
    state_of,
    unknown_table,
)

log = logging.getLogger(__name__)

CROWD, SMALL = 1, 2
REASONS = {CROWD: "crowd region that does not count (`crowd`)", SMALL: "object smaller than `min_area`"}


def read(
    name: str,
    root: Path,
    *,
    annotations: str | dict[str, str] = "annotations/instances.json",
    images: str | dict[str, str] = "images",
    crowd: Literal["present", "unknown", "absent"] = "present",
    min_area: float = 0.0,
    exhaustive: bool = True,
    identify_by: Literal["id", "file_name"] = "id",
    match_names: bool = True,
    follow_links: bool = False,
) -> RawSource:
    """A COCO source: every category is annotated exhaustively unless the file or `exhaustive` says otherwise.

    annotations: file under `root`, or {official split: file}.  images: folder or URI prefix, or {official split: one}.
    crowd: what a region marked `iscrowd` says about its label when no single object of that label is on the image.
    min_area: px²; a smaller object does not count; a pair (image, label) with only such objects is unknown, not
        absent.
    exhaustive: whether a category without annotation on an image is absent (as COCO has it) or unknown.
    identify_by: what an image's native id is: its number in the file, or the path of its file from `root`, where each
        split's file counts from 0 (Roboflow).
    match_names: look for an image that is not there as it is written by the rules of tasks/core/picture_names.py.
    follow_links: allow images that are symbolic links to other folders.

    Images without annotations are kept. LVIS: a file whose images have `neg_category_ids` is federated: those
    categories are verified absent, `not_exhaustive_category_ids` change nothing at image level, the rest is unknown.
    Raises SourceError naming file and entry, e.g. an id that no image or category has.
    """
    folders = dict(by_split(images))
    parts = []
    for split, file in by_split(annotations):
        if split not in folders and None not in folders:
            raise SourceError(
                f"{root}: option 'images' has no folder for split '{split}'. {did_you_mean(str(split), folders)}"
            )
        folder = image_folder(root, folders.get(split, folders.get(None)))
        path = existing_file(root, file, option="annotations")
        instances = read_instances(path, with_areas=min_area > 0)
        table = _images(name, path, instances, folder, split, match=match_names, follow_links=follow_links)
        part = _part(path, instances, table, crowd=crowd, min_area=min_area, exhaustive=exhaustive)
        if identify_by == "file_name":
            part = _identified_by_path(name, root, part)
        parts.append((path, part))
    return concat_sources(parts)


def _part(
    path: Path, instances: Instances, table: pa.Table, *, crowd: str, min_area: float, exhaustive: bool
) -> RawSource:
    """One annotation file as a source of its own. table: its RAW_IMAGES."""
    labels = [category.name for category in instances.categories]
    states = np.full(len(instances.images_O), PRESENT, np.int8)
    why = np.zeros(len(states), np.int8)
    states[instances.crowd_O], why[instances.crowd_O] = state_of(crowd, option="crowd"), CROWD
    if instances.areas_O is not None:
        small = instances.areas_O < min_area
        states[small], why[small] = UNKNOWN_STATE, SMALL
    objects = collapse_objects(
        instances.images_O, instances.labels_O, states, num_labels=len(labels), reasons=REASONS, why_O=why
    )
    federated = any(image.neg_category_ids is not None for image in instances.images)
    if federated and exhaustive:
        log.info("%s: LVIS-style negatives: categories count as absent only where an image lists them", path)
    negatives, dropped = _verified_absent(path, instances, objects.present)
    covered = exhaustive and not federated
    return RawSource(
        images=table,
        labels=pa.concat_tables(
            [
                labels_table(table["image_id"], labels, objects.present, origin="annotation"),
                labels_table(table["image_id"], labels, negatives, state=ABSENT, origin="verified"),
            ]
        ),
        coverage=labels if covered else [],
        vocabulary={label: label for label in labels},
        unknown=unknown_table(table["image_id"], labels, objects.unknown) if covered else UNKNOWN.empty_table(),
        objects=objects_table(
            table["image_id"], labels, instances.images_O, instances.labels_O, instances.given_areas_O
        ),
        num_in=[("images", len(table)), ("labels", len(states) + len(negatives) + sum(n for _, n, _ in dropped))],
        dropped=[*objects.dropped, *dropped],
    )


def _identified_by_path(name: str, root: Path, part: RawSource) -> RawSource:
    """The same with `<name>/<path from root>` for each image id."""
    before = part.images["image_id"].to_pylist()
    paths = [uri.removeprefix(f"{Path(root).as_posix()}/") for uri in part.images["uri"].to_pylist()]
    new_of = {old: f"{name}/{path}" for old, path in zip(before, paths, strict=True)}
    tables = {}
    for table in ("images", "labels", "unknown", "objects"):
        rows = getattr(part, table)
        at = rows.schema.get_field_index("image_id")
        ids = pa.array([new_of[old] for old in rows["image_id"].to_pylist()], pa.string())
        tables[table] = rows.set_column(at, rows.schema.field(at), ids)
    return replace(part, **tables)


def _images(
    name: str,
    path: Path,
    instances: Instances,
    folder: str,
    split: str | None,
    *,
    match: bool,
    follow_links: bool,
) -> pa.Table:
    """RAW_IMAGES rows. Licence is its name and address, attribution the address of the original."""
    licences = {
        licence.id: f"{licence.name} ({licence.url})" if licence.url else licence.name for licence in instances.licences
    }
    file, names = str(path), []
    for row, image in enumerate(instances.images):
        if not (file_name := _file_name(image)):
            raise SourceError(
                f"{file}: images[{row}] (id {image.id!r}): no file_name. Add it, relative to the images folder."
            )
        names.append([file_name])
    places = [f"{file}: images[{row}]" for row in range(len(names))]
    return images_table(
        name,
        [str(image.id) for image in instances.images],
        image_uris(folder, names, where=file, places=places, match=match, follow_links=follow_links),
        licence=[licences.get(image.license) for image in instances.images],
        attribution=[image.flickr_url or image.coco_url for image in instances.images],
        official_split=split,
    )


def _file_name(image: Image) -> str:
    """The image's file; LVIS v1 has no file_name, its files are the last two parts of coco_url ("train2017/….jpg")."""
    if image.file_name is not None or image.coco_url is None:
        return image.file_name or ""
    return "/".join(image.coco_url.split("/")[-2:])


def _verified_absent(
    path: Path, instances: Instances, present: np.ndarray
) -> tuple[np.ndarray, list[tuple[str, int, str]]]:
    """Entries (see `labels_table`) listed by LVIS as verified absent, and ledger rows for repeated listings."""
    position_of = {category.id: j for j, category in enumerate(instances.categories)}
    entries = []
    for row, image in enumerate(instances.images):
        for category_id in image.neg_category_ids or ():
            if category_id not in position_of:
                raise SourceError(
                    f"{path}: images[{row}].neg_category_ids: no category has id {category_id!r}. Remove it."
                )
            entries.append(row * len(position_of) + position_of[category_id])
    unique = sorted_distinct(np.asarray(entries, np.int64))
    contradicted = np.intersect1d(unique, present, assume_unique=True)
    dropped = [
        ("labels", len(entries) - len(unique), "repeats a verified absence of the same image"),
        ("labels", len(contradicted), "listed as absent, but an object of it is annotated on the image"),
    ]
    return np.setdiff1d(unique, contradicted, assume_unique=True), [row for row in dropped if row[1]]
