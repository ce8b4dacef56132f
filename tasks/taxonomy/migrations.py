"""Old data under a new taxonomy: the steps of `migrations:`, oldest first, on all that names labels.

    rename {old: new}         the same thing under another name, which may exist already (a synonym)
    merge  {new: [old, …]}    present where any of them was, absent where all of them were
    split  {old: [new, …]}    absent where the old one was; where it was present, which of the new ones is there nobody
                              has said: unknown, and somebody must look again

An id never changes its meaning: retired ones are not used again, and merges and splits lead to new ones. So the steps
may be applied to data of any age, and twice.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import polars as pl
import pyarrow as pa

from tasks.core.tables import ABSENT, COVERAGE, LABELS, LOOK_AGAIN, PRESENT, UNKNOWN, conform
from tasks.taxonomy.taxonomy import Migration

CELL = ["image_id", "label"]
_STRONGEST_FIRST = ("present", "unsure", "absent")  # of what a person says about the parts of a whole


@dataclass(frozen=True)
class Migrated:
    """Long tables in the new vocabulary; rows in + added - dropped = rows out."""

    labels: pa.Table  # LABELS; a cell may have several rows, as it may in a source
    unknown: pa.Table  # UNKNOWN
    coverage: pa.Table  # COVERAGE
    look_again: pa.Table  # LOOK_AGAIN
    dropped: Counter[str]  # reason -> rows
    added: Counter[str]


def migrate_labels(
    labels: pa.Table, unknown: pa.Table, coverage: pa.Table, migrations: Sequence[Migration]
) -> Migrated:
    """Statements of any age in today's vocabulary.

    labels: LABELS.  unknown: UNKNOWN.  coverage: COVERAGE. Ids that no step names stay. Rows that come to speak of the
    same cell all stay: what they say together is for the mapping to decide (mapping.py), which lists contradictions.
    """
    rows, open_cells = _frame(labels, LABELS), _frame(unknown, UNKNOWN)
    covered = set(zip(coverage["source"].to_pylist(), coverage["label"].to_pylist(), strict=True))
    look_again = pl.DataFrame(schema={"image_id": pl.String, "label": pl.String, "was": pl.String})
    dropped: Counter[str] = Counter()
    added: Counter[str] = Counter()
    for step in migrations:
        for new, olds in {**{new: (old,) for old, new in step.rename.items()}, **step.merge}.items():
            rows, lost = _merge(rows, new, olds)
            dropped["only some of the merged labels are absent"] += lost
            open_cells = _relabel(open_cells, olds, new).unique(CELL)
            covered = _cover_merged(covered, new, olds)
        for old, news in step.split.items():
            rows, to_ask, gained, lost = _split(rows, old, news)
            added["absent as a whole, so absent in each part"] += gained
            dropped["present before a split: nobody has said which part"] += lost
            look_again = pl.concat([look_again, to_ask])
            parts = open_cells.filter(pl.col("label") == old).drop("label").join(_column(news), how="cross")
            open_cells = pl.concat([open_cells.filter(pl.col("label") != old), parts, to_ask.select(CELL)]).unique(CELL)
            sources = {source for source, label in covered if label == old}
            covered = {pair for pair in covered if pair[1] != old} | {(s, new) for s in sources for new in news}
    # Looking again at what a later step or another row settled would be a waste.
    open_cells = open_cells.join(rows, on=CELL, how="anti")
    look_again = look_again.join(rows, on=CELL, how="anti").unique().sort("image_id", "label")
    pairs = [{"source": source, "label": label} for source, label in sorted(covered)]
    return Migrated(
        labels=conform(rows.sort(rows.columns).to_arrow(), LABELS, where="labels"),
        unknown=conform(open_cells.sort(CELL).to_arrow(), UNKNOWN, where="unknown"),
        coverage=pa.Table.from_pylist(pairs, schema=COVERAGE),
        look_again=conform(look_again.to_arrow(), LOOK_AGAIN, where="look_again"),
        dropped=+dropped,
        added=+added,
    )


def _merge(rows: pl.DataFrame, new: str, olds: Sequence[str]) -> tuple[pl.DataFrame, int]:
    """Rows with the merged label, and how many absences of a part had to go."""
    part = pl.col("label").is_in(list(olds))
    absent_parts = pl.col("label").filter(pl.col("state") == ABSENT).n_unique().over("image_id")
    merged = rows.filter(part)
    kept = merged.filter((pl.col("state") == PRESENT) | (absent_parts == len(set(olds))))
    # A present part settles the whole, whatever the other parts say.
    whole = pl.col("state").max().over("image_id")
    kept = kept.filter(pl.col("state") == whole)
    return pl.concat([rows.filter(~part), kept.with_columns(label=pl.lit(new))]), merged.height - kept.height


def _split(rows: pl.DataFrame, old: str, news: Sequence[str]) -> tuple[pl.DataFrame, pl.DataFrame, int, int]:
    """Rows after the split, (image_id, label, was) that a person must look at, the numbers of rows gained and lost."""
    gone, column = rows.filter(pl.col("label") == old), _column(news)
    absent, present = (gone.filter(pl.col("state") == state) for state in (ABSENT, PRESENT))
    parts = absent.drop("label").join(column, how="cross").select(rows.columns)
    to_ask = present.select("image_id", was="label").join(column, how="cross").select("image_id", "label", "was")
    kept = pl.concat([rows.filter(pl.col("label") != old), parts])
    return kept, to_ask, parts.height - absent.height, present.height


def _cover_merged(covered: set[tuple[str, str]], new: str, olds: Sequence[str]) -> set[tuple[str, str]]:
    """A source covers the whole if it covers every part."""
    wholes = {(s, new) for s in {source for source, _ in covered} if all((s, old) in covered for old in olds)}
    return {(source, label) for source, label in covered if label not in olds} | wholes


def _relabel(cells: pl.DataFrame, olds: Sequence[str], new: str) -> pl.DataFrame:
    return cells.with_columns(
        pl.when(pl.col("label").is_in(list(olds))).then(pl.lit(new)).otherwise("label").alias("label")
    )


def _column(labels: Sequence[str]) -> pl.DataFrame:
    return pl.DataFrame({"label": list(labels)}, schema={"label": pl.String})


def _frame(table: pa.Table, schema: pa.Schema) -> pl.DataFrame:
    return pl.DataFrame(pl.from_arrow(conform(table, schema, where="migration")))


# ---------------------------------------------------------------- verdicts


def migrate_verdicts(
    verdicts: Iterable[Mapping[str, object]], migrations: Sequence[Migration]
) -> tuple[list[dict], list[dict]]:
    """People's verdicts in today's vocabulary, and those that a split or merge has left without a meaning.

    verdicts: records with image_id, label, verdict (present | absent | unsure), who, and whatever else; order is kept.
    Of the parts of a merge, one that a person calls present is the person's word on the whole, else one that they are
    unsure of; their absences count when people have denied every part.
    Returns (verdicts, to ask again). The second holds the records as they were before the step that stopped them.
    """
    current, stopped = [dict(v) for v in verdicts], []
    for step in migrations:
        olds_of = {new: set(olds) for new, olds in step.merge.items()}
        new_of = {old: new for new, olds in step.merge.items() for old in olds}
        denied: dict[tuple[object, str], set[str]] = defaultdict(set)  # (image, whole) -> parts
        said: dict[tuple[object, str, object], set[str]] = defaultdict(set)  # (image, whole, who) -> verdicts
        for v in (v for v in current if v["label"] in new_of):
            whole = new_of[v["label"]]
            said[v["image_id"], whole, v["who"]].add(v["verdict"])
            if v["verdict"] == "absent":
                denied[v["image_id"], whole].add(v["label"])
        following = []
        for v in current:
            label, verdict = v["label"], v["verdict"]
            successors = step.successors(label)
            if label in new_of:
                whole = new_of[label]
                own_word = next(word for word in _STRONGEST_FIRST if word in said[v["image_id"], whole, v["who"]])
                means = verdict == own_word and (verdict != "absent" or denied[v["image_id"], whole] == olds_of[whole])
            else:
                means = len(successors) == 1 or verdict != "present"
            if means:
                following += [v | {"label": new} for new in successors]
            else:
                stopped.append(v)
        current = following
    return current, stopped


def todays_labels(label: str, migrations: Sequence[Migration]) -> list[str]:
    """What a label of any age is called today: itself, another name, or several after a split."""
    labels = [label]
    for step in migrations:
        labels = list(dict.fromkeys(new for old in labels for new in step.successors(old)))
    return labels


# ---------------------------------------------------------------- thresholds and the model's head


def origins_of(
    old_labels: Sequence[str], new_labels: Sequence[str], migrations: Sequence[Migration]
) -> list[list[int]]:
    """For each new label the old columns that it comes from: one after a rename or split, several after a merge.

    [] is a label that the old model never had. A head starts each new output from the mean of these columns' weights.
    """
    came_from: dict[str, list[int]] = {label: [c] for c, label in enumerate(old_labels)}
    for step in migrations:
        gone = {old: came_from.pop(old, []) for old in step.retired}
        for old, new in step.rename.items():
            came_from[new] = came_from.get(new) or gone[old]
        for new, olds in step.merge.items():
            came_from[new] = came_from.get(new) or sorted({c for old in olds for c in gone[old]})
        for old, news in step.split.items():
            came_from |= {new: came_from.get(new) or gone[old] for new in news}
    return [came_from.get(label, []) for label in new_labels]


def migrate_thresholds(
    entries: Mapping[str, Mapping[str, object]], new_labels: Sequence[str], migrations: Sequence[Migration]
) -> tuple[dict[str, dict], list[str]]:
    """Thresholds of the new labels that have any, and the labels that must be fitted (again).

    entries: the part "labels" of thresholds.json. A rename keeps its entry. Parts of a split start from the whole, a
    merged label from the highest of its parts (the fewest false alarms), both with a reason that says so.
    """
    old_labels = list(entries)
    carried, to_fit = {}, []
    for label, columns in zip(new_labels, origins_of(old_labels, new_labels, migrations), strict=True):
        parts = [old_labels[c] for c in columns]
        if parts:
            carried[label] = dict(max((entries[part] for part in parts), key=_height))
        if [label] != [renamed(part, migrations) for part in parts]:
            to_fit.append(label)
            if parts:
                carried[label]["reason"] = f"carried over from {', '.join(parts)} by a migration; fit again"
    return carried, to_fit


def _height(entry: Mapping[str, object]) -> float:
    """Of null (never predicted) and numbers, null is the highest."""
    return math.inf if entry["threshold"] is None else float(entry["threshold"])


def renamed(label: str, migrations: Sequence[Migration]) -> str:
    """Today's name of a label that was only ever renamed."""
    for step in migrations:
        label = step.rename.get(label, label)
    return label
