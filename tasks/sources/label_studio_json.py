"""Label Studio's JSON export: choices, taxonomies and labelled regions of each task.

    [{"id": 1, "data": {"image": "/data/upload/1/0a1b2c3d-a.jpg"}, "annotations": [{"result": [
        {"type": "choices", "value": {"choices": ["cat"]}}, {"value": {"rectanglelabels": ["dog"]}}]}]}]

A task without an annotation, or whose annotations were all skipped, is left out and counted. Where several people
annotated a task, a label is present if all of them gave it and unknown if some did. A path of a taxonomy gives each of
its names. JSON-MIN does not tell results from data and is refused. Format: https://labelstud.io/guide/export.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from tasks.core.errors import SourceError
from tasks.core.image_suffixes import IMAGE_SUFFIXES
from tasks.core.label_studio import exported_names, label_paths
from tasks.core.tables import UNKNOWN_STATE
from tasks.sources.files import existing_file, image_folder, read_json
from tasks.sources.object_lists import Object, Picture, source_of
from tasks.sources.raw import RawSource


class _Result(msgspec.Struct):
    value: dict[str, Any] | None = None


class _Annotation(msgspec.Struct):
    result: list[_Result] | None = None
    was_cancelled: bool | None = False


class _Task(msgspec.Struct):
    data: dict[str, Any]
    annotations: list[_Annotation] | None = None


DIFFERS = 1
REASONS = {DIFFERS: "given by some of a task's annotators, not by all"}


def read(
    name: str,
    root: Path,
    *,
    annotations: str = "project.json",
    images: str = ".",
    image_key: str = "",
    exhaustive: bool = True,
    follow_links: bool = False,
) -> RawSource:
    """A Label Studio source; native ids are the tasks' ids.

    annotations: file under `root`.  images: folder or URI prefix that holds the pictures.
    image_key: what `data` calls the picture; "": `image`, or the only value that is a picture's name.
    exhaustive: whether a label that an annotated task lacks is absent, or unknown.
    follow_links: allow images that are symbolic links to other folders.
    Raises SourceError naming file and task.
    """
    path = existing_file(Path(root), annotations, option="annotations")
    tasks = read_json(path)
    if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
        raise SourceError(f"{path}: expected a list of tasks. Export the project from Label Studio as JSON.")
    pictures, num_open = [], 0
    for row, task in enumerate(tasks):
        where = f"{path}: task {task.get('id', row)}"
        data, answers = _task(task, where)
        if not answers:
            num_open += 1
            continue
        given = Counter(label for labels in answers for label in set(labels))
        objects = [
            Object(label) if num == len(answers) else Object(label, state=UNKNOWN_STATE, why=DIFFERS)
            for label, num in sorted(given.items())
        ]
        spelt = exported_names(_image(data, image_key, where))
        names = [*(n.lstrip("/") for n in reversed(spelt) if "://" not in n), *spelt]
        pictures.append(Picture(str(task.get("id", row)), names, objects, where))
    return source_of(
        name,
        image_folder(Path(root), images),
        pictures,
        where=str(path),
        exhaustive=exhaustive,
        reasons=REASONS,
        dropped=[("images", num_open, "task without an annotation")],
        follow_links=follow_links,
    )


def _task(task: Mapping[str, Any], where: str) -> tuple[Mapping[str, Any], list[list[str]]]:
    """A task's data, and the labels of each of its annotations."""
    try:
        given = msgspec.convert(task, _Task)
    except msgspec.ValidationError as error:
        raise SourceError(f"{where}: {error}. Export the project from Label Studio as JSON, not JSON-MIN.") from error
    answers = [
        [label for result in annotation.result or [] for label in _labels(result.value or {}, where)]
        for annotation in given.annotations or []
        if not annotation.was_cancelled
    ]
    return given.data, answers


def _labels(value: Mapping[str, Any], where: str) -> list[str]:
    try:
        return [label.strip() for path in label_paths(value) for label in path]
    except ValueError as error:
        raise SourceError(f"{where}: {error}. Export the project from Label Studio as JSON anew.") from error


def _is_picture(value: object) -> bool:
    return isinstance(value, str) and any(
        value.lower().split("?d=")[-1].split("?")[0].endswith(s) for s in IMAGE_SUFFIXES
    )


def _image(data: Mapping[str, Any], key: str, where: str) -> str:
    """The picture's name in a task's data."""
    if not key:
        names = [key for key, value in data.items() if _is_picture(value)]
        key = "image" if "image" in data else names[0] if len(names) == 1 else ""
    if not isinstance(data.get(key), str) or not data[key]:
        raise SourceError(
            f"{where}: no picture in data ({', '.join(data) or 'empty'}). Set the source's option `image_key`."
        )
    return data[key]
