"""Anyone's scores and labels as long tables: read, checked, and put side by side.

Axes: N images, C labels.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from tasks.core import tables
from tasks.core.errors import TableError
from tasks.core.prediction_table import Predictions, read_predictions

SCORES = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("label", pa.string(), nullable=False),
        pa.field("score", pa.float32(), nullable=False),  # finite; higher = more likely present
    ]
)
STATES = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("label", pa.string(), nullable=False),
        pa.field("state", pa.int8(), nullable=False),  # 1 present, 0 absent, -1 unknown
    ]
)


def read_long_scores(path: Path) -> pa.Table:
    """SCORES from Parquet, CSV or JSON (an array of records, or one a line); also a predictions table of a pipeline.

    Raises TableError naming the file, the column, what was found.
    """
    path = Path(path)
    table = _read_any(path, SCORES)
    if "scores" in table.column_names and "score" not in table.column_names and path.suffix == ".parquet":
        return _long(read_predictions(path))
    return tables.conform(table, SCORES, where=str(path))


def read_long_labels(path: Path) -> pa.Table:
    """STATES from Parquet, CSV or JSON, as `read_long_scores`; a labels table of a pipeline is one already."""
    return tables.conform(_read_any(Path(path), STATES), STATES, where=str(path))


def _read_any(path: Path, schema: pa.Schema) -> pa.Table:
    if not path.is_file():
        raise TableError(f"{path}: no such file.")
    if not path.stat().st_size:
        raise TableError(f"{path}: the file is empty.")
    if path.suffix not in _READERS:
        raise TableError(f"{path}: expected a file named {', '.join(_READERS)}, found '{path.suffix}'.")
    try:
        return _READERS[path.suffix](path, schema)
    except (ValueError, pa.ArrowException) as error:
        raise TableError(f"{path}: not a readable {path.suffix[1:]} file ({str(error).splitlines()[0]}).") from error


def _read_csv(path: Path, schema: pa.Schema) -> pa.Table:
    # Types are stated, or ids such as 000012 would be read as numbers and lose their zeros.
    types = {field.name: field.type for field in schema}
    options = pa_csv.ConvertOptions(column_types=types, strings_can_be_null=False)
    table = pa_csv.read_csv(path, convert_options=options)
    return table.rename_columns(table.column_names)  # which raises where a name is not UTF-8


def _read_json(path: Path, schema: pa.Schema) -> pa.Table:
    text = path.read_text(encoding="utf-8").strip()
    records = json.loads(text) if text.startswith("[") else [json.loads(line) for line in text.splitlines()]
    if not all(isinstance(record, dict) for record in records):
        raise ValueError("expected records such as {" + ", ".join(f'"{field.name}": …' for field in schema) + "}")
    return pa.Table.from_pylist(records)


_READERS = {
    ".parquet": lambda path, schema: tables.read_table(path),
    ".csv": _read_csv,
    ".json": _read_json,
    ".jsonl": _read_json,
}


def _long(predictions: Predictions) -> pa.Table:
    """One row an (image, label) pair."""
    num_images, num_labels = predictions.scores_NC.shape
    columns = {
        "image_id": pa.array(predictions.image_ids, pa.string()).take(np.repeat(np.arange(num_images), num_labels)),
        "label": pa.array(predictions.labels, pa.string()).take(np.tile(np.arange(num_labels), num_images)),
        "score": pa.array(predictions.scores_NC.ravel()),
    }
    return pa.table(columns, schema=SCORES)


# ---------------------------------------------------------------- long tables to matrices


@dataclass(frozen=True)
class AlignedScores:
    """Scores beside labels. scores_NC: float32.  targets_NC: uint8 {0, 1}.  known_NC: bool.  has_score_N: bool."""

    image_ids: list[str]
    labels: list[str]
    scores_NC: np.ndarray
    targets_NC: np.ndarray
    known_NC: np.ndarray
    has_score_N: np.ndarray
    num_only_in_predictions: int
    label_gaps: dict[str, list[str]]


def align_scores(predictions: pa.Table, labels: pa.Table, *, absent_if_missing: bool) -> AlignedScores:
    """Matrices over the images and labels of the labels table, both sorted by name.

    A label that is never predicted scores 0 everywhere; a predicted label that the labels table does not have is left
    out; `label_gaps` lists both. The tested images are those of the labels table.
    Raises TableError for a score that is not finite, a state other than 1, 0, -1, a pair that occurs twice, and tables
    without a common label or image.
    """
    predictions = tables.conform(predictions, SCORES, where="predictions")
    labels = tables.conform(labels, STATES, where="labels")
    for name, table in (("predictions", predictions), ("labels", labels)):
        if not table.num_rows:
            raise TableError(f"{name}: the table has no rows. Check the file; nothing can be scored.")
    _refuse_rows(predictions, pc.invert(pc.is_finite(predictions["score"])), "score", "a finite number")
    states_allowed = pc.is_in(labels["state"], pa.array([1, 0, -1], pa.int8()))
    _refuse_rows(labels, pc.invert(states_allowed), "state", "1 (present), 0 (absent) or -1 (unknown)")

    image_ids, label_names = _sorted_names(labels["image_id"]), _sorted_names(labels["label"])
    only_in_predictions, without_score = _label_gaps(_sorted_names(predictions["label"]), label_names)
    predictions = predictions.filter(pc.is_in(predictions["label"], pa.array(label_names)))
    foreign_images = sorted(set(predictions["image_id"].to_pylist()) - set(image_ids))
    _refuse_no_common_image(predictions, image_ids, foreign_images)

    n, c = _positions(labels, image_ids, label_names, name="labels")
    states_NC = np.full((len(image_ids), len(label_names)), 0 if absent_if_missing else -1, np.int8)
    states_NC[n, c] = labels["state"].to_numpy()
    tested = predictions.filter(pc.is_in(predictions["image_id"], pa.array(image_ids)))
    n, c = _positions(tested, image_ids, label_names, name="predictions")
    scores_NC = np.zeros(states_NC.shape, np.float32)
    scores_NC[n, c] = tested["score"].to_numpy()
    has_score_N = np.zeros(len(image_ids), bool)
    has_score_N[n] = True
    targets_NC, known_NC = (states_NC == tables.PRESENT).astype(np.uint8), states_NC != tables.UNKNOWN_STATE
    gaps = {"only_in_predictions": only_in_predictions, "without_any_score": without_score}
    return AlignedScores(
        image_ids, label_names, scores_NC, targets_NC, known_NC, has_score_N, len(foreign_images), gaps
    )


def _refuse_rows(table: pa.Table, wrong: pa.ChunkedArray, column: str, allowed: str) -> None:
    rows = table.filter(wrong)
    if rows.num_rows:
        row = rows.slice(0, 1).to_pylist()[0]
        raise TableError(
            f"{rows.num_rows} rows have a {column} that is not {allowed}, e.g. {row[column]} for image "
            f"'{row['image_id']}', label '{row['label']}'. Mend or drop them."
        )


def _sorted_names(column: pa.ChunkedArray) -> list[str]:
    return sorted(pc.unique(column).to_pylist())


def _label_gaps(of_predictions: list[str], of_labels: list[str]) -> tuple[list[str], list[str]]:
    """Labels that stand only in the predictions, and those without any score. Raises TableError when none is shared."""
    foreign = sorted(set(of_predictions) - set(of_labels))
    if len(foreign) == len(of_predictions):
        raise TableError(
            f"predictions and labels have no label in common: '{foreign[0]}' and '{of_labels[0]}' are names of either. "
            "Write the names the same way in both tables."
        )
    return foreign, sorted(set(of_labels) - set(of_predictions))


def _refuse_no_common_image(predictions: pa.Table, image_ids: list[str], foreign_images: list[str]) -> None:
    if len(foreign_images) == pc.count_distinct(predictions["image_id"]).as_py():
        raise TableError(
            f"predictions and labels have no image in common: '{predictions['image_id'][0]}' and '{image_ids[0]}' are "
            "ids of either. Write the ids the same way in both tables."
        )


def _positions(table: pa.Table, image_ids: list[str], labels: list[str], *, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of each pair. Raises TableError when a pair occurs twice."""
    n, c = (
        pc.index_in(table[column], pa.array(names, pa.string())).to_numpy().astype(np.int64)
        for column, names in (("image_id", image_ids), ("label", labels))
    )
    pair = np.sort(n * len(labels) + c)
    repeated = pair[1:][pair[1:] == pair[:-1]]
    if len(repeated):
        i, j = divmod(int(repeated[0]), len(labels))
        raise TableError(
            f"{name}: {len(repeated)} pairs occur more than once, e.g. image '{image_ids[i]}', label '{labels[j]}'. "
            "Keep one row a pair."
        )
    return n, c
