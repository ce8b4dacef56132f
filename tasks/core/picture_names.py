"""Which picture a name means: annotation files, vendors and people write the same picture's name in many ways.

    names = PictureNames.of_images(image_ids, uris)
    names.find("..\\label\\M%C3%BCller.JPG")    # an image id, Ambiguous(candidates), or None

A name is brought to one form first: backslashes, percent-escapes, Unicode composition, drive letters, the query of an
address. Then it is looked for, one step after the other, until a step finds something:

    name      the same file name
    stem      one of the two has no extension, or the extensions are spellings of one format (jpg, jpeg)
    folded    as `name`, in any case; then as `stem`, in any case
    number    stems that are the same whole number: 139, 000139, 139.0

In each step the longest matching end of the path decides. A folder that contradicts is no match: the name has to be an
end of the picture's path, or, where it begins elsewhere (an absolute path, an address, `..`), to end with the picture's
whole path below its source's folder. What two pictures answer to equally well is Ambiguous, never guessed.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile
from typing import NamedTuple
from urllib.parse import unquote

from tasks.core.image_suffixes import IMAGE_SUFFIXES
from tasks.core.split_words import official_split

_FORMATS = {".jpeg": ".jpg", ".jpe": ".jpg", ".jfif": ".jpg", ".tiff": ".tif"}
_FLOAT = re.compile(r"([0-9]+)\.0+")
_NUMBER = re.compile(r"0*([0-9]+)")
_DRIVE = re.compile(r"[A-Za-z]:(?=/)")


@dataclass(frozen=True)
class Ambiguous:
    """A name that several pictures answer to equally well; their keys, sorted."""

    candidates: tuple[str, ...]

    def __str__(self) -> str:
        return ", ".join(self.candidates[:3]) + (", …" if len(self.candidates) > 3 else "")


class _Path(NamedTuple):
    """A name in its one form. elsewhere: it begins at a place of another machine."""

    parts: tuple[str, ...]
    elsewhere: bool = False

    @property
    def base(self) -> str:
        return self.parts[-1]


class _Picture(NamedTuple):
    """One name of a picture. own: how many of its last parts lie below its source's folder; 0 of a bare native id."""

    key: str
    path: _Path
    own: int


class PictureNames:
    """The names of some pictures, to look others' names up in."""

    def __init__(self, pictures: Iterable[tuple[str, str, int]]) -> None:
        """pictures: (key, path, number of last parts below the source's folder, 0 for a native id)."""
        self._given = list(pictures)
        self._indices: dict[str, dict[str, list[_Picture]]] = {}

    @classmethod
    def of_images(cls, image_ids: Sequence[str], uris: Sequence[str]) -> PictureNames:
        """Of the images table; keys are image ids. A source's folder is what all its images' paths begin with."""
        folders: dict[str, list[str]] = {}
        for image_id, uri in zip(image_ids, uris, strict=True):
            source, folder = image_id.partition("/")[0], _parts(uri).parts[:-1]
            common = folders.setdefault(source, list(folder))
            same = (one == other for one, other in zip(common, folder, strict=False))
            del common[len(list(takewhile(bool, same))) :]
        pictures = []
        for image_id, uri in zip(image_ids, uris, strict=True):
            source, _, native_id = image_id.partition("/")
            pictures.append((image_id, uri, len(_parts(uri).parts) - len(folders[source])))
            if "/" not in native_id and not _split(native_id)[1]:
                pictures.append((image_id, native_id, 0))
        return cls(pictures)

    @classmethod
    def of_files(cls, folder: str, files: Iterable[str]) -> PictureNames:
        """Of what lies in a folder; keys are paths from it."""
        return cls((file, f"{folder}/{file}", file.count("/") + 1) for file in files)

    def find(self, name: str) -> str | Ambiguous | None:
        """The key of the picture that `name` means, Ambiguous, or None."""
        if (exact := self._literal.get(name)) is not None:
            return exact if isinstance(exact, str) else Ambiguous(tuple(sorted(exact)))
        if whole := _FLOAT.fullmatch(name):
            return self.find(whole.group(1))
        wanted = _parts(name)
        if not wanted.parts:
            return None
        for step, key_of in _STEPS.items():
            key = key_of(wanted.base)
            candidates = [] if key is None else self._index(step).get(key, [])
            if matched := _best(wanted, candidates, folded=step not in ("name", "stem")):
                return next(iter(matched)) if len(matched) == 1 else Ambiguous(tuple(sorted(matched)))
        return None

    @cached_property
    def _literal(self) -> dict[str, str | set[str]]:
        """Path or native id as given -> key, or keys."""
        literal: dict[str, str | set[str]] = {}
        for key, path, _ in self._given:
            before = literal.setdefault(path, key)
            if before != key:
                literal[path] = {key, *([before] if isinstance(before, str) else before)}
        return literal

    @cached_property
    def _pictures(self) -> list[_Picture]:
        pictures = [_Picture(key, _parts(path), own) for key, path, own in self._given]
        return [picture for picture in pictures if picture.path.parts]

    def _index(self, step: str) -> dict[str, list[_Picture]]:
        """The pictures by what `step` compares; made when the step is first needed."""
        if step not in self._indices:
            index = self._indices[step] = {}
            for picture in self._pictures:
                if (key := _STEPS[step](picture.path.base)) is not None:
                    index.setdefault(key, []).append(picture)
        return self._indices[step]


def _parts(name: str) -> _Path:
    """A name in its one form; what stands before the last `..` is dropped."""
    elsewhere = "://" in name
    if elsewhere:
        name = re.split("[?#]", name.partition("://")[2])[0].partition("/")[2]
    name = unicodedata.normalize("NFC", unquote(name).strip()).replace("\\", "/")
    elsewhere = elsewhere or name.startswith("/") or bool(_DRIVE.match(name))
    parts = [part for part in _DRIVE.sub("", name, count=1).split("/") if part not in ("", ".")]
    if ".." in parts:
        elsewhere, parts = True, parts[len(parts) - parts[::-1].index("..") :]
    return _Path(tuple(parts), elsewhere)


def _split(base: str) -> tuple[str, str]:
    """Stem and image extension; a name without one is all stem."""
    stem, extension = os.path.splitext(base)
    return (stem, extension) if extension.lower() in IMAGE_SUFFIXES else (base, "")


def _number(base: str) -> str | None:
    matched = _NUMBER.fullmatch(_split(base)[0])
    return matched and matched.group(1)


_STEPS: dict[str, Callable[[str], str | None]] = {
    "name": lambda base: base,
    "stem": lambda base: _split(base)[0],
    "folded name": str.casefold,
    "folded stem": lambda base: _split(base)[0].casefold(),
    "number": _number,
}


def _best(wanted: _Path, candidates: Iterable[_Picture], *, folded: bool) -> set[str]:
    """Keys of the candidates that share the longest end with `wanted`, among those that do not contradict it."""
    best, keys = (0, False), set()
    for picture in candidates:
        if (shared := _shared(wanted, picture, folded=folded)) is None:
            continue
        rank = (shared, shared == picture.own)
        if rank > best:
            best, keys = rank, set()
        if rank == best:
            keys.add(picture.key)
    return keys


def _shared(wanted: _Path, picture: _Picture, *, folded: bool) -> int | None:
    """How many last parts `wanted` and the picture's path have in common; None where they contradict each other."""
    extensions = {_FORMATS.get(e, e) for p in (wanted, picture.path) if (e := _split(p.base)[1].lower())}
    if len(extensions) > 1:
        return None
    if not picture.own:  # a native id is no file name and has no folder
        return 1 if len(wanted.parts) == 1 and not _split(wanted.base)[1] else None
    ours, theirs = picture.path.parts[-2::-1], wanted.parts[-2::-1]
    if folded:
        ours, theirs = [part.casefold() for part in ours], [part.casefold() for part in theirs]
    shared = 1
    for one, other in zip(ours, theirs, strict=False):
        if one != other:
            break
        shared += 1
    if shared in (len(wanted.parts), len(picture.path.parts)):
        return shared
    if shared < picture.own + (0 if wanted.elsewhere else 1):
        return None
    # Above the source's folder another machine's folders say nothing, unless they name another part of the data.
    other_split = official_split(theirs[shared - 1])
    return None if other_split and theirs[shared - 1] not in ours else shared
