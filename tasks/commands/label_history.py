"""One image's story: each label's state and the chain of rows and rules that made it.

Read from the tables that the stages wrote, so it tells what happened, not what the code would do today.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tasks.core.tables import ABSENT, PRESENT, RULES, UNKNOWN_STATE
from tasks.review.agreement import STATE_OF
from tasks.review.verdicts import Verdict
from tasks.taxonomy.migrations import todays_labels
from tasks.taxonomy.taxonomy import OWN, Taxonomy

STATE_NAMES = {PRESENT: "present", ABSENT: "absent", UNKNOWN_STATE: "unknown"}
BY_COVERAGE = "no row, and the source covers the label"
NO_LABEL = ""
"""Label of a step about a native row that reaches no label."""
ASSERTIONS = ("ingest", "proposals", "review")
"""Stages whose steps are what somebody said, and not yet the label's state."""


@dataclass(frozen=True)
class Step:
    """One thing that a stage saw or did."""

    label: str  # of the taxonomy, or NO_LABEL
    stage: str  # ingest | map_labels | deduplicate | proposals | review | clean
    state: int  # 1, 0, -1 unknown: of the label after the step; of the statement itself for ASSERTIONS
    text: str


@dataclass(frozen=True)
class _Rows:
    """What one stage's tables say about the image; None where the stage has not run."""

    labels: dict[str, list[dict]]  # label -> its LABELS rows
    unknown: set[str]

    @classmethod
    def of(cls, image_id: str, labels: pa.Table | None, unknown: pa.Table | None) -> _Rows | None:
        if labels is None:
            return None
        found: dict[str, list[dict]] = {}
        for row in _of_image(labels, image_id):
            found.setdefault(row["label"], []).append(row)
        return cls(found, {row["label"] for row in _of_image(unknown, image_id)})

    def state(self, label: str, covered: set[str]) -> int:
        if label in self.labels:
            return self.labels[label][0]["state"]
        return ABSENT if label in covered and label not in self.unknown else UNKNOWN_STATE


def explain_image(
    image_id: str,
    tables: Mapping[str, pa.Table | None],
    taxonomy: Taxonomy,
    *,
    source: str,
    vocabulary: str,
    verdicts: Iterable[Verdict] = (),
) -> list[Step]:
    """The steps that made each label's state, by label in the order of the taxonomy, then in the order of the stages.

    tables: by name, missing or None where a stage has not run: `raw_labels` and `raw_unknown` (native names),
        `coverage`, `mapped_labels`, `mapped_unknown`, `proposals`, `groups`, `deduplicated_labels`,
        `deduplicated_unknown`, `changes`, `cleaned_labels`, `cleaned_unknown`.
    source: of the image.  vocabulary: of that source.  verdicts: about this picture, under labels of any age.
    Labels of which nothing was ever said have no steps: they are unknown.
    """
    raw = _Rows.of(image_id, tables.get("raw_labels"), tables.get("raw_unknown"))
    steps = list(_native_steps(raw, taxonomy, vocabulary)) if raw else []
    said = list(_verdict_steps(verdicts, taxonomy))
    coverage = tables.get("coverage")
    covered = {row["label"] for row in coverage.to_pylist() if row["source"] == source} if coverage else set()
    stages = [
        (stage, _Rows.of(image_id, tables.get(f"{name}_labels"), tables.get(f"{name}_unknown")))
        for stage, name in (("map_labels", "mapped"), ("deduplicate", "deduplicated"), ("clean", "cleaned"))
    ]
    proposals = _of_image(tables.get("proposals"), image_id)
    changes = {row["label"]: row for row in _of_image(tables.get("changes"), image_id)}
    twins = _twins(tables.get("groups"), image_id)
    for label in taxonomy.ids:
        before: int | None = None
        for stage, rows in stages:
            if stage == "clean":
                steps += [
                    Step(label, "proposals", p["state"], f"{p['origin']} {p['confidence']:.2f}")
                    for p in proposals
                    if p["label"] == label
                ]
                steps += [step for step in said if step.label == label]
            if rows is None:
                continue
            state = rows.state(label, covered)
            if stage == "map_labels" and (label in rows.labels or label in rows.unknown or label in covered):
                steps.append(Step(label, stage, state, _why_mapped(label, rows, taxonomy)))
            elif stage == "deduplicate" and state != before:
                steps.append(Step(label, stage, state, f"duplicates disagree: {', '.join(twins) or 'same picture'}"))
            elif stage == "clean" and state != before:
                steps.append(Step(label, stage, state, _why_cleaned(changes.get(label), rows.labels.get(label, []))))
            before = state
    order = {label: c for c, label in enumerate([*taxonomy.ids, NO_LABEL])}
    return sorted(steps, key=lambda step: order[step.label])


def _native_steps(raw: _Rows, taxonomy: Taxonomy, vocabulary: str) -> Iterator[Step]:
    """What the source said, once for each label that it reaches."""
    claims, drops = taxonomy.class_map(vocabulary), taxonomy.drop.get(vocabulary, {})
    if vocabulary == OWN:
        retired = {label for step in taxonomy.migrations for label in step.retired}
        claims |= {label: todays_labels(label, taxonomy.migrations) for label in retired}
    for native, rows in sorted(raw.labels.items()):
        for row in rows:
            said = f"'{native}' {STATE_NAMES[row['state']]} ({row['origin']}, {row['confidence']:.2f})"
            since = _since(native, claims[native]) if vocabulary == OWN and native in claims else ""
            for label in claims.get(native, ()):
                yield Step(label, "ingest", row["state"], said + since)
            if native not in claims:
                fate = f"dropped: {drops[native]}" if native in drops else "stands nowhere in the taxonomy"
                yield Step(NO_LABEL, "ingest", row["state"], f"{said}; {fate}")
    for native in sorted(raw.unknown):
        for label in claims.get(native, ()):
            yield Step(label, "ingest", UNKNOWN_STATE, f"'{native}' left open")


def _verdict_steps(verdicts: Iterable[Verdict], taxonomy: Taxonomy) -> Iterator[Step]:
    """What people said, once for each label that it is about today."""
    for verdict in verdicts:
        labels = todays_labels(verdict.label, taxonomy.migrations)
        text = f"{verdict.who}: {verdict.verdict} ({verdict.when[:10]})"
        if labels != [verdict.label]:
            text += f" of '{verdict.label}'"
        for label in labels:
            yield Step(label, "review", STATE_OF[verdict.verdict], text + _since(verdict.label, labels))


def _since(label: str, labels: list[str]) -> str:
    """How a label of before a migration is called today."""
    return "" if labels == [label] else f", now {' or '.join(labels)}"


def _why_mapped(label: str, rows: _Rows, taxonomy: Taxonomy) -> str:
    if label not in rows.labels:
        return "left open, or contradictory" if label in rows.unknown else BY_COVERAGE
    row = rows.labels[label][0]
    if row["origin"] not in RULES:
        return f"as the source says ({row['origin']}, {row['confidence']:.2f})"
    near = (
        taxonomy.descendants
        if row["state"] == PRESENT or row["origin"] == "rule:exhaustive_children"
        else taxonomy.ancestors
    )
    causes = [
        other
        for other in taxonomy.ids
        if other in near[label]
        and any(r["state"] == row["state"] and r["origin"] not in RULES for r in rows.labels.get(other, ()))
    ]
    return f"{row['origin']}: {', '.join(causes)} {STATE_NAMES[row['state']]}"


def _why_cleaned(change: dict | None, rows: list[dict]) -> str:
    if change is None:
        return rows[0]["origin"] if rows else "made unknown"
    return f"{change['rule']} (was {STATE_NAMES[change['before']]}, P(present) {change['present']:.2f})"


def _twins(groups: pa.Table | None, image_id: str) -> list[str]:
    """The other images of the duplicate group."""
    own = _of_image(groups, image_id)
    if not own:
        return []
    members = groups.filter(pc.equal(groups["group_id"], own[0]["group_id"]))["image_id"].to_pylist()
    return sorted(member for member in members if member != image_id)


def _of_image(table: pa.Table | None, image_id: str) -> list[dict]:
    return [] if table is None else table.filter(pc.equal(table["image_id"], image_id)).to_pylist()


# ---------------------------------------------------------------- for the terminal

_STYLES = {PRESENT: "green", ABSENT: "red", UNKNOWN_STATE: "yellow"}


def render(steps: list[Step]) -> RenderableType:
    """A table of labels with a line a step, for `rich.print`; labels that are absent by coverage alone in one line."""
    chains: dict[str, list[Step]] = {}
    for step in steps:
        chains.setdefault(step.label, []).append(step)
    lost = chains.pop(NO_LABEL, [])
    silent = [label for label, chain in chains.items() if [s.text for s in chain] == [BY_COVERAGE]]
    table = Table("label", "state", "stage", "why", box=None, pad_edge=False, header_style="bold")
    for label, chain in chains.items():
        if label in silent:
            continue
        final = next((s.state for s in reversed(chain) if s.stage not in ASSERTIONS), UNKNOWN_STATE)
        for n, step in enumerate(chain):
            # Names are data: Text keeps rich from reading "[x]" as markup.
            state = Text(STATE_NAMES[final], _STYLES[final]) if n == 0 else Text()
            said = step.text if step.stage in ASSERTIONS else f"{STATE_NAMES[step.state]}: {step.text}"
            table.add_row(Text(label if n == 0 else "", "bold"), state, Text(step.stage, "dim"), Text(said))
    parts: list[RenderableType] = [table] if table.row_count else [Text("Nobody has said anything about this image.")]
    if silent:
        parts.append(Text(f"absent, since the source covers them and names none: {', '.join(silent)}", "dim"))
    parts += [Text(f"no label: {step.text}", "dim") for step in lost]
    return Group(*parts)
