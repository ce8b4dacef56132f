"""Assertions about annotated images, by a policy or by people, applied to the label tables with all that follows.

An *assertion* says of one (image, label) pair that the label is present, absent or unknown, who says so and how surely:
ASSERTIONS of tasks/core/tables.py. It takes the place of the pair's own row, and outranks what other pairs imply about
it; where it says present, an annotation that excludes the label gives way. A person outranks a policy, and a policy the
annotation. Tables in, tables out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa

from tasks.cleaning.base import KEEP, STATE_AFTER, Decisions
from tasks.core import tables
from tasks.core.states import States, add_states
from tasks.core.tables import ABSENT, ASSERTIONS, PRESENT, RULES, origin_kind
from tasks.taxonomy.exclusions import exclusion_violations
from tasks.taxonomy.propagation import propagate
from tasks.taxonomy.taxonomy import Taxonomy

PAIR = list(tables.PAIR)
IMPLIED = "rule:implies"
EXCLUDED = "beside another label that excludes it"


@dataclass(frozen=True)
class ChangedLabels:
    """Label tables after the assertions. Rows in + added - dropped = rows out."""

    labels: pa.Table  # LABELS, sorted by pair
    unknown: pa.Table  # UNKNOWN, sorted by pair
    changes: pa.Table  # CHANGES: every pair whose state is another one than before
    contradictions: pa.Table  # image_id, label, kind: propagation's and EXCLUDED, on the images that were touched
    added: Counter[str]  # reason -> rows
    dropped: Counter[str]


def policy_assertions(states: States, decisions: Decisions, *, origin: str) -> pa.Table:
    """ASSERTIONS of the pairs that a policy does not keep."""
    n, c = np.nonzero(decisions.action_NC != KEEP)
    columns = {
        "image_id": pa.array(states.image_ids, pa.string()).take(pa.array(n)),
        "label": pa.array(states.labels, pa.string()).take(pa.array(c)),
        "state": pa.array(STATE_AFTER[decisions.action_NC[n, c]], pa.int8()),
        "present": pa.array(decisions.p_present_NC[n, c], pa.float32()),
        "origin": pa.array([origin] * len(n), pa.string()),
    }
    return tables.conform(pa.table(columns), ASSERTIONS, where="policy")


def apply_changes(
    labels: pa.Table,
    unknown: pa.Table,
    assertions: Iterable[pa.Table],
    taxonomy: Taxonomy,
    *,
    coverage: pa.Table,
    images: pa.Table,
    positives: bool = True,
    negatives: bool = True,
) -> ChangedLabels:
    """The label tables with the assertions applied; images without an assertion stay as they are.

    labels: LABELS.  unknown: UNKNOWN.  assertions: ASSERTIONS, most trusted first, at most one row a pair in each.
    coverage: COVERAGE, and images: image_id -> source, tell what was absent without a row.
    positives, negatives: whether presence flows up implications and absence down, as in `map_labels`.
    """
    asserted = _most_trusted(assertions, taxonomy)
    asserted = pl.concat([asserted, _absent_by_exclusion(asserted, labels, taxonomy)])

    touched = asserted.select("image_id").unique()
    labels_before, unknown_before = _frame(labels, tables.LABELS), _frame(unknown, tables.UNKNOWN)
    rows_before = labels_before.join(touched, on="image_id", how="semi")
    marks_before = unknown_before.join(touched, on="image_id", how="semi")

    # What enters propagation: annotations that nobody contradicts, the assertions, and the marks that keep a reason.
    annotated = _uncontradicted(rows_before, asserted, taxonomy)
    confidence = pl.when(pl.col("state") == PRESENT).then("present").otherwise(1 - pl.col("present"))
    decided = asserted.filter(pl.col("state") >= 0).with_columns(confidence=confidence)
    rows = pl.concat([frame.select(tables.LABELS.names) for frame in (annotated, decided)])
    propagated = propagate(
        _table(rows, tables.LABELS),
        taxonomy,
        unknown=_table(_unknown_after(marks_before, asserted, taxonomy), tables.UNKNOWN),
        positives=positives,
        negatives=negatives,
    )
    rows_after, marks_after = _frame(propagated.labels, tables.LABELS), _frame(propagated.unknown, tables.UNKNOWN)

    untouched_rows = labels_before.join(touched, on="image_id", how="anti")
    untouched_marks = unknown_before.join(touched, on="image_id", how="anti")
    pairs = pl.concat([f.select(PAIR) for f in (rows_before, marks_before, rows_after, marks_after)]).unique()
    covered = {"coverage": coverage, "images": images}
    before = add_states(pairs, labels=rows_before.to_arrow(), unknown=marks_before.to_arrow(), **covered)
    after = add_states(pairs, labels=rows_after.to_arrow(), unknown=marks_after.to_arrow(), **covered)
    return ChangedLabels(
        labels=_table(pl.concat([untouched_rows, rows_after]), tables.LABELS),
        unknown=_table(pl.concat([untouched_marks, marks_after]), tables.UNKNOWN),
        changes=_table(_changes(before, after, asserted), tables.CHANGES),
        contradictions=_contradictions(propagated.contradictions, propagated.labels, taxonomy),
        added=_by_reason(rows_after, rows_before, asserted, "{}, where no row was"),
        dropped=_by_reason(rows_before, rows_after, asserted, "unknown, or absent without a row, {}"),
    )


def implied_pairs(assertions: pa.Table, taxonomy: Taxonomy) -> set[tuple[str, str]]:
    """(image_id, label) whose state follows from the assertions: ancestors of a present label, descendants of an absent
    one, what excludes a present one."""
    return set(_implied(_frame(assertions, ASSERTIONS), taxonomy).select(PAIR).iter_rows())


# ---------------------------------------------------------------- one assertion a pair


def _most_trusted(assertions: Iterable[pa.Table], taxonomy: Taxonomy) -> pl.DataFrame:
    """The first table's assertion about each pair; a later one must not contradict what an earlier one implies."""
    kept = _frame(ASSERTIONS.empty_table(), ASSERTIONS)
    for table in assertions:
        others = _frame(table, ASSERTIONS).join(kept, on=PAIR, how="anti")
        kept = pl.concat([kept, _agreeing(others, kept, taxonomy)])
    return kept


def _agreeing(rows: pl.DataFrame, asserted: pl.DataFrame, taxonomy: Taxonomy) -> pl.DataFrame:
    """The rows whose `state` the assertions about other pairs do not contradict."""
    implied = rows.join(_implied(asserted, taxonomy), on=PAIR, how="left")
    agrees = pl.col("implied").is_null() | (pl.col("implied") == pl.col("state"))
    return implied.filter(agrees).select(rows.columns)


def _implied(asserted: pl.DataFrame, taxonomy: Taxonomy) -> pl.DataFrame:
    """image_id, label, implied: what assertions say about other pairs; presence of a descendant beats an ancestor's
    absence."""
    rows = [(a, PRESENT, up, PRESENT) for a in taxonomy.ids for up in sorted(taxonomy.ancestors[a])]
    rows += [(a, ABSENT, down, ABSENT) for a in taxonomy.ids for down in sorted(taxonomy.descendants[a])]
    rows += [(a, PRESENT, b, ABSENT) for a, b in _exclusions(taxonomy)]
    schema = {"label": pl.String, "state": pl.Int8, "other": pl.String, "implied": pl.Int8}
    rules = pl.DataFrame(rows, schema=schema, orient="row")
    implied = asserted.join(rules, on=["label", "state"]).select("image_id", "implied", label="other")
    return implied.group_by(PAIR).agg(pl.col("implied").max())


def _absent_by_exclusion(asserted: pl.DataFrame, labels: pa.Table, taxonomy: Taxonomy) -> pl.DataFrame:
    """Assertions that what is annotated present, but excluded by something asserted present, is absent."""
    excludes = pl.DataFrame(_exclusions(taxonomy), schema={"label": pl.String, "other": pl.String}, orient="row")
    excluded = asserted.filter(pl.col("state") == PRESENT).join(excludes, on="label").drop("label")
    excluded = excluded.rename({"other": "label"}).sort(*PAIR, "origin")
    excluded = excluded.unique(PAIR, keep="first", maintain_order=True)
    annotated = _frame(labels, tables.LABELS).filter(pl.col("state") == PRESENT)
    excluded = excluded.join(annotated, on=PAIR, how="semi").join(asserted, on=PAIR, how="anti")
    absent = excluded.with_columns(state=pl.lit(ABSENT, pl.Int8), present=1 - pl.col("present"))
    return absent.select(asserted.columns)


def _exclusions(taxonomy: Taxonomy) -> list[tuple[str, str]]:
    """Labels that exclude each other, both ways round."""
    return [pair for both in sorted(taxonomy.exclusions) for pair in (both, both[::-1])]


# ---------------------------------------------------------------- what remains of the annotations


def _uncontradicted(rows: pl.DataFrame, asserted: pl.DataFrame, taxonomy: Taxonomy) -> pl.DataFrame:
    """Rows that no rule derived, about pairs without an assertion, and not against what the assertions imply."""
    own = rows.filter(~pl.col("origin").is_in(RULES)).join(asserted, on=PAIR, how="anti")
    return _agreeing(own, asserted, taxonomy)


def _unknown_after(marks: pl.DataFrame, asserted: pl.DataFrame, taxonomy: Taxonomy) -> pl.DataFrame:
    """Pairs marked unknown: as before, without those that are decided now, and what was made unknown.

    Unknown flows up, so a mark above a pair that was unknown and is decided now has lost its reason; propagation sets
    it again if another descendant is still unknown.
    """
    ancestors = [(label, up) for label in taxonomy.ids for up in sorted(taxonomy.ancestors[label])]
    above = pl.DataFrame(ancestors, schema={"label": pl.String, "other": pl.String}, orient="row")
    decided = asserted.filter(pl.col("state") >= 0).join(marks, on=PAIR, how="semi").join(above, on="label")
    without_reason = decided.select("image_id", label="other")
    kept = marks.join(asserted, on=PAIR, how="anti").join(without_reason, on=PAIR, how="anti")
    return pl.concat([kept.select(PAIR), asserted.filter(pl.col("state") < 0).select(PAIR)])


# ---------------------------------------------------------------- listing the changes


def _changes(before: pl.DataFrame, after: pl.DataFrame, asserted: pl.DataFrame) -> pl.DataFrame:
    """CHANGES: pairs whose state differs. before, after: image_id, label, state of the same pairs in the same order."""
    both = before.select(*PAIR, before="state").with_columns(after=after["state"])
    changed = both.filter(pl.col("before") != pl.col("after"))
    changed = changed.join(asserted.select(*PAIR, "present", "origin"), on=PAIR, how="left")
    by_implication = pl.col("after").replace_strict({1: 1.0, 0: 0.0, -1: 0.5}, return_dtype=pl.Float32)
    rule = pl.col("origin").fill_null(IMPLIED)
    return changed.with_columns(rule=rule, present=pl.coalesce("present", by_implication))


def _contradictions(by_implication: pa.Table, labels: pa.Table, taxonomy: Taxonomy) -> pa.Table:
    """What propagation lists, and present labels that exclude each other."""
    violations = exclusion_violations(labels, taxonomy)
    pairs = pl.concat([violations.select(PAIR), violations.select("image_id", label="other")]).unique().sort(PAIR)
    excluded = pairs.with_columns(kind=pl.lit(EXCLUDED)).to_arrow().cast(by_implication.schema)
    return pa.concat_tables([by_implication, excluded])


def _by_reason(rows: pl.DataFrame, others: pl.DataFrame, asserted: pl.DataFrame, wording: str) -> Counter[str]:
    """Number of rows whose pair has none among the others, by whose assertion it was; without one, it is implied."""
    pairs = rows.join(others, on=PAIR, how="anti").select(PAIR)
    origins = pairs.join(asserted.select(*PAIR, "origin"), on=PAIR, how="left")["origin"]
    counts: Counter[str] = Counter()
    for origin, count in origins.value_counts().iter_rows():
        who = {"": "by implication", "review": "by verdict"}.get(origin_kind(origin or ""), f"by {origin}")
        counts[wording.format(who)] += count
    return counts


def _frame(table: pa.Table, schema: pa.Schema) -> pl.DataFrame:
    return pl.DataFrame(pl.from_arrow(tables.conform(table, schema, where="clean")))


def _table(frame: pl.DataFrame, schema: pa.Schema) -> pa.Table:
    """The frame's columns in `schema`, sorted by pair."""
    return tables.conform(frame.sort(PAIR).select(schema.names).to_arrow(), schema, where="cleaned labels")
