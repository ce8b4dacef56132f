"""Images in folders, and manifests that list them.

    cats/1.jpg, dogs/2.jpg      labels: folders    the first folder of the path is the label; images above it have none
    pool/a.jpg, pool/x/b.jpg    labels: none       an unlabelled pool
    manifest.csv | .parquet     manifest: FILE     image, present, absent, unknown (+ licence, attribution, split)

In a CSV manifest several labels of one column are separated by `separator`; in Parquet they may be lists. A label in
none of the three columns is unknown, unless `exhaustive` says that what is not listed is absent.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tasks.core.errors import SourceError, did_you_mean
from tasks.core.image_suffixes import IMAGE_SUFFIXES
from tasks.core.tables import ABSENT, UNKNOWN
from tasks.sources.files import check_links, csv_records, existing_file, image_folder, image_uri, names_on_disk
from tasks.sources.raw import RawSource, first_duplicate, images_table, labels_table, unknown_table


@dataclass(frozen=True)
class ManifestRow:
    """One image of a manifest; `where` is its place for messages."""

    where: str
    image: str
    present: Sequence[str] = ()
    absent: Sequence[str] = ()
    unknown: Sequence[str] = ()
    licence: str | None = None
    attribution: str | None = None
    split: str | None = None


def read(
    name: str,
    root: Path,
    *,
    labels: Literal["folders", "none"] = "folders",
    manifest: str = "",
    images: str = ".",
    separator: str = "|",
    exhaustive: bool = False,
    follow_links: bool = False,
) -> RawSource:
    """Images of a folder tree, or of a manifest when one is named. Native ids are paths from the images folder.

    labels: whether the first folder of a path is its label (ignored with a manifest).  manifest: file under `root`.
    images: folder under `root` (or URI prefix, with a manifest).  separator: between labels in a manifest's column.
    exhaustive: labels that an image does not have are absent, not unknown.
    follow_links: allow images that are symbolic links to other folders.
    Raises SourceError naming file and row.
    """
    if labels not in ("folders", "none"):
        raise SourceError(f"option 'labels' is {labels!r}. {did_you_mean(str(labels), ['folders', 'none'])}")
    folder = image_folder(Path(root), images)
    if manifest:
        rows = list(_manifest_rows(existing_file(Path(root), manifest, option="manifest"), separator))
        skipped = 0
    else:
        rows, skipped = _tree_rows(folder, labelled=labels == "folders", follow_links=follow_links)
    if (twice := first_duplicate([row.image for row in rows])) is not None:
        where = [row.where for row in rows if row.image == twice]
        raise SourceError(f"{where[1]}: image {twice!r} is listed a second time (first: {where[0]}). Join the rows.")
    for row in rows:
        image_uri(folder, row.image, where=row.where)
    names = (
        names_on_disk(folder, [[row.image] for row in rows], where=manifest) if manifest else [r.image for r in rows]
    )
    check_links(folder, names, follow_links=follow_links)

    table = images_table(
        name,
        [row.image for row in rows],
        [image_uri(folder, name, where=folder) for name in names],
        licence=[row.licence for row in rows],
        attribution=[row.attribution for row in rows],
        official_split=[row.split for row in rows],
    )
    vocabulary = sorted({label for row in rows for label in (*row.present, *row.absent, *row.unknown)})
    present, absent, unknown = (_entries(rows, column, vocabulary) for column in ("present", "absent", "unknown"))
    num_labels = sum(len(row.present) + len(row.absent) + len(row.unknown) for row in rows)
    repeats = num_labels - len(present) - len(absent) - len(unknown)
    dropped = [
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
        num_in=[("images", len(rows) + skipped), ("labels", num_labels)],
        dropped=[row for row in dropped if row[1]],
    )


def _entries(rows: Sequence[ManifestRow], column: str, vocabulary: Sequence[str]) -> np.ndarray:
    """Sorted distinct entries (row x C + label) of one of the three columns."""
    position = {label: j for j, label in enumerate(vocabulary)}
    entries = {i * len(vocabulary) + position[label] for i, row in enumerate(rows) for label in getattr(row, column)}
    return np.asarray(sorted(entries), np.int64)


# ---------------------------------------------------------------- folder tree


def _tree_rows(folder: str, *, labelled: bool, follow_links: bool) -> tuple[list[ManifestRow], int]:
    """A row per image file below `folder` in order of path, and the number of other files. Dot files are passed by."""
    if not os.path.isdir(folder):
        raise SourceError(f"{folder}: no such folder. Check the source's path and option 'images'.")
    paths = []
    for directory, below, names in os.walk(folder, followlinks=follow_links):
        below[:] = [b for b in below if not b.startswith(".")]
        paths += [os.path.relpath(os.path.join(directory, n), folder) for n in names if not n.startswith(".")]
    chosen = sorted(p for p in paths if os.path.splitext(p)[1].lower() in IMAGE_SUFFIXES)
    rows = []
    for path in chosen:
        label = [path.split(os.sep, 1)[0]] if labelled and os.sep in path else []
        rows.append(ManifestRow(f"{folder}/{path}", path, present=label))
    return rows, len(paths) - len(chosen)


# ---------------------------------------------------------------- manifest


def _manifest_rows(path: Path, separator: str) -> Iterator[ManifestRow]:
    """Rows of a CSV or Parquet manifest. Raises SourceError for a missing column or a label in two states."""
    parquet = path.suffix.lower() in (".parquet", ".pq")
    for number, values in _parquet_rows(path) if parquet else csv_records(path, ["image"]):
        where = f"{path}:{number}"
        image = values.get("image")
        if not isinstance(image, str) or not image:
            raise SourceError(f"{where}: image is {image!r}, expected a path. Correct or remove the row.")
        states = ("present", "absent", "unknown")
        lists = {state: _label_list(where, state, values.get(state), separator) for state in states}
        for one, other in combinations(states, 2):
            if both := set(lists[one]) & set(lists[other]):
                raise SourceError(f"{where}: {min(both)!r} is both {one} and {other}. Keep it in one column.")
        facts = (values.get(column) or None for column in ("licence", "attribution", "split"))
        yield ManifestRow(where, image, *lists.values(), *facts)


def _parquet_rows(path: Path) -> Iterator[tuple[int, dict]]:
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise SourceError(f"{path}: not a readable Parquet file ({error}). Export it again.") from error
    if "image" not in table.column_names:
        raise SourceError(f"{path}: no column 'image'; found {', '.join(table.column_names)}.")
    return enumerate(table.to_pylist(), start=1)


def _label_list(where: str, column: str, value: object, separator: str) -> list[str]:
    """Labels of one value. Blanks around a label are no part of it in CSV."""
    if value is None:
        return []
    if isinstance(value, str):
        return [label for part in value.split(separator) if (label := part.strip())]
    if isinstance(value, list) and all(isinstance(label, str) for label in value):
        return value
    raise SourceError(f"{where}: {column} is {value!r}, expected labels as text. Correct the row.")
