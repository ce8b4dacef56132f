"""Open Images CSVs: verified image labels, machine labels, boxes, class names, image lists.

Partial labels: people verified some (image, label) pairs as present (Confidence 1) or absent (0). Every other pair is
unknown, so the source covers nothing exhaustively. What a model predicted enters under an origin of its own and is
never mixed with what people verified.

Columns are found by name, so the official files of V4 to V7 all fit, and so do subsets made of them.
Format: https://storage.googleapis.com/openimages/web/download_v7.html#data-formats.

Axes: N images, C source classes, R rows of a label file. A pair is one number, its entry in the N x C matrix:
image position x C + class position.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.core.errors import SourceError
from tasks.core.image_suffixes import IMAGE_SUFFIXES
from tasks.core.tables import LABELS
from tasks.sources.files import by_split, check_links, existing_file, image_folder, image_uri
from tasks.sources.openimages_tables import (
    BOX,
    HUMAN,
    MACHINE,
    ImageList,
    LabelFile,
    read_boxes,
    read_class_descriptions,
    read_image_labels,
    read_image_list,
)
from tasks.sources.raw import RawSource, images_table, labels_table, sorted_distinct


def read(
    name: str,
    root: Path,
    *,
    labels: str | dict[str, str] = "",
    machine_labels: str | dict[str, str] = "",
    boxes: str | dict[str, str] = "",
    use_group_of: bool = True,
    use_depiction: bool = True,
    classes: str = "",
    images: str | dict[str, str] = "images",
    image_list: str | dict[str, str] = "",
    only_existing: bool = False,
    follow_links: bool = False,
) -> RawSource:
    """An Open Images source; files are given relative to `root`, each one file or {official split: file}.

    labels: human-verified image labels.  machine_labels: classifier candidates with fractional confidence.
    boxes: a box makes its label present; `use_group_of`, `use_depiction`: whether boxes marked IsGroupOf (one box
        around a crowd) or IsDepiction (a drawing, a toy) count too. Where they do not, the pair stays unknown.
    classes: class descriptions (machine id, display name), with or without header.
    images: folder or URI prefix, or {official split: one}; "" takes each image from the address in `image_list`.
    image_list: CSV with ImageID and, where known, Subset, OriginalURL, License, Author, OriginalLandingURL. With it the
        source has exactly these images; without it, those of the other files and of the folder.
    only_existing: leave out images whose file is not in the (local) folder: for a downloaded part of the whole.
    follow_links: allow images that are symbolic links to other folders.
    Raises SourceError naming file and row.
    """
    root = Path(root)
    files = [
        *(read_image_labels(path, split, HUMAN) for split, path in _paths(root, "labels", labels)),
        *(
            read_boxes(path, split, use_group_of=use_group_of, use_depiction=use_depiction)
            for split, path in _paths(root, "boxes", boxes)
        ),
        *(read_image_labels(path, split, MACHINE) for split, path in _paths(root, "machine_labels", machine_labels)),
    ]
    folders = {split: _Folder.open(image_folder(root, prefix)) for split, prefix in by_split(images) if prefix}
    labelled_ids, image_codes = _encode([file.image_ids for file in files])
    labelled_classes, class_codes = _encode([file.classes for file in files])

    if image_list:
        candidates = _listed_images(_paths(root, "image_list", image_list))
    else:
        candidates = _images_of_files(root, files, labelled_ids, image_codes, folders)
    kept = _has_file(candidates, folders) if only_existing else np.ones(len(candidates.ids), bool)
    image_rows = candidates.filter(kept)
    table = _images_table(name, root, image_rows, folders)
    for folder in folders.values():
        folder.check_links(table["uri"], follow_links=follow_links)

    vocabulary = _vocabulary(_paths(root, "classes", classes), labelled_classes)
    source_classes = list(vocabulary)
    # Codes count what the label files name; positions count the source's images (-1: not one of them) and its classes.
    image_position = _positions(labelled_ids, among=image_rows.ids)
    class_position = _positions(labelled_classes, among=pa.array(source_classes, pa.string()))
    entries = [
        _entries(image_position[images_R], class_position[classes_R], len(source_classes))
        for images_R, classes_R in zip(image_codes, class_codes, strict=True)
    ]
    label_rows, dropped = _label_rows_by_origin(files, entries, table["image_id"], source_classes)
    namesakes = sum(folder.num_namesakes for folder in folders.values())
    dropped.append(("images", int((~kept).sum()), "no file in the images folder (`only_existing`)"))
    dropped.append(("images", namesakes, "another file of the same stem is the image"))
    return RawSource(
        images=table,
        labels=label_rows,
        coverage=[],
        vocabulary=vocabulary,
        num_in=[("images", len(kept) + namesakes), ("labels", sum(file.num_rows for file in files))],
        dropped=[row for row in dropped if row[1]],
    )


def _paths(root: Path, option: str, value: str | Mapping[str, str]) -> list[tuple[str | None, Path]]:
    """(official split, file) pairs of an option; none when it is ""."""
    return [(split, existing_file(root, file, option=option)) for split, file in by_split(value) if file]


def _vocabulary(descriptions: Sequence[tuple[str | None, Path]], labelled_classes: pa.Array) -> dict[str, str]:
    """Source class -> display name: the described classes, then those that only label files name, as they are."""
    vocabulary = {mid: name for _, path in descriptions for mid, name in read_class_descriptions(path).items()}
    return vocabulary | {mid: mid for mid in labelled_classes.to_pylist() if mid not in vocabulary}


# ---------------------------------------------------------------- label rows


def _encode(columns: Sequence[pa.DictionaryArray]) -> tuple[pa.Array, list[np.ndarray]]:
    """Distinct values over all columns in order of appearance, and each column as int32 codes into them."""
    if not columns:
        return pa.array([], pa.string()), []
    unified = pa.chunked_array(columns).unify_dictionaries()
    return unified.chunk(0).dictionary.cast(pa.string()), [chunk.indices.to_numpy() for chunk in unified.chunks]


def _positions(values: pa.Array, *, among: pa.Array) -> np.ndarray:
    """int64: position of each value in `among`, -1 where it is not there."""
    return pc.index_in(values, value_set=among).fill_null(-1).to_numpy().astype(np.int64)


def _entries(images_R: np.ndarray, classes_R: np.ndarray, num_classes: int) -> np.ndarray:
    """int64 (R,): image position x C + class position, -1 where the image is -1. Takes the place of `images_R`."""
    outside = images_R < 0
    images_R *= num_classes
    images_R += classes_R
    images_R[outside] = -1
    return images_R


def _label_rows_by_origin(
    files: Sequence[LabelFile], entries: Sequence[np.ndarray], image_ids: pa.ChunkedArray, source_classes: list[str]
) -> tuple[pa.Table, list[tuple[str, int, str]]]:
    """LABELS rows of all files, origin after origin, and ledger rows for what is no row of its own.

    entries: one array a file, see `_entries`.
    """
    tables, dropped = [LABELS.empty_table()], [row for file in files for row in file.dropped]
    for origin in (HUMAN, BOX, MACHINE):
        parts = [(part, file.confidences) for part, file in zip(entries, files, strict=True) if file.origin == origin]
        if parts:
            entries_R, confidences_R = (np.concatenate(p) if len(p) > 1 else p[0] for p in zip(*parts, strict=True))
            rows, dropped_rows = _label_rows(origin, image_ids, source_classes, entries_R, confidences_R)
            tables.append(rows)
            dropped += dropped_rows
    return pa.concat_tables(tables), dropped


def _label_rows(
    origin: str, image_ids: pa.ChunkedArray, source_classes: list[str], entries_R: np.ndarray, confidences_R: np.ndarray
) -> tuple[pa.Table, list[tuple[str, int, str]]]:
    """LABELS rows of one origin, one per (image, label, state), and ledger rows for the rest.

    entries_R: int64, -1 for an image that is not in the source.  confidences_R: float32 in [0, 1]; where origin is
    `verified`, 1 is a verified presence and 0 a verified absence; otherwise the label is present.
    """
    inside = entries_R >= 0
    if not inside.all():
        entries_R, confidences_R = entries_R[inside], confidences_R[inside]
    if origin == MACHINE:
        order = np.lexsort((confidences_R, entries_R))  # the highest confidence of an entry comes last
        last = order[np.diff(entries_R[order], append=-1) != 0]
        table = labels_table(image_ids, source_classes, entries_R[last], confidence=confidences_R[last], origin=origin)
    else:
        pairs = sorted_distinct(2 * entries_R + (confidences_R > 0))  # the state in the lowest bit
        table = labels_table(image_ids, source_classes, pairs >> 1, state=(pairs & 1).astype(np.int8), origin=origin)
    num_outside, num_repeated = len(inside) - len(entries_R), len(entries_R) - len(table)
    return table, [
        ("labels", num_outside, "of an image that is not in the source (`image_list`, `only_existing`)"),
        ("labels", num_repeated, "repeats a row about the same image and label"),
    ]


# ---------------------------------------------------------------- images


@dataclass(frozen=True)
class _Folder:
    """Where image files are: a folder on disk, listed once, or a URI prefix."""

    prefix: str
    files: dict[str, str]  # stem -> file name of the images directly in it; empty for a URI prefix
    num_namesakes: int = 0  # further files of a stem, which are no images of the source

    @classmethod
    def open(cls, prefix: str) -> _Folder:
        if "://" in prefix or not os.path.isdir(prefix):
            return cls(prefix, {})
        names = [n for n in os.listdir(prefix) if n[0] != "." and os.path.splitext(n)[1].lower() in IMAGE_SUFFIXES]
        # Of several files of one stem Open Images' own `.jpg` is the image, else the first.
        names.sort(key=lambda name: (not name.lower().endswith(".jpg"), name))
        files = {os.path.splitext(name)[0]: name for name in reversed(names)}
        return cls(prefix, files, len(names) - len(files))

    def uri(self, image_id: str) -> str:
        """File of an image: what lies there under its id, else `<id>.jpg`, as Open Images names them."""
        return image_uri(
            self.prefix, self.files.get(image_id, f"{image_id}.jpg"), where=f"{self.prefix}: image id {image_id!r}"
        )

    def check_links(self, uris: pa.ChunkedArray, *, follow_links: bool) -> None:
        own = uris.filter(pc.starts_with(uris, f"{self.prefix}/")).to_pylist()
        check_links(self.prefix, [uri[len(self.prefix) + 1 :] for uri in own], follow_links=follow_links)


def _listed_images(files: Sequence[tuple[str | None, Path]]) -> ImageList:
    """The images of all image lists. Raises SourceError when an image occurs twice."""
    joined = ImageList.concat([read_image_list(path, split) for split, path in files])
    where = ", ".join(str(path) for _, path in files)
    counts = pc.value_counts(joined.ids)
    twice = counts.filter(pc.greater(counts.field("counts"), 1))
    if len(twice):
        raise SourceError(f"{where}: ImageID {twice[0]['values'].as_py()!r} occurs twice. Remove one of the rows.")
    return joined


def _images_of_files(
    root: Path,
    files: Sequence[LabelFile],
    labelled_ids: pa.Array,
    image_codes: Sequence[np.ndarray],
    folders: Mapping[str | None, _Folder],
) -> ImageList:
    """The images that label files name, and then those that only lie in a folder.

    labelled_ids: distinct ids of all files.  image_codes: positions in them, one array a file.
    Raises SourceError when the files of two splits name one image.
    """
    names = list(dict.fromkeys([file.split for file in files] + list(folders)))
    splits = np.full(len(labelled_ids), -1, np.int16)
    for file, codes in zip(files, image_codes, strict=True):
        split = names.index(file.split)
        clash = codes[(splits[codes] >= 0) & (splits[codes] != split)]
        if clash.size:
            raise SourceError(
                f"{root}: image {labelled_ids[clash[0]].as_py()!r} is in the files of two splits, "
                f"{names[splits[clash[0]]]} and {file.split}. Keep it in one."
            )
        splits[codes] = split
    labelled = set(labelled_ids.to_pylist())
    extra = [(stem, split) for split, folder in folders.items() for stem in folder.files if stem not in labelled]
    ids = pa.concat_arrays([labelled_ids, pa.array([stem for stem, _ in extra], pa.string())])
    split_names = pa.array(names, pa.string())
    return ImageList(
        ids,
        splits=pa.concat_arrays([split_names.take(pa.array(splits)), pa.array([s for _, s in extra], pa.string())]),
        licences=pa.nulls(len(ids), pa.string()),
        attributions=pa.nulls(len(ids), pa.string()),
        urls=pa.nulls(len(ids), pa.string()),
    )


def _folder_of(split: str | None, folders: Mapping[str | None, _Folder]) -> _Folder | None:
    return folders.get(split, folders.get(None))


def _has_file(candidates: ImageList, folders: Mapping[str | None, _Folder]) -> np.ndarray:
    """bool (N,): whether an image's file lies in its folder."""
    pairs = zip(candidates.ids.to_pylist(), candidates.splits.to_pylist(), strict=True)
    return np.asarray(
        [bool(f := _folder_of(split, folders)) and image_id in f.files for image_id, split in pairs], bool
    )


def _images_table(name: str, root: Path, image_rows: ImageList, folders: Mapping[str | None, _Folder]) -> pa.Table:
    """RAW_IMAGES. Raises SourceError for an image without a folder and without an address."""
    uris = []
    columns = (column.to_pylist() for column in (image_rows.ids, image_rows.splits, image_rows.urls))
    for image_id, split, url in zip(*columns, strict=True):
        folder = _folder_of(split, folders)
        if folder is None and url is None:
            raise SourceError(
                f"{root}: image {image_id!r} (split {split}) has neither a folder in `images` nor an OriginalURL. "
                "Give it one of them."
            )
        uris.append(folder.uri(image_id) if folder else image_uri("", url, where=f"image {image_id!r}"))
    return images_table(
        name,
        image_rows.ids,
        uris,
        licence=image_rows.licences,
        attribution=image_rows.attributions,
        official_split=image_rows.splits,
    )
