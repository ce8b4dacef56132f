"""Images in folders, and manifests that list them.

    cats/1.jpg, dogs/2.jpg      labels: folders    the first folder of the path is the label; images above it have none
    pool/a.jpg, pool/x/b.jpg    labels: none       an unlabelled pool
    train/cats/1.jpg            labels: folders    where the first folders are all splits, the second is the label
    manifest.csv|.parquet|.jsonl    manifest: FILE a table of images and labels, see tasks/sources/label_table.py
    train/_classes.csv, …       manifest: {train: train/_classes.csv, …}    one a split, its names beside it

In a CSV manifest several labels of one column are separated by `separator`; in Parquet they may be lists. A label that
a row does not name is unknown, unless `exhaustive` says that what is not listed is absent.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa

from tasks.core.errors import SourceError, did_you_mean
from tasks.core.image_suffixes import IMAGE_SUFFIXES
from tasks.core.split_words import official_split
from tasks.core.tables import ABSENT, UNKNOWN
from tasks.sources.files import by_split, existing_file, image_folder, image_uris
from tasks.sources.label_table import LabelledRow, read_label_table
from tasks.sources.raw import RawSource, first_duplicate, images_table, labels_table, unknown_table

log = logging.getLogger(__name__)


def read(
    name: str,
    root: Path,
    *,
    labels: Literal["folders", "none"] = "folders",
    manifest: str | dict[str, str] = "",
    images: str = ".",
    separator: str = "",
    ignore_columns: Sequence[str] = (),
    minus_one: Literal["", "absent", "unknown"] = "",
    exhaustive: bool = False,
    follow_links: bool = False,
) -> RawSource:
    """Images of a folder tree, or of a manifest when one is named. Native ids are paths from the images folder.

    labels: whether the first folder of a path is its label (ignored with a manifest).
    manifest: file under `root`, or {official split: file}; then names start from each file's own folder. Where all
        names of one file begin with a split's folder, and two splits occur, it is their official split.
    images: folder under `root` (or URI prefix, with one manifest).  separator: between labels in a manifest's column;
        "" is `|`.  ignore_columns: columns of the manifest that say nothing about labels.
    minus_one: what -1 says in a column of a class; "": unknown, where 0 occurs as well.
    exhaustive: labels that an image does not have are absent, not unknown.
    follow_links: allow images that are symbolic links to other folders.
    Raises SourceError naming file and row.
    """
    if minus_one not in ("", "absent", "unknown"):
        raise SourceError(f"option 'minus_one' is {minus_one!r}. {did_you_mean(minus_one, ['absent', 'unknown'])}")
    if labels not in ("folders", "none"):
        raise SourceError(f"option 'labels' is {labels!r}. {did_you_mean(str(labels), ['folders', 'none'])}")
    folder = image_folder(Path(root), images)
    if manifest:
        rows, skipped = [], 0
        for split, file in by_split(manifest):
            path = existing_file(Path(root), file, option="manifest")
            listed = read_label_table(path, separator=separator, ignore_columns=ignore_columns, minus_one=minus_one)
            in_split = [_in_split(row, split, Path(file).parent) for row in listed] if split else _by_folder(listed)
            rows += in_split
    else:
        rows, skipped = _tree_rows(folder, labelled=labels == "folders", follow_links=follow_links)
    num_rows, rows = len(rows), list({(row.image, _content(row)): row for row in reversed(rows)}.values())[::-1]
    if (twice := first_duplicate([row.image for row in rows])) is not None:
        where = [row.where for row in rows if row.image == twice]
        raise SourceError(f"{where[1]}: image {twice!r} is listed a second time (first: {where[0]}). Join the rows.")
    names, places = [[row.image] for row in rows], [row.where for row in rows]
    where = f"{root}: {manifest or images}"
    table = images_table(
        name,
        [row.image for row in rows],
        image_uris(folder, names, where=where, places=places, match=bool(manifest), follow_links=follow_links),
        licence=[row.licence for row in rows],
        attribution=[row.attribution for row in rows],
        official_split=[row.split for row in rows],
    )
    vocabulary = sorted({label for row in rows for label in (*row.present, *row.absent, *row.unknown)})
    present, absent, unknown = (_entries(rows, column, vocabulary) for column in ("present", "absent", "unknown"))
    num_labels = sum(len(row.present) + len(row.absent) + len(row.unknown) for row in rows)
    repeats = num_labels - len(present) - len(absent) - len(unknown)
    dropped = [
        ("images", num_rows - len(rows), "repeats a row of the same image"),
        ("images", skipped, f"not an image by its name ({', '.join(IMAGE_SUFFIXES)})"),
        ("labels", repeats, "repeats a label of the same row"),
        ("labels", len(unknown), "listed as unknown"),
    ]
    return RawSource(
        images=table,
        labels=pa.concat_tables(
            [
                labels_table(table["image_id"], vocabulary, present, origin="annotation"),
                labels_table(table["image_id"], vocabulary, absent, state=ABSENT, origin="annotation"),
            ]
        ),
        coverage=vocabulary if exhaustive else [],
        vocabulary={label: label for label in vocabulary},
        unknown=unknown_table(table["image_id"], vocabulary, unknown) if exhaustive else UNKNOWN.empty_table(),
        num_in=[("images", num_rows + skipped), ("labels", num_labels)],
        dropped=[row for row in dropped if row[1]],
        notes=[] if vocabulary or labels == "none" else [f"no image of {len(rows)} has a label"],
    )


def _content(row: LabelledRow) -> str:
    """What makes a row of the same image another one."""
    return repr((sorted(row.present), sorted(row.absent), sorted(row.unknown), row.split))


def _in_split(row: LabelledRow, split: str, beside: Path) -> LabelledRow:
    image = row.image if "://" in row.image else (beside / row.image).as_posix()
    return replace(row, image=image, split=split)


def _by_folder(rows: Sequence[LabelledRow]) -> list[LabelledRow]:
    """Rows with the split that the first folder of each name says, where all of them say one and the table does not."""
    folders = {row.image: row.image.replace("\\", "/").rpartition("/")[0].partition("/")[0] for row in rows}
    splits = {folder: official_split(folder) for folder in set(folders.values())}
    if len(splits) < 2 or not all(splits.values()) or any(row.split for row in rows):
        return list(rows)
    return [replace(row, split=splits[folders[row.image]]) for row in rows]


def _entries(rows: Sequence[LabelledRow], column: str, vocabulary: Sequence[str]) -> np.ndarray:
    """Sorted distinct entries (row x C + label) of one of the three columns."""
    position = {label: j for j, label in enumerate(vocabulary)}
    entries = {i * len(vocabulary) + position[label] for i, row in enumerate(rows) for label in getattr(row, column)}
    return np.asarray(sorted(entries), np.int64)


# ---------------------------------------------------------------- folder tree


def _tree_rows(folder: str, *, labelled: bool, follow_links: bool) -> tuple[list[LabelledRow], int]:
    """A row per image file below `folder` in order of path, and the number of other files. Dot files are passed by."""
    if not os.path.isdir(folder):
        raise SourceError(f"{folder}: no such folder. Check the source's path and option 'images'.")
    paths = []
    for directory, below, names in os.walk(folder, followlinks=follow_links):
        below[:] = [b for b in below if not b.startswith(".")]
        paths += [os.path.relpath(os.path.join(directory, n), folder) for n in names if not n.startswith(".")]
    chosen = sorted(p for p in paths if os.path.splitext(p)[1].lower() in IMAGE_SUFFIXES)
    folders = [path.split(os.sep)[:-1] for path in chosen]
    splits = {first: official_split(first) for first in {below[0] for below in folders if below}}
    by_split = labelled and bool(splits) and all(splits.values()) and (len(splits) > 1 or max(map(len, folders)) > 1)
    if labelled and not by_split and len(known := sorted(first for first, split in splits.items() if split)) > 1:
        log.warning("%s: folders %s are taken for labels, since not all others are splits", folder, ", ".join(known))
    rows = []
    for path, below in zip(chosen, folders, strict=True):
        split = splits[below[0]] if by_split and below else None
        label = below[1:2] if by_split else below[:1]
        rows.append(LabelledRow(f"{folder}/{path}", path, present=label if labelled else [], split=split))
    return rows, len(paths) - len(chosen)
