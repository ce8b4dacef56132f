"""New statements about annotated images, by a policy or by people, and everything that follows from them.

A *statement* says of one cell (image, label) that it is present, absent or unknown, who says so and how surely:
ASSERTIONS below. It takes the place of the cell's own row, and outranks what other cells imply about it; where it says
present, an annotation that excludes the label gives way. A person outranks a policy, and a policy the annotation.
Tables in, tables out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa

from tasks.cleaning.policies import KEEP, STATE_AFTER, Cleaned
from tasks.core import tables
from tasks.core.states import States
from tasks.core.tables import RULES, origin_kind
from tasks.taxonomy.exclusions import exclusion_violations
from tasks.taxonomy.propagation import propagate
from tasks.taxonomy.taxonomy import Taxonomy

CELL = ["image_id", "label"]
IMPLIED = "rule:implies"
EXCLUDED = "beside another label that excludes it"
ASSERTIONS = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("label", pa.string(), nullable=False),
        pa.field("state", pa.int8(), nullable=False),  # 1, 0, or -1 unknown
        pa.field("present", pa.float32(), nullable=False),  # probability that the label is present, [0, 1]
        pa.field("origin", pa.string(), nullable=False),  # rule:<policy> | review:<who>
    ]
)


@dataclass(frozen=True)
class ChangedLabels:
    """Label tables after the statements. Rows in + added - dropped = rows out."""

    labels: pa.Table  # LABELS, sorted by cell
    unknown: pa.Table  # UNKNOWN, sorted by cell
    changes: pa.Table  # CHANGES: every cell whose state is another one than before
    contradictions: pa.Table  # image_id, label, kind: propagation's and EXCLUDED, on the images that were touched
    added: Counter[str]  # reason -> rows
    dropped: Counter[str]


def policy_assertions(dense: States, decided: Cleaned, *, origin: str) -> pa.Table:
    """ASSERTIONS of the cells that a policy does not keep."""
    n, c = np.nonzero(decided.action_NC != KEEP)
    action = decided.action_NC[n, c]
    columns = {
        "image_id": pa.array(dense.image_ids, pa.string()).take(pa.array(n)),
        "label": pa.array(dense.labels, pa.string()).take(pa.array(c)),
        "state": pa.array(STATE_AFTER[action], pa.int8()),
        "present": pa.array(decided.present_NC[n, c], pa.float32()),
        "origin": pa.array([origin] * len(n), pa.string()),
    }
    return tables.conform(pa.table(columns), ASSERTIONS, where="policy")


def apply_changes(
    labels: pa.Table,
    unknown: pa.Table,
    statements: Iterable[pa.Table],
    taxonomy: Taxonomy,
    *,
    coverage: pa.Table,
    sources: pa.Table,
    positives: bool = True,
    negatives: bool = True,
) -> ChangedLabels:
    """The label tables as they stand once the statements are made; images without a statement stay as they are.

    labels: LABELS.  unknown: UNKNOWN.  statements: ASSERTIONS, most trusted first, at most one row a cell in each.
    coverage: COVERAGE, and sources: image_id -> source, tell what was absent without a row.
    positives, negatives: whether presence flows up implications and absence down, as in `map_labels`.
    """
    stated = _most_trusted(statements, taxonomy)
    stated = pl.concat([stated, _excluded(stated, labels, taxonomy)])
    before, marked = _frame(labels, tables.LABELS), _frame(unknown, tables.UNKNOWN)
    images = stated.select("image_id").unique()
    rows, marks = before.join(images, on="image_id", how="semi"), marked.join(images, on="image_id", how="semi")

    own = rows.filter(~pl.col("origin").is_in(RULES)).join(stated, on=CELL, how="anti")
    own = own.join(_implied(stated, taxonomy), on=CELL, how="left").filter(
        pl.col("implied").is_null() | (pl.col("implied") == pl.col("state"))
    )
    sure = pl.when(pl.col("state") == tables.PRESENT).then("present").otherwise(1 - pl.col("present"))
    said = stated.filter(pl.col("state") >= 0).with_columns(confidence=sure)
    found = propagate(
        _table(pl.concat([frame.select(tables.LABELS.names) for frame in (own, said)]), tables.LABELS),
        taxonomy,
        unknown=_table(_open_cells(marks, stated, taxonomy), tables.UNKNOWN),
        positives=positives,
        negatives=negatives,
    )
    now, now_marked = _frame(found.labels, tables.LABELS), _frame(found.unknown, tables.UNKNOWN)

    covered = (pl.from_arrow(coverage), pl.from_arrow(sources))
    changes = _changes(_states(rows, marks), _states(now, now_marked), stated, *covered)
    untouched = before.join(images, on="image_id", how="anti"), marked.join(images, on="image_id", how="anti")
    return ChangedLabels(
        labels=_table(pl.concat([untouched[0], now.select(before.columns)]), tables.LABELS),
        unknown=_table(pl.concat([untouched[1], now_marked]), tables.UNKNOWN),
        changes=_table(changes, tables.CHANGES),
        contradictions=_contradictions(found.contradictions, found.labels, taxonomy),
        added=_by_reason(now.join(rows, on=CELL, how="anti"), stated, "{}, where no row was"),
        dropped=_by_reason(rows.join(now, on=CELL, how="anti"), stated, "unknown, or absent without a row, {}"),
    )


def _most_trusted(statements: Iterable[pa.Table], taxonomy: Taxonomy) -> pl.DataFrame:
    """One statement a cell; a later table must not contradict what an earlier one implies."""
    kept = _frame(ASSERTIONS.empty_table(), ASSERTIONS)
    for table in statements:
        more = _frame(table, ASSERTIONS)
        more = more.join(kept, on=CELL, how="anti").join(_implied(kept, taxonomy), on=CELL, how="left")
        agreeing = pl.col("implied").is_null() | (pl.col("implied") == pl.col("state"))
        kept = pl.concat([kept, more.filter(agreeing).select(kept.columns)])
    return kept


def resolved_by(statements: pa.Table, taxonomy: Taxonomy) -> set[tuple[str, str]]:
    """(image_id, label) whose state follows from the statements: whole of a present kind, kind of an absent whole, what
    excludes something present."""
    return set(_implied(_frame(statements, ASSERTIONS), taxonomy).select(CELL).iter_rows())


def _implied(stated: pl.DataFrame, taxonomy: Taxonomy) -> pl.DataFrame:
    """image_id, label, implied: what statements say about other cells; a present kind beats an absent whole."""
    here, gone = tables.PRESENT, tables.ABSENT
    rows = [(label, here, up, here) for label in taxonomy.ids for up in sorted(taxonomy.ancestors[label])]
    rows += [(label, gone, down, gone) for label in taxonomy.ids for down in sorted(taxonomy.descendants[label])]
    rows += [(a, here, b, gone) for pair in sorted(taxonomy.exclusions) for a, b in (pair, pair[::-1])]
    schema = {"label": pl.String, "state": pl.Int8, "other": pl.String, "implied": pl.Int8}
    follows = pl.DataFrame(rows, schema=schema, orient="row")
    implied = stated.join(follows, on=["label", "state"]).select("image_id", "implied", label="other")
    return implied.group_by(CELL).agg(pl.col("implied").max())


def _excluded(stated: pl.DataFrame, labels: pa.Table, taxonomy: Taxonomy) -> pl.DataFrame:
    """Statements that what is annotated present, but excluded by something stated present, is absent."""
    pairs = [pair for both in sorted(taxonomy.exclusions) for pair in (both, both[::-1])]
    excludes = pl.DataFrame(pairs, schema={"label": pl.String, "other": pl.String}, orient="row")
    found = stated.filter(pl.col("state") == tables.PRESENT).join(excludes, on="label").drop("label")
    found = found.rename({"other": "label"}).sort(*CELL, "origin").unique(CELL, keep="first", maintain_order=True)
    annotated = _frame(labels, tables.LABELS).filter(pl.col("state") == tables.PRESENT)
    found = found.join(annotated, on=CELL, how="semi").join(stated, on=CELL, how="anti")
    absent = found.with_columns(state=pl.lit(tables.ABSENT, pl.Int8), present=1 - pl.col("present"))
    return absent.select(stated.columns)


def _contradictions(found: pa.Table, labels: pa.Table, taxonomy: Taxonomy) -> pa.Table:
    """What propagation found, and present labels that exclude each other."""
    pairs = exclusion_violations(labels, taxonomy)
    both = pl.concat([pairs.select(CELL), pairs.select("image_id", label="other")]).unique().sort(CELL)
    more = both.with_columns(kind=pl.lit(EXCLUDED)).to_arrow().cast(found.schema)
    return pa.concat_tables([found, more])


def _open_cells(marks: pl.DataFrame, stated: pl.DataFrame, taxonomy: Taxonomy) -> pl.DataFrame:
    """Cells that are marked unknown: as before, without those that are settled now, and what was made unknown.

    Unknown flows up, so a mark above a cell that was unknown and is settled now has lost its reason; it comes back if
    another kind is still unknown.
    """
    pairs = [(label, up) for label in taxonomy.ids for up in sorted(taxonomy.ancestors[label])]
    above = pl.DataFrame(pairs, schema={"label": pl.String, "other": pl.String}, orient="row")
    settled = stated.filter(pl.col("state") >= 0).join(marks, on=CELL, how="semi").join(above, on="label")
    reasonless = settled.select("image_id", label="other")
    left = marks.join(stated, on=CELL, how="anti").join(reasonless, on=CELL, how="anti")
    return pl.concat([left.select(CELL), stated.filter(pl.col("state") < 0).select(CELL)])


def _states(rows: pl.DataFrame, marks: pl.DataFrame) -> pl.DataFrame:
    """image_id, label, state: of rows, and -1 of cells marked unknown that have no row."""
    silent = marks.join(rows, on=CELL, how="anti").select(*CELL, state=pl.lit(tables.UNKNOWN_STATE, pl.Int8))
    return pl.concat([rows.select(*CELL, "state"), silent])


def _changes(
    before: pl.DataFrame, after: pl.DataFrame, stated: pl.DataFrame, coverage: pl.DataFrame, sources: pl.DataFrame
) -> pl.DataFrame:
    """CHANGES: cells whose state differs. A cell without a row or mark is absent where its source covers the label."""
    both = before.join(after, on=CELL, how="full", suffix="_after", coalesce=True)
    both = both.join(sources.select("image_id", "source"), on="image_id", how="left")
    both = both.join(coverage.with_columns(silent=pl.lit(tables.ABSENT, pl.Int8)), on=["source", "label"], how="left")
    silent = pl.col("silent").fill_null(tables.UNKNOWN_STATE)
    both = both.with_columns(before=pl.coalesce("state", silent), after=pl.coalesce("state_after", silent))
    changed = both.filter(pl.col("before") != pl.col("after")).select(*CELL, "before", "after")
    changed = changed.join(stated.select(*CELL, "present", "origin"), on=CELL, how="left")
    by_implication = pl.col("after").replace_strict({1: 1.0, 0: 0.0, -1: 0.5}, return_dtype=pl.Float32)
    rule = pl.col("origin").fill_null(IMPLIED)
    return changed.with_columns(rule=rule, present=pl.coalesce("present", by_implication))


def _by_reason(rows: pl.DataFrame, stated: pl.DataFrame, wording: str) -> Counter[str]:
    """Number of rows by who made the statement about the cell; where nobody did, it follows from another one."""
    counts: Counter[str] = Counter()
    origins = rows.select(CELL).join(stated.select(*CELL, "origin"), on=CELL, how="left")["origin"]
    for origin, count in origins.value_counts().iter_rows():
        kind = origin_kind(origin or "")
        who = {"": "by implication", "review": "by verdict"}.get(kind, f"by {origin}")
        counts[wording.format(who)] += count
    return counts


def _frame(table: pa.Table, schema: pa.Schema) -> pl.DataFrame:
    return pl.DataFrame(pl.from_arrow(tables.conform(table, schema, where="clean")))


def _table(frame: pl.DataFrame, schema: pa.Schema) -> pa.Table:
    """The frame's columns in `schema`, sorted by cell."""
    return tables.conform(frame.sort(CELL).select(schema.names).to_arrow(), schema, where="cleaned labels")
