"""Looking around in a folder that somebody points at: which files are there, and which pictures their names mean."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from tasks.core.errors import SourceError
from tasks.core.image_suffixes import IMAGE_SUFFIXES
from tasks.core.picture_names import PictureNames
from tasks.core.split_words import SPLIT_WORDS
from tasks.sources.files import csv_header, csv_rows, decode_json, mapped_bytes

DEEPEST = 3  # folders below the one that is looked at
SAMPLE = 50  # image names by which a folder is found


def split_word(name: str) -> str | None:
    """The official split that a name ends in or begins with: val of instances_val2017, train of train-annotations."""
    words = [re.sub(r"\d+$", "", word) for word in re.split(r"[^a-z0-9]+", name.lower())]
    return next((SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS), None)


def files_below(path: Path, suffix: str) -> list[Path]:
    """Files with that suffix in the folder and a few folders below, in order; `path` itself when it is a file."""
    if path.is_file():
        return [path] if path.name.lower().endswith(suffix) else []
    return sorted(Path(d) / n for d, _, names in walk(path) for n in names if n.lower().endswith(suffix))


def walk(root: Path) -> Iterable[tuple[str, list[str], list[str]]]:
    """As os.walk, a few folders deep and without hidden ones."""
    for directory, below, names in os.walk(root):
        depth = len(Path(directory).relative_to(root).parts)
        below[:] = sorted(b for b in below if not b.startswith(".")) if depth < DEEPEST else []
        yield directory, below, names


def image_folder_of(root: Path, names: Sequence[str], split: str | None = None) -> str | None:
    """The folder below `root` in which most of these names are files, relative to it; None where not one is.

    split: of several such folders the one of that official split, e.g. images/Train.
    """
    sample = names[:: max(1, len(names) // SAMPLE)][:SAMPLE]
    best = max(
        (
            (
                sum((Path(d) / n).is_file() for n in sample),
                split is not None and split_word(Path(d).name) == split,
                -len(d),
                d,
            )
            for d, _, _ in walk(root)
        ),
        default=(0, False, 0, ""),
    )
    if best[0]:
        return Path(best[3]).relative_to(root).as_posix()
    # Not as they are written: the reader looks for them in the same way.
    files = [file.relative_to(root).as_posix() for file in pictures_below(root)]
    known = PictureNames.of_files(root.as_posix(), files)
    return "." if any(isinstance(known.find(name), str) for name in sample) else None


def one_or_by_split(files: Sequence[Path], root: Path, *, split_name: Callable[[Path], str]) -> str | dict[str, str]:
    """The one file, or {split: file} by the split word in what `split_name` gives of each."""
    if len(files) == 1:
        return files[0].relative_to(root).as_posix()
    splits = [split_word(split_name(file)) for file in files]
    if None in splits or len(set(splits)) < len(splits):
        names = ", ".join(file.relative_to(root).as_posix() for file in files)
        raise SourceError(f"{root}: {len(files)} annotation files that name no split each: {names}. Point at one file.")
    return {split: file.relative_to(root).as_posix() for split, file in zip(splits, files, strict=True)}


# ---------------------------------------------------------------- what a file is, by its beginning


def json_keys(path: Path) -> set[str]:
    """Keys of a JSON object, or of the first object of a list; none for anything else."""
    for kind in (dict[str, msgspec.Raw], list[dict[str, msgspec.Raw]]):
        try:
            content = decode_json(mapped_bytes(path), kind, where=str(path))
        except SourceError:
            continue
        return set(content if isinstance(content, dict) else content[0] if content else ())
    return set()


def is_list(path: Path) -> bool:
    """Whether a JSON file holds a list."""
    with open(path, "rb") as file:
        return file.read(64).removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"["


def header(path: Path) -> list[str]:
    """Columns of a CSV file; none where it is not readable as one."""
    try:
        return [value.strip() for value in next(csv_rows(path), (0, []))[1]]
    except SourceError:
        return []


def begins_with(path: Path, text: bytes) -> bool:
    """Whether the first bytes of a file hold the text, also as UTF-16."""
    with open(path, "rb") as file:
        return text in file.read(800).replace(b"\0", b"")


def begins_with_object(path: Path) -> bool:
    """Whether a text file begins as YOLO's do: a class number and four coordinates or more."""
    with open(path, encoding="utf-8-sig", errors="replace") as file:
        return bool(re.match(r"\d+(\s+[-\d.e]+){4,}\s*$", file.readline()))


def pictures_below(path: Path) -> list[Path]:
    """Files that are pictures by their names."""
    return [file for suffix in IMAGE_SUFFIXES for file in files_below(path, suffix) if not file.name.startswith(".")]


def puzzles(path: Path) -> list[str]:
    """What lies there and is of no layout, a clause each: what a person would want to know who hoped that it is."""
    clauses = []
    for file in [f for suffix in (".csv", ".tsv", ".txt") for f in files_below(path, suffix)]:
        try:
            columns = next(csv_rows(file), (0, [""]))[1]
            first_is_picture = Path(columns[0].partition(" ")[0]).suffix.lower() in IMAGE_SUFFIXES
            if not first_is_picture:
                csv_header(file, ())
        except SourceError as error:
            clauses.append(str(error).rstrip("."))
            continue
        if first_is_picture:
            clauses.append(f"{file}: its first row is a picture. Put the names of the columns above, e.g. image,label")
        elif file.suffix.lower() != ".txt":
            clauses.append(f"{file}: no column is called image: {', '.join(columns[:6])}")
    for file in [f for suffix in (".json", ".jsonl", ".ndjson") for f in files_below(path, suffix)]:
        try:
            lines = file.suffix.lower() != ".json"
            first = bytes(mapped_bytes(file)).partition(b"\n")[0] if lines else mapped_bytes(file)
            content = decode_json(first, Any, where=str(file))
            keys = content if isinstance(content, dict) else content[0] if content else ()
            clauses.append(f"{file}: JSON of {', '.join(map(str, list(keys)[:6])) or 'nothing'}")
        except (SourceError, TypeError) as error:
            clauses.append(str(error).rstrip("."))
    packed = [f for suffix in (".zip", ".tar", ".gz", ".tgz", ".7z", ".rar") for f in files_below(path, suffix)]
    clauses += [f"{file}: packed. Unpack it first" for file in packed]
    clauses += [f"{file}: a spreadsheet. Save it as CSV" for file in files_below(path, ".xlsx")]
    if path.is_dir() and not clauses:
        clauses.append(f"{len(pictures_below(path))} pictures, and no file of annotations that could be read")
    return clauses
