"""Old data under a new taxonomy: the steps of `migrations:`, oldest first, on all that names labels.

    rename {old: new}         the same thing under another name, which may exist already (a synonym)
    merge  {new: [old, …]}    present where any of them was, absent where all of them were
    split  {old: [new, …]}    absent where the old one was; where it was present, it is unknown which of the new ones
                              is there, and somebody must look again

An id never changes its meaning: retired ones are not used again, and merges and splits lead to new ones. So the steps
may be applied to data of any age, and twice.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from operator import not_

import polars as pl
import pyarrow as pa

from tasks.core.tables import ABSENT, COVERAGE, LABELS, LOOK_AGAIN, PRESENT, UNKNOWN, conform
from tasks.taxonomy.taxonomy import Migration

PAIR = ["image_id", "label"]
_STRONGEST_FIRST = ("present", "unsure", "absent")  # verdicts of one person on the parts of a merged label


@dataclass(frozen=True)
class Migrated:
    """Long tables in the new vocabulary; rows in + added - dropped = rows out."""

    labels: pa.Table  # LABELS; a pair may have several rows, as it may in a source
    unknown: pa.Table  # UNKNOWN
    coverage: pa.Table  # COVERAGE
    look_again: pa.Table  # LOOK_AGAIN
    dropped: Counter[str]  # reason -> rows
    added: Counter[str]


def migrate_labels(
    labels: pa.Table, unknown: pa.Table, coverage: pa.Table, migrations: Sequence[Migration]
) -> Migrated:
    """Label rows of any age in today's vocabulary.

    labels: LABELS.  unknown: UNKNOWN.  coverage: COVERAGE. Ids that no step names stay. Rows that come to be of the
    same pair all stay: the mapping (mapping.py) resolves them and lists contradictions.
    """
    rows, open_pairs = _frame(labels, LABELS), _frame(unknown, UNKNOWN)
    covered = set(zip(coverage["source"].to_pylist(), coverage["label"].to_pylist(), strict=True))
    look_again = pl.DataFrame(schema={"image_id": pl.String, "label": pl.String, "was": pl.String})
    dropped: Counter[str] = Counter()
    added: Counter[str] = Counter()
    for step in migrations:
        for new, olds in {**{new: (old,) for old, new in step.rename.items()}, **step.merge}.items():
            rows, lost = _merge(rows, new, olds)
            dropped["only some of the merged labels are absent"] += lost
            open_pairs = _relabel(open_pairs, olds, new).unique(PAIR)
            covered = _cover_merged(covered, new, olds)
        for old, news in step.split.items():
            rows, to_ask, gained, lost = _split(rows, old, news)
            added["absent as a whole, so absent in each part"] += gained
            dropped["present before a split: nobody has said which part"] += lost
            look_again = pl.concat([look_again, to_ask])
            parts = open_pairs.filter(pl.col("label") == old).drop("label").join(_column(news), how="cross")
            open_pairs = pl.concat([open_pairs.filter(pl.col("label") != old), parts, to_ask.select(PAIR)]).unique(PAIR)
            sources = {source for source, label in covered if label == old}
            covered = {pair for pair in covered if pair[1] != old} | {(s, new) for s in sources for new in news}
    # A pair that a later step or another row has resolved needs no second look.
    open_pairs = open_pairs.join(rows, on=PAIR, how="anti")
    look_again = look_again.join(rows, on=PAIR, how="anti").unique().sort("image_id", "label")
    pairs = [{"source": source, "label": label} for source, label in sorted(covered)]
    return Migrated(
        labels=conform(rows.sort(rows.columns).to_arrow(), LABELS, where="labels"),
        unknown=conform(open_pairs.sort(PAIR).to_arrow(), UNKNOWN, where="unknown"),
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
    # One present part makes the merged label present, whatever the state of the others.
    merged_state = pl.col("state").max().over("image_id")
    kept = kept.filter(pl.col("state") == merged_state)
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
    """A source covers the merged label if it covers every part."""
    merged = {(s, new) for s in {source for source, _ in covered} if all((s, old) in covered for old in olds)}
    return {(source, label) for source, label in covered if label not in olds} | merged


def _relabel(pairs: pl.DataFrame, olds: Sequence[str], new: str) -> pl.DataFrame:
    return pairs.with_columns(
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
    Returns (verdicts, to ask again). The second holds the records as they were before the step that stopped them.
    """
    current, stopped = [dict(v) for v in verdicts], []
    for step in migrations:
        after_split, after_merge = _hold_after_split(current, step), _hold_after_merge(current, step)
        holds = [a and b for a, b in zip(after_split, after_merge, strict=True)]
        stopped += compress(current, map(not_, holds))
        current = [v | {"label": new} for v in compress(current, holds) for new in step.successors(v["label"])]
    return current, stopped


def _hold_after_split(verdicts: Sequence[Mapping[str, object]], step: Migration) -> list[bool]:
    """Whether each verdict holds for every part of a split label: "present" does not, as it may be any of them."""
    return [v["verdict"] != "present" or len(step.split.get(v["label"], ())) < 2 for v in verdicts]


def _hold_after_merge(verdicts: Sequence[Mapping[str, object]], step: Migration) -> list[bool]:
    """Whether each verdict on a part of a merged label holds for the merged label; True for those on other labels.

    Of one person's verdicts on the parts the strongest holds: presence, then "unsure", then absence. Absence holds when
    people have denied every part.
    """
    merged_into = {old: new for new, olds in step.merge.items() for old in olds}
    by_person: dict[tuple, set[str]] = defaultdict(set)  # (image, merged label, who) -> verdicts
    denied_parts: dict[tuple, set[str]] = defaultdict(set)  # (image, merged label) -> parts
    for verdict in verdicts:
        if merged := merged_into.get(verdict["label"]):
            by_person[verdict["image_id"], merged, verdict["who"]].add(verdict["verdict"])
            if verdict["verdict"] == "absent":
                denied_parts[verdict["image_id"], merged].add(verdict["label"])

    def holds(verdict: Mapping[str, object]) -> bool:
        if (merged := merged_into.get(verdict["label"])) is None:
            return True
        verdicts_of_person = by_person[verdict["image_id"], merged, verdict["who"]]
        if verdict["verdict"] != next(v for v in _STRONGEST_FIRST if v in verdicts_of_person):
            return False
        return verdict["verdict"] != "absent" or denied_parts[verdict["image_id"], merged] == {*step.merge[merged]}

    return [holds(verdict) for verdict in verdicts]


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

    entries: the part "labels" of thresholds.json. A rename keeps its entry. Parts of a split start from the old
    label, a merged label from the highest of its parts (the fewest false alarms), both with a reason that says so.
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
