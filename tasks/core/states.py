"""The one three-state rule: present, verified absent, or unknown. Everybody who must know a label's state asks here.

Axes: N images, C labels. The state of an (image, label) pair, strongest first:

    1. its row in `labels`                                            1 present, 0 absent
    2. it is listed in `unknown`                                     -1 unknown
    3. the image's source annotates the label exhaustively (coverage) 0 absent
    4. otherwise                                                     -1 unknown

In memory the states of N images are one int8 matrix: 1.12 GB for Open Images (1.87 M x 601), a fifth of what dense
floats of targets and mask would take, and rows of it are what a batch needs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from tasks.core.errors import TableError
from tasks.core.tables import ABSENT, PRESENT, UNKNOWN_STATE

PAIR = ["image_id", "label"]


@dataclass(frozen=True)
class States:
    """States of N images x C labels. states_NC: int8, 1 present, 0 absent, -1 unknown."""

    image_ids: list[str]
    labels: list[str]
    states_NC: np.ndarray

    @classmethod
    def of(
        cls, image_ids: Sequence[str], labels: Sequence[str], targets_NC: np.ndarray, known_NC: np.ndarray
    ) -> States:
        """From targets {0, 1}, meaningless where not known, and the mask of what is known; both (N, C)."""
        states_NC = (np.asarray(targets_NC) != 0).astype(np.int8)
        states_NC[~np.asarray(known_NC, bool)] = UNKNOWN_STATE
        return cls(list(image_ids), list(labels), states_NC)

    @cached_property
    def targets_NC(self) -> np.ndarray:
        """uint8 {0, 1}; 0 where the state is not known, where it means nothing."""
        return (self.states_NC == PRESENT).view(np.uint8)

    @cached_property
    def known_NC(self) -> np.ndarray:
        """bool: the label is present or verified absent."""
        return self.states_NC != UNKNOWN_STATE

    def take(self, rows: np.ndarray) -> States:
        """The images at these positions, int64 (M,)."""
        if np.array_equal(rows, np.arange(len(self.image_ids))):  # gigabytes need no copy
            return self
        return States([self.image_ids[n] for n in rows], self.labels, self.states_NC[rows])

    def has_known_labels(self) -> np.ndarray:
        """Positions of the images with at least one known label; int64 (M,)."""
        return np.flatnonzero((self.states_NC != UNKNOWN_STATE).any(axis=1))


def states_of(
    label_rows: pa.Table,
    image_ids: Sequence[str],
    labels: Sequence[str],
    *,
    coverage: pa.Table | None = None,
    sources: Sequence[str] | None = None,
    unknown: pa.Table | None = None,
) -> States:
    """States of `image_ids` x `labels`, by the rule above.

    label_rows: LABELS, at most one row a pair; rows of other images or labels are ignored.
    coverage, sources: COVERAGE table and the source of each image.  unknown: UNKNOWN table.
    Raises TableError when a pair has two rows that disagree.
    """
    row_of = {image_id: n for n, image_id in enumerate(image_ids)}
    column_of = {label: c for c, label in enumerate(labels)}
    states_NC = np.full((len(image_ids), len(labels)), UNKNOWN_STATE, np.int8)
    if coverage is not None:
        assert sources is not None, "coverage needs the source of each image"
        assert len(sources) == len(image_ids), (len(sources), len(image_ids))
        source_N = np.asarray(sources, dtype=object)
        for source, columns in _covered_columns(coverage, column_of).items():
            states_NC[np.ix_(source_N == source, columns)] = ABSENT
    if unknown is not None:
        n, c = positions(unknown, row_of, column_of)
        wanted = (n >= 0) & (c >= 0)
        states_NC[n[wanted], c[wanted]] = UNKNOWN_STATE
    n, c = positions(label_rows, row_of, column_of)
    wanted = (n >= 0) & (c >= 0)
    n, c, state = n[wanted], c[wanted], label_rows["state"].to_numpy()[wanted]
    _refuse_contradictions(n, c, state, image_ids, labels)
    states_NC[n, c] = state
    return States(list(image_ids), list(labels), states_NC)


def add_states(pairs: pl.DataFrame, *, labels: pa.Table, unknown: pa.Table, coverage: pa.Table, images: pa.Table):
    """The same rule for a long table: `pairs` with a column `state` (Int8: 1, 0, -1), in the order of `pairs`.

    pairs: image_id, label and whatever else.  labels: LABELS.  unknown: UNKNOWN.  coverage: COVERAGE.
    images: image_id -> source.
    """
    rows = pl.DataFrame(pl.from_arrow(labels.select([*PAIR, "state"]))).rename({"state": "_row"})
    marks = (
        pl.DataFrame(pl.from_arrow(unknown.select(PAIR))).unique().with_columns(_mark=pl.lit(UNKNOWN_STATE, pl.Int8))
    )
    covered = pl.DataFrame(pl.from_arrow(coverage)).unique().with_columns(_covered=pl.lit(ABSENT, pl.Int8))
    source_of = pl.DataFrame(pl.from_arrow(images.select(["image_id", "source"]))).rename({"source": "_source"})
    joined = (
        pairs.join(rows, on=PAIR, how="left", maintain_order="left")
        .join(marks, on=PAIR, how="left", maintain_order="left")
        .join(source_of, on="image_id", how="left", maintain_order="left")
        .join(covered.rename({"source": "_source"}), on=["_source", "label"], how="left", maintain_order="left")
    )
    state = pl.coalesce("_row", "_mark", "_covered", pl.lit(UNKNOWN_STATE, pl.Int8))
    return joined.with_columns(state=state.cast(pl.Int8)).drop("_row", "_mark", "_source", "_covered")


def _covered_columns(coverage: pa.Table, column_of: Mapping[str, int]) -> dict[str, list[int]]:
    """source -> columns of the labels that it annotates exhaustively."""
    columns: dict[str, list[int]] = {}
    for source, label in zip(coverage["source"].to_pylist(), coverage["label"].to_pylist(), strict=True):
        if label in column_of:
            columns.setdefault(source, []).append(column_of[label])
    return columns


def _refuse_contradictions(
    n: np.ndarray, c: np.ndarray, state: np.ndarray, image_ids: Sequence[str], labels: Sequence[str]
) -> None:
    flat = n * len(labels) + c
    order = np.argsort(flat, kind="stable")
    repeated = np.flatnonzero(np.diff(flat[order]) == 0)
    clash = repeated[state[order][repeated] != state[order][repeated + 1]]
    if clash.size:
        i = order[clash[0]]
        raise TableError(
            f"labels: image '{image_ids[n[i]]}' has label '{labels[c[i]]}' both present and absent. "
            "Run `map_labels` or `clean`, which resolve contradictions."
        )


# ---------------------------------------------------------------- other long tables as matrices


def scores_of(rows: pa.Table, image_ids: Sequence[str], labels: Sequence[str]) -> np.ndarray:
    """Confidence of each (image, label) row that says "present", 0 where there is none; float64 (N, C) in [0, 1]."""
    present = rows.filter(pc.equal(rows["state"], PRESENT))
    n, c = positions(present, _index(image_ids), _index(labels))
    wanted = (n >= 0) & (c >= 0)
    scores_NC = np.zeros((len(image_ids), len(labels)))
    np.maximum.at(scores_NC, (n[wanted], c[wanted]), present["confidence"].to_numpy()[wanted])
    return scores_NC


def areas_of(rows: pa.Table, image_ids: Sequence[str], labels: Sequence[str]) -> np.ndarray:
    """Area of each pair's largest object in px², NaN where not known; float64 (N, C). rows: OBJECTS."""
    n, c = positions(rows, _index(image_ids), _index(labels))
    wanted = (n >= 0) & (c >= 0)
    areas_NC = np.full((len(image_ids), len(labels)), np.nan)
    areas_NC[n[wanted], c[wanted]] = rows["area_px"].to_numpy()[wanted]
    return areas_NC


def positions(
    pairs: pa.Table, row_of: Mapping[str, int], column_of: Mapping[str, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of each (image_id, label) of a long table, -1 where it is not among them; int64 (R,) each."""
    return _look_up(pairs["image_id"], row_of), _look_up(pairs["label"], column_of)


def _index(names: Sequence[str]) -> dict[str, int]:
    return {name: i for i, name in enumerate(names)}


def _look_up(column: pa.ChunkedArray, position_of: Mapping[str, int]) -> np.ndarray:
    encoded = pc.dictionary_encode(column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column)
    lookup = np.asarray([position_of.get(value, -1) for value in encoded.dictionary.to_pylist()], np.int64)
    return lookup[encoded.indices.to_numpy(zero_copy_only=False)] if len(lookup) else np.zeros(0, np.int64)
