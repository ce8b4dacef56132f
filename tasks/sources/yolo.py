"""YOLO's text files: one a picture, one line an object; class names in a file beside.

    data.yaml               names: [cat, dog] or {0: cat}; path, train, val, test      Ultralytics, Roboflow
    classes.txt, obj.names  or a name a line                                           Label Studio; CVAT, Darknet
    images/train/a.jpg      labels/train/a.txt: `0 0.5 0.5 0.2 0.1`, class first; boxes, polygons, key points alike

The text file of a picture lies in `labels` in place of the last folder `images` of its path, or beside it. A split of
data.yaml is a folder, a text file that lists pictures, or a list of them. The format writes no text file for a picture
without objects, so that one without a file has none; how many these are is said.
Format: https://docs.ultralytics.com/datasets/detect.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from tasks.core.errors import SourceError
from tasks.core.image_suffixes import IMAGE_SUFFIXES
from tasks.sources.files import by_split, existing_file, image_folder
from tasks.sources.object_lists import Object, Picture, source_of
from tasks.sources.raw import RawSource, first_duplicate

SPLITS = ("train", "val", "test")


def read(
    name: str,
    root: Path,
    *,
    names: str = "data.yaml",
    images: str | dict[str, str] = "",
    exhaustive: bool = True,
    follow_links: bool = False,
) -> RawSource:
    """A YOLO source; native ids are paths of the pictures from `root`.

    names: file under `root` with the classes: data.yaml, or text with a class a line.
    images: folder under `root`, or {official split: one}; "": the splits of data.yaml, or all pictures below `root`.
    exhaustive: whether a class without an object on a picture is absent, or unknown.
    follow_links: allow images that are symbolic links to other folders.
    Raises SourceError naming file and line.
    """
    root, file = Path(root), existing_file(Path(root), names, option="names")
    settings, classes = _read_names(file)
    pictures, without, seen = [], [], set()
    num_again = 0
    for split, listed in by_split(images) if images else _splits(root, file, settings):
        for picture in _pictures(root, root / listed, split):
            if picture in seen:  # coco128's data.yaml validates on its training folder
                num_again += 1
                continue
            seen.add(picture)
            path = _label_file(root, picture)
            without += [] if path else [picture]
            objects = _objects(path, classes) if path else []
            pictures.append(Picture(picture, [picture], objects, str(path or root / picture), split))
    if pictures and len(without) == len(pictures):
        raise SourceError(
            f"{file}: none of its {len(pictures)} pictures, e.g. {without[0]}, has a text file of labels."
        )
    note = f"{len(without)} of {len(pictures)} pictures have no text file and count as without objects, e.g. "
    return source_of(
        name,
        image_folder(root, "."),
        pictures,
        where=str(file),
        classes=classes,
        exhaustive=exhaustive,
        dropped=[("images", num_again, "listed again, by another split")],
        notes=[note + without[0]] if without else [],
        follow_links=follow_links,
    )


def _read_names(file: Path) -> tuple[Mapping[str, Any], list[str]]:
    """Settings of data.yaml, {} of a text file; and the classes by number. Raises SourceError."""
    try:
        text = file.read_text(encoding="utf-8-sig")
        settings = yaml_as_text(text) if file.suffix.lower() in (".yaml", ".yml") else {}
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise SourceError(f"{file}: not readable ({str(error).splitlines()[0]}). Save it as UTF-8 YAML.") from error
    if not settings:
        given = [line.strip() for line in text.splitlines() if line.strip()]
        return {}, _checked(file, dict(enumerate(given)))
    given = settings.get("names") if isinstance(settings, dict) else None
    if not isinstance(given, dict | list) or not given:
        raise SourceError(f"{file}: no `names` of the classes. Add them: a list, or a number and a name each.")
    return settings, _checked(file, given if isinstance(given, dict) else dict(enumerate(given)))


def yaml_as_text(text: str) -> Any:
    """YAML of which every value is text: a class may be called `no`, `null` or `1.0`."""
    return yaml.load(text, Loader=yaml.BaseLoader)


def _checked(file: Path, given: Mapping[Any, Any]) -> list[str]:
    try:
        numbered = {int(number): str(label) for number, label in given.items()}
    except (TypeError, ValueError) as error:
        raise SourceError(f"{file}: `names` are not numbered from 0 ({error}). Correct them.") from error
    if sorted(numbered) != list(range(len(given))):
        raise SourceError(f"{file}: `names` are numbered {sorted(numbered)}, expected 0, 1, 2, … Correct them.")
    if (twice := first_duplicate(list(numbered.values()))) is not None:
        raise SourceError(f"{file}: class {twice!r} is named twice. Rename or remove one.")
    return [numbered[number] for number in sorted(numbered)]


# ---------------------------------------------------------------- which pictures


def _splits(root: Path, file: Path, settings: Mapping[str, Any]) -> list[tuple[str | None, str]]:
    """(official split, folder or list of pictures from `root`) as data.yaml says; everything where it says nothing."""
    places = [
        (split, _place(root, file, str(settings.get("path") or ""), str(value), split))
        for split in SPLITS
        if (given := settings.get(split))
        for value in (given if isinstance(given, list) else [given])
    ]
    return places or [(None, ".")]


def _place(root: Path, file: Path, base: str, value: str, split: str) -> str:
    """Where a split lies, from `root`. Roboflow writes `../train/images` for what lies beside its data.yaml."""
    inside = [part for part in PurePosixPath(value.replace("\\", "/")).parts if part not in ("..", ".", "/")]
    # A path of another machine: what is left of it that exists here decides, as in the lists of pictures.
    ends = (folder.joinpath(*inside[start:]) for start in range(len(inside)) for folder in (file.parent, root))
    for place in (file.parent / base / value, file.parent / value, *ends):
        resolved = Path(os.path.normpath(place))
        if resolved.exists() and resolved.is_relative_to(os.path.normpath(root)):
            return resolved.relative_to(os.path.normpath(root)).as_posix()
    raise SourceError(
        f"{file}: {split}: {value!r} is not below {root}. Correct it, or set the source's option `images`."
    )


def _pictures(root: Path, place: Path, split: str | None) -> Iterator[str]:
    """Paths from `root` of the pictures of a folder, or of those that a text file lists."""
    if place.is_dir():
        files = (p for p in sorted(place.rglob("*")) if p.suffix.lower() in IMAGE_SUFFIXES and p.name[0] != ".")
        yield from (p.relative_to(root).as_posix() for p in files)
        return
    if not place.is_file():
        raise SourceError(f"{place}: no such folder or list. Check the source's option `images`.")
    for line in place.read_text(encoding="utf-8-sig").splitlines():
        if line.strip():
            inside = [part for part in PurePosixPath(line.strip()).parts if part not in ("..", ".", "/")]
            # Darknet's lists begin where training was started: what is left of a path that exists here decides.
            ends = (inside[start:] for start in range(len(inside)))
            yield next(("/".join(end) for end in ends if root.joinpath(*end).is_file()), "/".join(inside))


def _label_file(root: Path, picture: str) -> Path | None:
    """The text file of a picture: in `labels` for its last folder `images`, or beside it."""
    path = PurePosixPath(picture)
    folders, places = list(path.parts[:-1]), [root / path]
    if "images" in folders:
        at = len(folders) - 1 - folders[::-1].index("images")
        places.insert(0, root.joinpath(*folders[:at], "labels", *folders[at + 1 :], path.name))
    files = (place.with_suffix(suffix) for place in places for suffix in (".txt", ".TXT"))
    return next((file for file in files if file.is_file()), None)


# ---------------------------------------------------------------- objects


def _objects(path: Path, classes: list[str]) -> list[Object]:
    """Objects of one text file; sizes are shares of the picture, so that none is known in px."""
    objects = []
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), start=1):
        values = line.split()
        if not values:
            continue
        try:
            index = float(values[0])
            [float(value) for value in values[1:]]
        except ValueError as error:
            raise SourceError(f"{path}:{number}: {error}. Expected a class number and coordinates.") from error
        if not index.is_integer() or not 0 <= index < len(classes):
            raise SourceError(f"{path}:{number}: class {values[0]} does not exist; there are {len(classes)} from 0 on.")
        objects.append(Object(classes[int(index)], math.nan))
    return objects
