"""Raw files at the door: where they are, whether they parse, and whether the images they name stay inside their folder.

Annotation files come from strangers. A file name in one must not make a later stage open something outside the image
folder: neither by `..` or an absolute path, nor through a symbolic link, nor through a URI that is not remote.
"""

from __future__ import annotations

import codecs
import csv
import logging
import mmap
import os
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec

from tasks.core.errors import SourceError, did_you_mean
from tasks.core.image_suffixes import IMAGE_SUFFIXES
from tasks.core.picture_names import Ambiguous, PictureNames

log = logging.getLogger(__name__)

REMOTE_SCHEMES = frozenset({"http", "https", "s3", "gs", "gcs", "az", "abfs"})
"""URIs that an annotation file may name; `file://` and fsspec's chained `a::b` would reach local files."""

PACKED = {b"\x1f\x8b": "gzip", b"PK\x03\x04": "zip", b"7z\xbc\xaf": "7-Zip", b"Rar!": "RAR", b"BZh": "bzip2"}
"""How packed files begin."""

_UTF8_BOM = b"\xef\xbb\xbf"


# ---------------------------------------------------------------- finding files


def by_split(option: str | Mapping[str, str]) -> list[tuple[str | None, str]]:
    """An option that is one value, or {official split: value}, as (split, value) pairs; one value has split None."""
    return [(None, option)] if isinstance(option, str) else [(str(k), v) for k, v in option.items()]


def existing_file(root: Path, name: str, *, option: str) -> Path:
    """`root / name` if it is a file. Raises SourceError that names the option and the nearest file beside it."""
    path = Path(root) / name
    if path.is_file():
        return path
    if path.is_dir():
        raise SourceError(f"{path}: a folder, but option '{option}' needs a file. Name the file inside it.")
    if not path.parent.is_dir():
        raise SourceError(f"{path}: no such file, and no folder {path.parent}. Check the source's path and '{option}'.")
    siblings = [p.name for p in sorted(path.parent.iterdir()) if p.is_file()]
    raise SourceError(f"{path}: no such file. Check option '{option}'. {did_you_mean(path.name, siblings)}".rstrip())


# ---------------------------------------------------------------- parsing


def mapped_bytes(path: Path) -> memoryview:
    """The bytes of `path` without a byte-order mark, mapped rather than read; `.obj` is the mmap.

    Unmapped when the last view of it (msgspec.Raw values are views) is gone. Raises SourceError when the file is empty.
    """
    with open(path, "rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            raise SourceError(f"{path}: empty file. Fetch or export it again.")
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    _refuse_packed(path, mapped[:4])
    if mapped[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):  # PowerShell's `>` writes it
        raise SourceError(f"{path}: UTF-16 text. Save it as UTF-8.")
    return memoryview(mapped)[len(_UTF8_BOM) if mapped[:3] == _UTF8_BOM else 0 :]


def decode_json(data: Any, kind: Any, *, where: str, key: str = "") -> Any:
    """Decode JSON bytes, the value of `key` in the file `where`, as the msgspec type `kind`.

    Raises SourceError with the place and what was expected there.
    """
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.ValidationError as error:
        message = re.sub(r"`\$\.?", f"`{key}", str(error))  # msgspec calls the root of what it decodes `$`
        raise SourceError(f"{where}: {message}. Correct that value, or export the file again.") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        if (cleaned := _without_nan(data)) is not None:
            return decode_json(cleaned, kind, where=where, key=key)
        raise SourceError(
            f"{where}: not valid JSON: {error}{_excerpt(data, str(error))}. Fetch or export it again."
        ) from error


_TEXT_OR_NAN = re.compile(rb'"(?:[^"\\]|\\.)*"|-?\b(?:NaN|Infinity)\b', re.DOTALL)


def _without_nan(data: Any) -> bytes | None:
    """JSON with null for each NaN and Infinity, which Python's json writes although JSON has none; None without one."""
    cleaned = _TEXT_OR_NAN.sub(lambda token: token.group() if token.group()[:1] == b'"' else b"null", data)
    return cleaned if len(cleaned) != len(data) or cleaned != bytes(data) else None


def _excerpt(data: Any, message: str) -> str:
    """The bytes before the place that msgspec's message names; '' when it names none."""
    if not (place := re.search(r"\(byte (\d+)\)", message)):
        return ""
    at = int(place.group(1))
    return f", after {bytes(memoryview(data)[max(at - 30, 0) : at + 1]).decode('utf-8', 'replace')!r}"


def read_json(path: Path, kind: Any = Any) -> Any:
    """Decode a JSON file as the msgspec type `kind`; a byte-order mark is skipped. Raises SourceError."""
    return decode_json(mapped_bytes(path), kind, where=str(path))


def csv_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """(line number, values) of each non-empty row. Raises SourceError.

    UTF-8, or UTF-16 that begins with its mark; BOM, CRLF and quotes understood. Cut at commas, or where the header has
    none at semicolons or tabs.
    """
    try:
        with open(path, encoding=_text_encoding(path), newline="") as file:
            header = file.readline()
            if declared := re.fullmatch(r"sep=(.)\s*", header):  # Excel's own line above the header
                header = declared.group(1)
            else:
                file.seek(0)
            delimiter = next((sign for sign in ",;\t" if sign in header), ",")
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            for values in reader:
                if any(values):  # spreadsheets leave rows of empty values
                    yield reader.line_num, values
    except UnicodeDecodeError as error:
        raise SourceError(
            f"{path}: not UTF-8 text ({error.reason} at byte {error.start}). Save it as UTF-8."
        ) from error
    except csv.Error as error:
        raise SourceError(
            f"{path}:{reader.line_num}: not valid CSV ({error}). Quote values that hold commas or quotes."
        ) from error


def _text_encoding(path: Path) -> str:
    """UTF-16 where the file begins with its mark or with a letter of two bytes, else UTF-8. Refuses a packed file."""
    with open(path, "rb") as file:
        head = file.read(4)
    _refuse_packed(path, head)
    if head[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        return "utf-16"
    return "utf-16-le" if head[1:2] == b"\0" else "utf-16-be" if head[:1] == b"\0" else "utf-8-sig"


def _refuse_packed(path: Path, head: bytes) -> None:
    for magic, how in PACKED.items():
        if head.startswith(magic) and path.suffix.lower() in (".xlsx", ".xlsm", ".ods", ".numbers"):
            raise SourceError(f"{path}: a spreadsheet's own file. Save the sheet as CSV (UTF-8), and name that file.")
        if head.startswith(magic):
            raise SourceError(f"{path}: packed ({how}). Unpack it first, and name the file that comes out.")


def csv_records(path: Path, required: Collection[str] = ()) -> Iterator[tuple[int, dict[str, str]]]:
    """(line number, {column: value}) of each row below the header. Raises SourceError for a row that is too short."""
    header = csv_header(path, required)
    for number, (line, values) in enumerate(csv_rows(path)):
        if len(values) != len(header):
            raise SourceError(
                f"{path}:{line}: {len(values)} values under {len(header)} columns. Quote values that hold commas."
            )
        if number:
            yield line, dict(zip(header, values, strict=True))


def csv_header(path: Path, required: Collection[str]) -> list[str]:
    """Column names of a CSV file, stripped of blanks. Raises SourceError naming a required column that is missing."""
    first = next(csv_rows(path), None)
    if first is None:
        raise SourceError(f"{path}: empty file. Fetch or export it again.")
    header = [value.strip() for value in first[1]]
    if twice := next((column for column in header if column and header.count(column) > 1), None):
        raise SourceError(f"{path}:1: two columns are called {twice!r}. Rename one.")
    for column in required:
        if column not in header:
            raise SourceError(f"{path}:1: no column '{column}'. {did_you_mean(column, header)} Is this the right file?")
    return header


# ---------------------------------------------------------------- image names that stay where they belong


def image_folder(root: Path, images: str) -> str:
    """The folder or remote prefix that image names are joined to, without a trailing slash."""
    if "://" in images:
        return images.rstrip("/")
    return (Path(root) / images).as_posix()


def image_uri(folder: str, name: str, *, where: str) -> str:
    """`folder/name`, or `name` itself when it is a remote URI.

    Raises SourceError for a name that is empty, absolute, leads out with `..`, or is a URI that is not remote.
    """
    if "://" in name:
        scheme = name.split("://", 1)[0].lower()
        if scheme not in REMOTE_SCHEMES or "::" in name:
            allowed = ", ".join(sorted(REMOTE_SCHEMES))
            raise SourceError(f"{where}: refused image URI {name!r}. Use a file name or one of: {allowed}.")
        return name
    if not name or "\0" in name or name.startswith("/") or (".." in name and ".." in PurePosixPath(name).parts):
        raise SourceError(
            f"{where}: refused image name {name!r}: it must be a path inside {folder}. Correct the entry."
        )
    return f"{folder}/{name}"


def names_on_disk(folder: str, names: Sequence[Sequence[str]], *, where: str) -> list[str]:
    """The file of `folder` that each image means: its first name that lies there, else what one of them matches.

    names: of each image, the most trusted first.  Matching is tasks/core/picture_names.py, inside the folder's own
    listing, so that no name leads out. A file that another image names exactly, or that two match, is nobody's match.
    Where nothing matches, and for a remote folder, the first name stays. Only folders that names lead to are listed,
    the whole tree only when something was not found. Warns, in one line, of names that several files answer to.
    """
    first = [own[0] for own in names]
    if "://" in folder or not os.path.isdir(folder):
        return first
    listings: dict[str, set[str]] = {}

    def lies_there(name: str) -> bool:
        directory, _, base = name.rpartition("/")
        if directory not in listings:
            listings[directory] = _listing(os.path.join(folder, directory))
        return base in listings[directory]

    exact = [next((n for n in own if "://" in n or (_stays_inside(n) and lies_there(n))), None) for own in names]
    if None not in exact:
        return exact
    if not (files := [name for name in _files_below(folder) if _may_be_image(name)]):
        return [name or own for name, own in zip(exact, first, strict=True)]
    known = PictureNames.of_files(folder, files)
    taken, ambiguous = Counter(exact), []
    matches: list[str | None] = []
    for own, name in zip(names, exact, strict=True):
        matched = [] if name else [match for n in own if (match := known.find(n))]
        if matched and isinstance(matched[0], Ambiguous):
            ambiguous.append(f"{own[0]!r} ({matched[0]})")
        matches.append(matched[0] if matched and isinstance(matched[0], str) else None)
    taken.update(matches)
    if ambiguous:
        log.warning("%s: %d image names may be any of several files, e.g. %s", where, len(ambiguous), ambiguous[0])
    return [
        name or (match if match and taken[match] == 1 else own)
        for name, match, own in zip(exact, matches, first, strict=True)
    ]


def _stays_inside(name: str) -> bool:
    return not name.startswith("/") and (".." not in name or ".." not in PurePosixPath(name).parts)


def _listing(directory: str) -> set[str]:
    try:
        return set(os.listdir(directory))
    except OSError:
        return set()


def _may_be_image(name: str) -> bool:
    suffix = os.path.splitext(name)[1].lower()
    return not suffix or suffix in IMAGE_SUFFIXES


def _files_below(folder: str) -> Iterator[str]:
    for directory, _, names in os.walk(folder):
        below = os.path.relpath(directory, folder).replace(os.sep, "/")
        yield from (name if below == "." else f"{below}/{name}" for name in names)


def image_uris(
    folder: str,
    names: Sequence[Sequence[str]],
    *,
    where: str,
    places: Sequence[str],
    match: bool = True,
    follow_links: bool = False,
) -> list[str]:
    """URI of each image by its names, the most trusted first.  where, places: the file, and each image's place in it.

    match: look for what is not there as it is written, see `names_on_disk`; what leads out of the folder is refused
    only where nothing inside answers to it. Raises SourceError, and for links that lead out of the folder.
    """
    matched = names_on_disk(folder, names, where=where) if match else [own[0] for own in names]
    uris = [image_uri(folder, name, where=place) for name, place in zip(matched, places, strict=True)]
    check_links(folder, matched, follow_links=follow_links)
    return uris


def check_links(folder: str, names: Collection[str], *, follow_links: bool) -> None:
    """Refuse images that are symbolic links to a place outside `folder`; warn when the folder is missing.

    Only directories that hold named images are listed, so the cost is one directory listing, not one call per image.
    Raises SourceError naming the link.
    """
    if "://" in folder:
        return
    if not os.path.isdir(folder):
        log.warning("%s: no such folder; its %d images will be quarantined as missing", folder, len(names))
        return
    if follow_links:
        return
    base = os.path.realpath(folder)
    named = set(names)
    for directory in sorted({name.rpartition("/")[0] for name in named if "://" not in name}):
        _refuse_outside(os.path.join(folder, directory), base)
        try:
            entries = os.scandir(os.path.join(folder, directory))
        except OSError:
            continue  # a missing folder or a file in its place: the image pass quarantines what it cannot open
        with entries:
            for entry in entries:
                if entry.is_symlink() and os.path.join(directory, entry.name) in named:
                    _refuse_outside(entry.path, base)


def _refuse_outside(path: str, base: str) -> None:
    target = os.path.realpath(path)
    if os.path.commonpath([target, base]) != base:
        raise SourceError(
            f"{path}: refused: it is a link to {target}, outside {base}. "
            "Copy the file, or set `follow_links: true` if you trust this folder."
        )
