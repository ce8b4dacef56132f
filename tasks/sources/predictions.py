"""Predictions of a vendor's service or a detector on the images of another source.

    CSV, Parquet    image_id (or image, …), label (or name, …), score (optional)    one row a prediction
    JSON            {image id: [name, …]}, {image id: {name: score}}, or a list of such rows

Predictions are proposals: their origin (`vendor:<name>`, `detector:<name>`) says so, and no stage takes them for
annotations. Source classes stay as the vendor wrote them; mapping lists those that
the taxonomy does not know.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tasks.core.errors import SourceError, did_you_mean
from tasks.sources.files import csv_header, csv_records, existing_file, read_json
from tasks.sources.label_table import IMAGE, folded
from tasks.sources.raw import RAW_IMAGES, RawSource, labels_table, prefixed

LABEL_COLUMNS = ("label", "name", "labelname", "class", "class_name", "category", "tag", "prediction")
SCORE_COLUMNS = ("score", "confidence", "prob", "probability")
"""Columns in lower case, the most trusted first; those of the image are a table's (tasks/sources/label_table.py)."""


def read(name: str, root: Path, *, of: str, origin: str, file: str = "", min_score: float = 0.0) -> RawSource:
    """Predictions on the images of source `of`: no images of its own, one label row per (image, name).

    root: the file, or the folder that holds `file`.  of: source whose images are meant; ids become `<of>/<id>`.
    origin: `vendor:<name>` or `detector:<name>`.  min_score: lower scores are left out; in [0, 1].
    A prediction without a score counts as certain (1.0); of several scores of one name on one image the highest stands.
    Where images are given by file name, `map_labels` matches them (tasks/mapping/image_matching.py).
    Raises SourceError naming file and row for a score outside [0, 1] and for what is not a prediction.
    """
    if not origin.startswith(("vendor:", "detector:")) or origin.endswith(":"):
        raise SourceError(f"{name}: origin is {origin!r}, expected vendor:<name> or detector:<name>.")
    path = existing_file(Path(root), file, option="file") if file else existing_file(Path(root), "", option="path")
    best: dict[tuple[str, str], float] = {}
    num_rows = num_low = 0
    for where, image, label, score in _rows(path):
        num_rows += 1
        score = _score(path, where, score)
        if score < min_score:
            num_low += 1
        elif score >= best.get((image, label), 0.0):
            best[image, label] = score
    images = list(dict.fromkeys(image for image, _ in best))
    labels = sorted({label for _, label in best})
    row, column = {image: i for i, image in enumerate(images)}, {label: j for j, label in enumerate(labels)}
    entries = np.asarray([row[image] * len(labels) + column[label] for image, label in best], np.int64)
    order = np.argsort(entries)
    scores = np.asarray(list(best.values()), np.float32)
    dropped = [
        ("labels", num_low, "score below `min_score`"),
        ("labels", num_rows - num_low - len(best), "repeats a name on the same image"),
    ]
    return RawSource(
        images=RAW_IMAGES.empty_table(),
        labels=labels_table(prefixed(of, images), labels, entries[order], confidence=scores[order], origin=origin),
        coverage=[],
        vocabulary={label: label for label in labels},
        num_in=[("labels", num_rows)],
        dropped=[entry for entry in dropped if entry[1]],
    )


# ---------------------------------------------------------------- file formats


def _rows(path: Path) -> Iterator[tuple[str, str, str, Any]]:
    """(place, image id, name, score or None) of each prediction in the file."""
    suffix = path.suffix.lower()
    if suffix == ".json":
        yield from _json_rows(path)
    elif suffix in (".parquet", ".pq"):
        yield from _parquet_rows(path)
    elif suffix in (".csv", ".txt"):
        yield from _csv_rows(path)
    else:
        raise SourceError(f"{path}: cannot tell the format from '{suffix}'. Use .csv, .json or .parquet.")


def _csv_rows(path: Path) -> Iterator[tuple[str, str, str, Any]]:
    image, label, score = _columns(path, csv_header(path, []))
    for line, values in csv_records(path):
        yield _checked(path, f"line {line}", values[image], values[label], values[score] if score else None)


def _parquet_rows(path: Path) -> Iterator[tuple[str, str, str, Any]]:
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise SourceError(f"{path}: not a readable Parquet file ({error}). Export it again.") from error
    image, label, score = _columns(path, table.column_names)
    scores = table[score].to_pylist() if score else [None] * len(table)
    for number, row in enumerate(zip(table[image].to_pylist(), table[label].to_pylist(), scores, strict=True), start=1):
        yield _checked(path, f"row {number}", *row)


def _columns(path: Path, header: list[str]) -> tuple[str, str, str | None]:
    def pick(names: tuple[str, ...]) -> str | None:
        return next((column for n in names for column in header if folded(column) == n), None)

    image, label = pick(("image_id", *IMAGE)), pick(LABEL_COLUMNS)
    for column, names in ((image, ("image_id", "image")), (label, LABEL_COLUMNS[:2])):
        if column is None:
            raise SourceError(f"{path}: no column {' or '.join(names)}. {did_you_mean(names[0], header)}".rstrip())
    return image, label, pick(SCORE_COLUMNS)


def _json_rows(path: Path) -> Iterator[tuple[str, str, str, Any]]:
    content = read_json(path)
    if isinstance(content, list):
        for number, record in enumerate(content):
            if not isinstance(record, dict):
                raise SourceError(
                    f"{path}: [{number}]: expected an object with image_id and label, found {record!r:.60}."
                )
            image, label, score = _columns(path, list(record))
            yield _checked(path, f"[{number}]", record[image], record[label], record[score] if score else None)
        return
    if not isinstance(content, dict):
        raise SourceError(
            f"{path}: expected an object of images or a list of predictions, found {type(content).__name__}."
        )
    for image, names in content.items():
        if not isinstance(names, list | dict):
            raise SourceError(
                f"{path}: image {image!r}: expected names or {{name: score}}, found {json.dumps(names)[:60]}."
            )
        scores = names.items() if isinstance(names, dict) else ((label, None) for label in names)
        for label, score in scores:
            yield _checked(path, f"image {image!r}", image, label, score)


def _checked(path: Path, where: str, image: Any, label: Any, score: Any) -> tuple[str, str, str, Any]:
    if isinstance(image, int) and not isinstance(image, bool):
        image = str(image)
    for what, value in (("image id", image), ("label", label)):
        if not isinstance(value, str) or not value:
            raise SourceError(f"{path}: {where}: {what} is {value!r}, expected text. Correct or remove it.")
    return where, image, label, score


def _score(path: Path, where: str, score: Any) -> float:
    """A score in [0, 1]; 1.0 where none is given."""
    if score is None:
        return 1.0
    try:
        value = float(score)
    except (TypeError, ValueError):
        raise SourceError(f"{path}: {where}: score {score!r} is no number. Correct it.") from None
    if not 0 <= value <= 1:  # NaN fails too
        hint = "Remove the row"
        if math.isfinite(value):
            hint = "Divide percentages by 100" if 1 < value <= 100 else "Turn logits into probabilities, by a sigmoid"
        raise SourceError(f"{path}: {where}: score {score} is outside [0, 1]. {hint}.")
    return value
