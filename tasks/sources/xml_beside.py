"""Pascal VOC's XML beside each picture, without lists: what labelImg and Roboflow's VOC export write.

    <root>/a.jpg, <root>/a.xml                  one folder
    <root>/train/b.jpg, <root>/train/b.xml      or one an official split

The picture of an XML is the one with its name, whatever the file says inside. A picture without an XML has not been
annotated: it is left out and counted. The classes are those that the files name, unless they are declared.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from tasks.core.errors import SourceError, did_you_mean
from tasks.core.image_suffixes import IMAGE_SUFFIXES
from tasks.core.tables import PRESENT
from tasks.sources.files import by_split, check_links
from tasks.sources.raw import (
    RawSource,
    collapse_objects,
    images_table,
    labels_table,
    objects_table,
    state_of,
    unknown_table,
)
from tasks.sources.voc import read_annotation

DIFFICULT = 1


def read(
    name: str,
    root: Path,
    *,
    folders: str | dict[str, str] = ".",
    classes: Sequence[str] | None = None,
    difficult: Literal["unknown", "present", "absent"] = "unknown",
    follow_links: bool = False,
) -> RawSource:
    """XML files beside their pictures; native ids are paths from `root` without suffix.

    folders: one under `root`, or {official split: one}.  classes: exhaustively annotated classes, any other is refused;
    None: those of the files.  difficult: what an object marked so says about its class when it is the only one of it.
    follow_links: allow images that are symbolic links to other folders.
    Raises SourceError naming file and object.
    """
    ids, uris, official, files, alone = [], [], [], [], 0
    for split, folder in by_split(folders):
        place = Path(root) / folder
        if not place.is_dir():
            raise SourceError(f"{place}: no such folder. Check the source's path and option 'folders'.")
        pictures = {p.stem: p.name for p in sorted(place.iterdir()) if p.suffix.lower() in IMAGE_SUFFIXES}
        annotated = sorted(place.glob("*.xml"))
        names = [pictures.get(path.stem, f"{path.stem}.jpg") for path in annotated]
        check_links(place.as_posix(), names, follow_links=follow_links)
        ids += [(Path(folder) / path.stem).as_posix() for path in annotated]
        uris += [f"{place.as_posix()}/{file}" for file in names]
        official += [split] * len(annotated)
        files += [read_annotation(path) for path in annotated]
        alone += len(pictures.keys() - {path.stem for path in annotated})
    if not files:
        raise SourceError(f"{root}: no XML file in {folders}. Check the source's path and option 'folders'.")
    labels = sorted({label for file in files for label, _ in file.objects}) if classes is None else list(classes)
    position = {label: j for j, label in enumerate(labels)}
    rows, columns, states = [], [], []
    for row, file in enumerate(files):
        for label, is_difficult in file.objects:
            if label not in position:
                raise SourceError(
                    f"{root}/{ids[row]}.xml: class {label!r} is not in `classes`. {did_you_mean(label, labels)}"
                )
            rows.append(row)
            columns.append(position[label])
            states.append(state_of(difficult, option="difficult") if is_difficult else PRESENT)
    rows_O, columns_O, states_O = np.asarray(rows, np.int64), np.asarray(columns, np.int64), np.asarray(states, np.int8)
    objects = collapse_objects(
        rows_O,
        columns_O,
        states_O,
        num_labels=len(labels),
        reasons={DIFFICULT: f"difficult object (`difficult: {difficult}`)"},
        why_O=np.full(len(states_O), DIFFICULT),
    )
    table = images_table(name, ids, uris, attribution=[f.attribution for f in files], official_split=official)
    areas_O = np.asarray([area for file in files for area in file.areas], np.float64)
    dropped = [*objects.dropped, ("images", alone, "picture without an annotation file")]
    return RawSource(
        images=table,
        labels=labels_table(table["image_id"], labels, objects.present, origin="annotation"),
        coverage=labels,
        vocabulary={label: label for label in labels},
        unknown=unknown_table(table["image_id"], labels, objects.unknown),
        objects=objects_table(table["image_id"], labels, rows_O, columns_O, areas_O),
        num_in=[("images", len(files) + alone), ("labels", len(states))],
        dropped=[row for row in dropped if row[1]],
    )
