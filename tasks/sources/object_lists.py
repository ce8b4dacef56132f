"""From the objects that an annotation file lists of each picture to a source: what the readers of such files share.

Tools write boxes, polygons, points or tags; at image level all of them say that something is there. A class that a
picture does not list is absent when the source is exhaustive, unknown otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from tasks.core.errors import SourceError, did_you_mean
from tasks.core.tables import PRESENT, UNKNOWN
from tasks.sources.files import image_uris
from tasks.sources.raw import (
    RawSource,
    collapse_objects,
    first_duplicate,
    images_table,
    labels_table,
    objects_table,
    unknown_table,
)


class Object(NamedTuple):
    """One annotated object, or a tag.

    area: px², NaN where it has none.  state: 1 it counts, 0 it does not, -1 it makes its label unknown on the picture.
    why: code of the reason, where it does not count.
    """

    label: str
    area: float = math.nan
    state: int = PRESENT
    why: int = 0


@dataclass(frozen=True)
class Picture:
    """What is listed of one picture.

    names: what its file may be called, relative to the images folder, the most trusted first.  where: for messages.
    """

    native_id: str
    names: Sequence[str]
    objects: Sequence[Object]
    where: str
    split: str | None = None
    attribution: str | None = None


def source_of(
    name: str,
    folder: str,
    pictures: Sequence[Picture],
    *,
    where: str,
    classes: Sequence[str] | None = None,
    declared: Sequence[str] = (),
    exhaustive: bool = True,
    reasons: Mapping[int, str] | None = None,
    dropped: Sequence[tuple[str, int, str]] = (),
    notes: Sequence[str] = (),
    follow_links: bool = False,
) -> RawSource:
    """The listed pictures as a source.  name: of the source.  folder: of the images.  where: the files, for messages.

    classes: any other is refused; None: those that are `declared` and those that occur.  exhaustive: over the classes.
    reasons: code -> why an object does not count.  dropped: ledger rows of what is in no picture.
    notes: as `RawSource.notes`.
    Raises SourceError naming the picture, or where there is none.
    """
    if not pictures:
        raise SourceError(f"{where}: it lists no picture. Check the source's path and options.")
    if (twice := first_duplicate([picture.native_id for picture in pictures])) is not None:
        again = [picture.where for picture in pictures if picture.native_id == twice]
        raise SourceError(f"{again[1]}: image {twice!r} is listed a second time (first: {again[0]}). Remove one.")
    occurring = {o.label for picture in pictures for o in picture.objects}
    labels = sorted({*declared, *occurring}) if classes is None else list(classes)
    position = {label: j for j, label in enumerate(labels)}
    for picture in pictures:
        if odd := next((o.label for o in picture.objects if o.label not in position), None):
            raise SourceError(f"{picture.where}: class {odd!r} is not in `classes`. {did_you_mean(odd, labels)}")
    rows_O = np.repeat(np.arange(len(pictures)), [len(picture.objects) for picture in pictures])
    objects = [o for picture in pictures for o in picture.objects]
    columns_O = np.asarray([position[o.label] for o in objects], np.int64)
    pairs = collapse_objects(
        rows_O,
        columns_O,
        np.asarray([o.state for o in objects], np.int8),
        num_labels=len(labels),
        reasons=reasons,
        why_O=np.asarray([o.why for o in objects], np.int64),
    )

    places = [picture.where for picture in pictures]
    names = [picture.names for picture in pictures]
    table = images_table(
        name,
        [picture.native_id for picture in pictures],
        image_uris(folder, names, where=where, places=places, follow_links=follow_links),
        attribution=[picture.attribution for picture in pictures],
        official_split=[picture.split for picture in pictures],
    )
    areas_O = np.asarray([o.area for o in objects], np.float64)
    lost = {unit: sum(count for u, count, _ in dropped if u == unit) for unit in ("images", "labels")}
    return RawSource(
        images=table,
        labels=labels_table(table["image_id"], labels, pairs.present, origin="annotation"),
        coverage=labels if exhaustive else [],
        vocabulary={label: label for label in labels},
        unknown=unknown_table(table["image_id"], labels, pairs.unknown) if exhaustive else UNKNOWN.empty_table(),
        objects=objects_table(table["image_id"], labels, rows_O, columns_O, areas_O),
        num_in=[("images", len(pictures) + lost["images"]), ("labels", len(objects) + lost["labels"])],
        dropped=[row for row in [*pairs.dropped, *dropped] if row[1]],
        notes=list(notes),
    )


def of_subset(subset: str | None) -> str | None:
    """An official split's own word; `default` is how CVAT and Datumaro call pictures without one."""
    return None if not subset or subset.strip().lower() == "default" else subset
