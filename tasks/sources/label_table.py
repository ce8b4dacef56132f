"""Tables that list images and their labels, as people and tools write them: what each column means, row by row.

    image, present, absent, unknown     labels of each state (+ licence, attribution, split)
    image, labels                       also `tags`, `classes`, `categories`: what is present
    image, label                        also `tag`, `class`, `category`: a row a label, rows of one image are joined
    filename, cat, dog, …               a column a class (Roboflow's _classes.csv): 1 present, 0 absent, empty or -1
                                        unknown; only where no column above holds labels
    file_name, objects                  Hugging Face's {"categories": […]} of metadata.jsonl: what is present

CSV, Parquet, or a JSON object a line. fastai's `is_valid` names the split. Where a column holds labels, the place and
size of a box (xmin, width, …) are passed by. Another column that means none of this is refused by name, unless
`ignore_columns` lists it. Columns of classes that hold 1 and -1, never 0, are refused until `minus_one` says whether -1
is absent (CelebA) or unknown.
"""

from __future__ import annotations

import ast
import contextlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, product
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.core.errors import SourceError, did_you_mean
from tasks.sources.files import csv_records, decode_json, mapped_bytes

IMAGE = ("image", "file", "filename", "file_name", "path", "filepath", "file_path", "image_path", "image_name")
IMAGE += ("img", "picture", "photo", "image_id", "imageid", "fname", "image_index")
ONE_A_ROW = ("label", "tag", "class", "category")
SEVERAL_A_ROW = ("present", "labels", "tags", "classes", "categories", "objects", "finding_labels")
FACTS = {
    "licence": ("licence", "license"),
    "attribution": ("attribution", "author", "credit"),
    "split": ("split", "subset", "partition", "set", "is_valid"),
}
IS_VALID = {"true": "val", "1": "val", "false": "train", "0": "train"}
"""What fastai's column `is_valid` says."""
IN_AN_OBJECT = ("categories", "category", "labels", "label")
"""Keys of Hugging Face's `objects` that hold classes; beside them stand boxes."""
STATES = ("present", "absent", "unknown")
BOXES = {
    *("xmin", "ymin", "xmax", "ymax", "x", "y", "w", "h", "x1", "y1", "x2", "y2", "width", "height", "bbox", "area")
}
BOXES |= {*("image_width", "image_height", "bbox_x", "bbox_y", "bbox_width", "bbox_height", "depth", "iscrowd")}
"""Columns of tables that list objects, e.g. TensorFlow's `filename,width,height,class,xmin,ymin,xmax,ymax`."""
MARKS = {
    **dict.fromkeys(("1", "true", "t", "yes", "y"), "present"),
    **dict.fromkeys(("0", "false", "f", "no", "n"), "absent"),
    **dict.fromkeys(("-1", ""), "unknown"),
}
"""What the value in a class's own column says, in any case; `1.0` is `1`."""

NOTHING = ("nan", "NaN", "<NA>", "N/A", "#N/A", "null", "NULL")
"""How pandas, spreadsheets and databases write an empty value."""


@dataclass(frozen=True)
class LabelledRow:
    """One image of a table; `where` is its place for messages."""

    where: str
    image: str
    present: Sequence[str] = ()
    absent: Sequence[str] = ()
    unknown: Sequence[str] = ()
    licence: str | None = None
    attribution: str | None = None
    split: str | None = None


@dataclass(frozen=True)
class _Columns:
    """Which column holds what. classes: those with a column of their own."""

    image: str
    states: dict[str, str]
    facts: dict[str, str]
    classes: list[str]
    joins: bool  # rows of one image belong together


def read_label_table(
    path: Path, *, separator: str, ignore_columns: Collection[str], minus_one: str = ""
) -> list[LabelledRow]:
    """Rows of a CSV or Parquet table, or of JSON lines.

    separator: between the labels of one value; "" is `|`, and then a value that seems to hold another one is refused.
    minus_one: what -1 says in a class's column; "": unknown, where 0 occurs as well.
    Raises SourceError for a column that is missing or means nothing, and for a label in two states.
    """
    read = READERS.get(path.suffix.lower(), csv_records)
    records = [(f"{path}:{number}", row) for number, row in read(path)]
    header = list(records[0][1]) if records else []
    columns = _columns(path, header, records, ignore_columns) if records else None
    marks = MARKS | {"-1": minus_one or "unknown"}
    if columns and not minus_one:
        _check_minus_one(path, records, columns.classes)
    rows = [_row(where, values, columns, separator or "|", marks) for where, values in records]
    if read is csv_records and columns:
        _check_separator(rows, separator)
    return _joined(rows) if columns and columns.joins else rows


def _parquet_rows(path: Path) -> Iterator[tuple[int, dict]]:
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise SourceError(f"{path}: not a readable Parquet file ({error}). Export it again.") from error
    return enumerate(table.to_pylist(), start=1)


def _json_rows(path: Path) -> Iterator[tuple[int, dict]]:
    """A JSON object a line, all with the keys of all; numbers as text, since a class may be one."""
    lines = [(number, line) for number, line in enumerate(bytes(mapped_bytes(path)).split(b"\n"), 1) if line.strip()]
    rows = [(number, decode_json(line, dict[str, Any], where=f"{path}:{number}")) for number, line in lines]
    keys = list(dict.fromkeys(key for _, row in rows for key in row))
    return ((number, {key: _as_text(row.get(key)) for key in keys}) for number, row in rows)


def _as_text(value: object) -> object:
    if isinstance(value, list):
        return [_as_text(part) for part in value]
    if isinstance(value, dict):
        return {key: _as_text(part) for key, part in value.items()}
    return value if value is None or isinstance(value, str) else str(value)


READERS = {".parquet": _parquet_rows, ".pq": _parquet_rows, ".jsonl": _json_rows, ".ndjson": _json_rows}
"""By suffix; anything else is CSV."""


# ---------------------------------------------------------------- what a table seems to be


def means_images(path: Path) -> bool:
    """Whether a table has a column of images."""
    try:
        _, first = next(iter(READERS.get(path.suffix.lower(), csv_records)(path)))
    except (SourceError, StopIteration):
        return False
    return any(folded(column) in IMAGE for column in first)


def labels_seem_apart(paths: Sequence[Path]) -> str:
    """The separator by which labels of these tables come apart into few that recur; "" where none does, or the usual.

    There have to be no more parts than values, for blanks fewer: `hot dog` is one label.
    """
    values: set[str] = set()
    for path in paths:
        for _, row in READERS.get(path.suffix.lower(), csv_records)(path):
            for column, value in row.items():
                if isinstance(value, str) and value.strip() and folded(column) in (*SEVERAL_A_ROW, *ONE_A_ROW):
                    values.add(value.strip())
    for separator in ("|", ",", ";", " "):
        parts = {part.strip() for value in values for part in value.split(separator)}
        if any(separator in v for v in values) and len(parts) < len(values) + (separator != " "):
            return separator.removeprefix("|")
    return ""


# ---------------------------------------------------------------- columns


def folded(column: str) -> str:
    """A column's name without case and blanks."""
    return column.strip().casefold().replace(" ", "_")


def _columns(path: Path, header: Sequence[str], records: Sequence, ignore: Collection[str]) -> _Columns:
    """What each column holds. Raises SourceError naming one that is missing, doubled or unknown."""
    if missing := [name for name in ignore if name not in header]:
        raise SourceError(f"{path}:1: option 'ignore_columns': no column {missing[0]!r}. Columns: {', '.join(header)}.")
    plain = {name: folded(name) for name in header if name not in ignore}

    def pick(names: Sequence[str], what: str) -> str | None:
        matched = [column for column, spelt in plain.items() if spelt in names]
        if len(matched) > 1:
            exact = [column for column in matched if column == names[0]]
            if len(exact) != 1:
                raise SourceError(
                    f"{path}:1: columns {matched[0]!r} and {matched[1]!r} may both be the {what}. "
                    "List the other one under `ignore_columns`."
                )
            matched = exact
        return matched[0] if matched else None

    image = pick(IMAGE, "image")
    if image is None:
        raise SourceError(f"{path}:1: no column 'image'. {did_you_mean('image', header)} Is this the right file?")
    one = pick(ONE_A_ROW, "label")
    several = pick(SEVERAL_A_ROW, "labels")
    if one and several:
        raise SourceError(
            f"{path}:1: columns {several!r} and {one!r} may both be the labels. List one under `ignore_columns`."
        )
    states = {
        "present": one or several,
        "absent": pick(("absent",), "absent"),
        "unknown": pick(("unknown",), "unknown"),
    }
    states = {state: column for state, column in states.items() if column}
    facts = {fact: column for fact, names in FACTS.items() if (column := pick(names, fact))}
    others = [c for c in plain if c not in {image, *states.values(), *facts.values()}]
    others = [c for c in others if not _says_nothing(c, [values[c] for _, values in records])]
    if states:
        others = [c for c in others if plain[c] not in BOXES]
    odd = {c: next(((w, v[c]) for w, v in records if _mark(v[c]) is None), None) for c in others}
    if meaningless := [c for c in others if states or odd[c]]:
        first = meaningless[0]
        holds = f" (it holds {odd[first][1]!r}, {odd[first][0]})" if odd[first] else ""
        near = did_you_mean(first, [*IMAGE, *ONE_A_ROW, *SEVERAL_A_ROW, *STATES, *FACTS], most=1)
        raise SourceError(
            f"{path}:1: column {first!r} means nothing here{holds}. "
            f"{near if near.startswith('Did') else 'Columns of classes hold 1, 0, -1 or nothing.'} Rename it, or list "
            f"it under the source's option `ignore_columns: [{', '.join(meaningless)}]`."
        )
    return _Columns(image, states, facts, others, joins=one is not None)


def _says_nothing(column: str, values: Sequence[object]) -> bool:
    """Whether it has no name and no value, as spreadsheets leave some, or is the index of pandas: 0, 1, 2, …"""
    unnamed = not column or column.startswith("Unnamed:") or column == "__index_level_0__"
    texts = [str(value).strip() for value in values]
    return unnamed and (not any(texts) or texts == [str(n) for n in range(len(values))])


def _mark(value: object, marks: Mapping[str, str] = MARKS) -> str | None:
    """What a value in a class's own column says; None when it is no such value."""
    if value is None or value != value or value in NOTHING:
        return "unknown"
    return marks.get(_text(value))


def _text(value: object) -> str:
    return str(value).strip().lower().removesuffix(".0")


def _check_minus_one(path: Path, records: Sequence, classes: Sequence[str]) -> None:
    """Refuse a table of which nobody can tell whether its -1 is absent or unknown."""
    values = {_text(row[c]) for _, row in records for c in classes}
    if "-1" in values and not any(_mark(value) == "absent" for value in values):
        raise SourceError(
            f"{path}:1: columns of classes hold 1 and -1, never 0. "
            "Set the source's option `minus_one: absent` (as CelebA means it) or `minus_one: unknown`."
        )


# ---------------------------------------------------------------- rows


def _row(where: str, values: Mapping, columns: _Columns, separator: str, marks: Mapping[str, str]) -> LabelledRow:
    image = values[columns.image]
    image = str(image) if isinstance(image, int) and not isinstance(image, bool) else image
    if not isinstance(image, str) or not image:
        raise SourceError(f"{where}: image is {image!r}, expected a path. Correct or remove the row.")
    lists = {state: _labels(where, state, values.get(columns.states.get(state)), separator) for state in STATES}
    for label in columns.classes:
        lists[_mark(values[label], marks)].append(label)
    for one, other in combinations(STATES, 2):
        if both := set(lists[one]) & set(lists[other]):
            raise SourceError(f"{where}: {min(both)!r} is both {one} and {other}. Keep it in one column.")
    facts = {fact: None if values[c] in (None, "") else str(values[c]) for fact, c in columns.facts.items()}
    facts = {fact: None if value in NOTHING else value for fact, value in facts.items()}
    if facts.get("split") and columns.facts["split"].strip().casefold() == "is_valid":
        facts["split"] = IS_VALID.get(str(facts["split"]).casefold(), facts["split"])
    return LabelledRow(where, image, **lists, **facts)


def _labels(where: str, column: str, value: object, separator: str) -> list[str]:
    """Labels of one value. Blanks around a label are no part of it in CSV."""
    if value is None or value != value or value in NOTHING:
        return []
    if isinstance(value, str) and value[:1] + value[-1:] == "[]":  # a list as pandas writes it
        with contextlib.suppress(ValueError, SyntaxError):
            value = list(map(str, ast.literal_eval(value)))
    if isinstance(value, dict) and (key := next((key for key in IN_AN_OBJECT if key in value), None)):
        value = value[key]
    if isinstance(value, str):
        return [label for part in value.split(separator) if (label := part.strip())]
    if isinstance(value, list) and all(isinstance(label, str) for label in value):
        return list(value)
    raise SourceError(f"{where}: {column} is {value!r}, expected labels as text. Correct the row.")


def _check_separator(rows: Sequence[LabelledRow], separator: str) -> None:
    """Refuse labels that seem to be several: they hold another sign, and what stands around it are labels elsewhere.

    Where no `separator` is stated and nothing was cut, also any that hold a comma or a semicolon.
    """
    known = {label for row in rows for state in STATES for label in getattr(row, state)}
    uncut = not separator and all(len(row.present) < 2 for row in rows)
    doubtful = {
        label: sign
        for label, sign in product(known, "|;,")
        if sign in label and (known.issuperset(map(str.strip, label.split(sign))) or (uncut and sign != "|"))
    }
    for row in rows if doubtful else ():
        if label := next((label for label in row.present if label in doubtful), None):
            raise SourceError(
                f"{row.where}: is {label!r} one label or several? Set the source's option `separator: "
                f"{doubtful[label]!r}` for several, `separator: '|'` for one; cut all rows by one sign."
            )


def _joined(rows: Sequence[LabelledRow]) -> list[LabelledRow]:
    """One row an image. Raises SourceError where rows of one image differ in a fact or contradict each other."""
    joined: dict[str, LabelledRow] = {}
    for row in rows:
        first = joined.setdefault(row.image, row)
        if first is row:
            continue
        if odd := next((fact for fact in FACTS if getattr(first, fact) != getattr(row, fact)), None):
            raise SourceError(f"{row.where}: {odd} of {row.image!r} is another one than in {first.where}.")
        lists = {state: [*getattr(first, state), *getattr(row, state)] for state in STATES}
        for one, other in combinations(STATES, 2):
            if both := set(lists[one]) & set(lists[other]):
                raise SourceError(f"{row.where}: {min(both)!r} is {one} and {other}, see {first.where}. Keep one row.")
        joined[row.image] = replace(first, **lists)
    return list(joined.values())
