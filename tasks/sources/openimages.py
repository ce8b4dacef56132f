"""Open Images CSVs: verified image labels, machine labels, boxes, class names, image lists.

Partial labels: people verified some (image, label) pairs as present (Confidence 1) or absent (0). Every other pair is
unknown, so the source covers nothing exhaustively. What a model said enters under an origin of its own and is never
mixed with what people verified.

Columns are found by name, so the official files of V4 to V7 all fit, and so do subsets made of them.
Format: https://storage.googleapis.com/openimages/web/download_v7.html#data-formats.
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
from tasks.core.tables import LABELS
from tasks.sources.files import by_split, check_links, existing_file, image_folder, image_uri
from tasks.sources.openimages_tables import (
    BOX,
    HUMAN,
    MACHINE,
    ImageList,
    Statements,
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
    statements = [
        *(read_image_labels(path, split, HUMAN) for split, path in _files(root, "labels", labels)),
        *(
            read_boxes(path, split, use_group_of=use_group_of, use_depiction=use_depiction)
            for split, path in _files(root, "boxes", boxes)
        ),
        *(read_image_labels(path, split, MACHINE) for split, path in _files(root, "machine_labels", machine_labels)),
    ]
    folders = {split: _Folder.open(image_folder(root, prefix)) for split, prefix in by_split(images) if prefix}
    seen, image_codes = _encode([s.image_ids for s in statements])
    if image_list:
        listed = _one_list(_files(root, "image_list", image_list))
    else:
        listed = _list_from_files(root, seen, statements, image_codes, folders)
    kept = _has_file(listed, folders) if only_existing else np.ones(len(listed.ids), bool)
    listed = listed.filter(kept)
    table = _images_table(name, root, listed, folders)
    for folder in folders.values():
        folder.check_links(table["uri"], follow_links=follow_links)

    vocabulary = dict(
        pair for _, path in _files(root, "classes", classes) for pair in read_class_descriptions(path).items()
    )
    native, label_codes = _encode([s.labels for s in statements])
    vocabulary |= {mid: mid for mid in native.to_pylist() if mid not in vocabulary}
    # Codes count what the files name; positions count the source's images (-1: not one of them) and its vocabulary.
    row_of_code = pc.index_in(seen, value_set=listed.ids).fill_null(-1).to_numpy().astype(np.int64)
    column_of_code = pc.index_in(native, value_set=pa.array(list(vocabulary), pa.string())).to_numpy().astype(np.int64)
    cells = [
        _cells(row_of_code[i], column_of_code[j], len(vocabulary))
        for i, j in zip(image_codes, label_codes, strict=True)
    ]
    label_rows, dropped = _label_rows_by_origin(statements, cells, table["image_id"], list(vocabulary))
    dropped.append(("images", int((~kept).sum()), "no file in the images folder (`only_existing`)"))
    return RawSource(
        images=table,
        labels=label_rows,
        coverage=[],
        vocabulary=vocabulary,
        num_in=[("images", len(kept)), ("labels", sum(s.num_rows for s in statements))],
        dropped=[row for row in dropped if row[1]],
    )


def _files(root: Path, option: str, value: str | Mapping[str, str]) -> list[tuple[str | None, Path]]:
    """(official split, file) pairs of an option; none when it is ""."""
    return [(split, existing_file(root, file, option=option)) for split, file in by_split(value) if file]


# ---------------------------------------------------------------- label rows


def _encode(columns: Sequence[pa.DictionaryArray]) -> tuple[pa.Array, list[np.ndarray]]:
    """Distinct values over all columns in order of appearance, and each column as int32 codes into them."""
    if not columns:
        return pa.array([], pa.string()), []
    unified = pa.chunked_array(columns).unify_dictionaries()
    return unified.chunk(0).dictionary.cast(pa.string()), [chunk.indices.to_numpy() for chunk in unified.chunks]


def _cells(rows: np.ndarray, columns: np.ndarray, num_labels: int) -> np.ndarray:
    """row x C + column, int64, in place of `rows`; -1 where the row is -1."""
    outside = rows < 0
    rows *= num_labels
    rows += columns
    rows[outside] = -1
    return rows


def _label_rows_by_origin(
    statements: Sequence[Statements], cells: Sequence[np.ndarray], image_ids: pa.ChunkedArray, labels: list[str]
) -> tuple[pa.Table, list[tuple[str, int, str]]]:
    """LABELS rows of all files, origin after origin, and ledger rows for what is no row of its own."""
    tables, dropped = [LABELS.empty_table()], [row for s in statements for row in s.dropped]
    for origin in (HUMAN, BOX, MACHINE):
        own = [(c, s.confidences) for c, s in zip(cells, statements, strict=True) if s.origin == origin]
        if own:
            joined = (np.concatenate(parts) if len(parts) > 1 else parts[0] for parts in zip(*own, strict=True))
            rows, gone = _label_rows(origin, image_ids, labels, *joined)
            tables.append(rows)
            dropped += gone
    return pa.concat_tables(tables), dropped


def _label_rows(
    origin: str, image_ids: pa.ChunkedArray, labels: list[str], cells: np.ndarray, confidences: np.ndarray
) -> tuple[pa.Table, list[tuple[str, int, str]]]:
    """LABELS rows of one origin, one per (image, label, state), and ledger rows for the rest.

    cells: int64, image x C + label, -1 for an image that is not in the source.  confidences: float32 in [0, 1]; the
    verdict of a person where origin is `verified`, so 0 is a verified absence; otherwise the label is present.
    """
    inside = cells >= 0
    if not inside.all():
        cells, confidences = cells[inside], confidences[inside]
    if origin == MACHINE:
        order = np.lexsort((confidences, cells))  # the highest confidence of a cell comes last
        last = order[np.diff(cells[order], append=-1) != 0]
        table = labels_table(image_ids, labels, cells[last], confidence=confidences[last], origin=origin)
    else:
        stated = sorted_distinct(cells * 2 + (confidences > 0))
        table = labels_table(image_ids, labels, stated >> 1, state=(stated & 1).astype(np.int8), origin=origin)
    return table, [
        ("labels", len(inside) - len(cells), "of an image that is not in the source (`image_list`, `only_existing`)"),
        ("labels", len(cells) - len(table), "repeats a statement about the same image and label"),
    ]


# ---------------------------------------------------------------- images


@dataclass(frozen=True)
class _Folder:
    """Where image files are: a folder on disk, listed once, or a URI prefix."""

    prefix: str
    files: dict[str, str]  # stem -> file name of what lies directly in it; empty for a URI prefix

    @classmethod
    def open(cls, prefix: str) -> _Folder:
        if "://" in prefix or not os.path.isdir(prefix):
            return cls(prefix, {})
        names = sorted(name for name in os.listdir(prefix) if not name.startswith("."))
        return cls(prefix, {os.path.splitext(name)[0]: name for name in names if "." in name})

    def uri(self, image_id: str) -> str:
        """File of an image: what lies there under its id, else `<id>.jpg`, as Open Images names them."""
        return image_uri(
            self.prefix, self.files.get(image_id, f"{image_id}.jpg"), where=f"{self.prefix}: image id {image_id!r}"
        )

    def check_links(self, uris: pa.ChunkedArray, *, follow_links: bool) -> None:
        own = uris.filter(pc.starts_with(uris, f"{self.prefix}/")).to_pylist()
        check_links(self.prefix, [uri[len(self.prefix) + 1 :] for uri in own], follow_links=follow_links)


def _one_list(files: Sequence[tuple[str | None, Path]]) -> ImageList:
    """Image lists, {split: file}, as one. Raises SourceError when an image occurs twice."""
    joined = ImageList.concat([read_image_list(path, split) for split, path in files])
    where = ", ".join(str(path) for _, path in files)
    counts = pc.value_counts(joined.ids)
    twice = counts.filter(pc.greater(counts.field("counts"), 1))
    if len(twice):
        raise SourceError(f"{where}: ImageID {twice[0]['values'].as_py()!r} occurs twice. Remove one of the rows.")
    return joined


def _list_from_files(
    root: Path,
    seen: pa.Array,
    statements: Sequence[Statements],
    codes_of_files: Sequence[np.ndarray],
    folders: Mapping[str | None, _Folder],
) -> ImageList:
    """The images that label files speak of, and then those that only lie in a folder.

    Raises SourceError when the files of two splits speak of one image.
    """
    names = list(dict.fromkeys([s.split for s in statements] + list(folders)))
    splits = np.full(len(seen), -1, np.int16)
    for statement, codes in zip(statements, codes_of_files, strict=True):
        split = names.index(statement.split)
        clash = codes[(splits[codes] >= 0) & (splits[codes] != split)]
        if clash.size:
            raise SourceError(
                f"{root}: image {seen[clash[0]].as_py()!r} is in the files of two splits, "
                f"{names[splits[clash[0]]]} and {statement.split}. Keep it in one."
            )
        splits[codes] = split
    known = set(seen.to_pylist())
    extra = [(stem, split) for split, folder in folders.items() for stem in folder.files if stem not in known]
    ids = pa.concat_arrays([seen, pa.array([stem for stem, _ in extra], pa.string())])
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


def _has_file(listed: ImageList, folders: Mapping[str | None, _Folder]) -> np.ndarray:
    """bool (N,): whether an image's file lies in its folder."""
    pairs = zip(listed.ids.to_pylist(), listed.splits.to_pylist(), strict=True)
    return np.asarray(
        [bool(f := _folder_of(split, folders)) and image_id in f.files for image_id, split in pairs], bool
    )


def _images_table(name: str, root: Path, listed: ImageList, folders: Mapping[str | None, _Folder]) -> pa.Table:
    """RAW_IMAGES. Raises SourceError for an image without a folder and without an address."""
    uris = []
    for image_id, split, url in zip(*(c.to_pylist() for c in (listed.ids, listed.splits, listed.urls)), strict=True):
        folder = _folder_of(split, folders)
        if folder is None and url is None:
            raise SourceError(
                f"{root}: image {image_id!r} (split {split}) has neither a folder in `images` nor an OriginalURL. "
                "Give it one of them."
            )
        uris.append(folder.uri(image_id) if folder else image_uri("", url, where=f"image {image_id!r}"))
    return images_table(
        name,
        listed.ids,
        uris,
        licence=listed.licences,
        attribution=listed.attributions,
        official_split=listed.splits,
    )
