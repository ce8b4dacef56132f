"""The history of one image's labels: each label's state and the chain of rows and rules that made it.

Read from the tables that the stages wrote, so it tells what happened, not what the code would do today.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tasks.core.states import states_of
from tasks.core.tables import ABSENT, PRESENT, RULES, UNKNOWN_STATE
from tasks.review.agreement import STATE_OF
from tasks.review.verdicts import Verdict
from tasks.taxonomy.migrations import todays_labels
from tasks.taxonomy.taxonomy import OWN, Taxonomy

STATE_NAMES = {PRESENT: "present", ABSENT: "absent", UNKNOWN_STATE: "unknown"}
BY_COVERAGE = "no row, and the source covers the label"
NO_LABEL = ""
"""Label of a step about a row that maps to no label."""
ASSERTIONS = ("ingest", "proposals", "review")
"""Stages whose steps are what somebody asserts, and not yet the label's state."""
TABLES = (
    "ingested.labels",
    "ingested.unknown",
    "mapped.labels",
    "mapped.unknown",
    "mapped.proposals",
    "mapped.coverage",
    "deduplicated.groups",
    "deduplicated.labels",
    "deduplicated.unknown",
    "cleaned.changes",
    "cleaned.labels",
    "cleaned.unknown",
)
"""What `explain_image` reads, by the workspace's names."""


@dataclass(frozen=True)
class Step:
    """One thing that a stage saw or did."""

    label: str  # of the taxonomy, or NO_LABEL
    stage: str  # ingest | map_labels | deduplicate | proposals | review | clean
    state: int  # 1, 0, -1 unknown: of the label after the step; of the assertion itself for ASSERTIONS
    text: str


@dataclass(frozen=True)
class _After:
    """The image after one stage. row_of: label -> its LABELS row.  state_of: label -> 1, 0, -1 unknown."""

    row_of: dict[str, dict]
    unknown: set[str]
    state_of: dict[str, int]


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

    tables: those of TABLES, missing or None where a stage has not run. `ingested` ones are in the source's classes.
    source: of the image.  vocabulary: of that source.  verdicts: about this picture, under labels of any age.
    Labels about which there never was any row have no steps: they are unknown.
    """
    own = {name: _of_image(tables.get(name), image_id) for name in TABLES if name != "mapped.coverage"}
    coverage = tables.get("mapped.coverage")
    covered = {row["label"] for row in coverage.to_pylist() if row["source"] == source} if coverage else set()
    changes = {row["label"]: row for row in own["cleaned.changes"].to_pylist()} if own["cleaned.changes"] else {}
    disagree = f"duplicates disagree: {', '.join(_duplicates(tables, image_id)) or 'same picture'}"

    def after(folder: str) -> _After | None:
        if (labels := own[f"{folder}.labels"]) is None:
            return None
        unknown = own[f"{folder}.unknown"]
        states = states_of(labels, [image_id], taxonomy.ids, coverage=coverage, sources=[source], unknown=unknown)
        return _After(
            row_of={row["label"]: row for row in labels.to_pylist()},
            unknown=set(unknown["label"].to_pylist()) if unknown else set(),
            state_of=dict(zip(taxonomy.ids, states.states_NC[0].tolist(), strict=True)),
        )

    steps = list(_ingest_steps(own["ingested.labels"], own["ingested.unknown"], taxonomy, vocabulary))
    state_of: dict[str, int] = {}  # after the last stage that has run
    if mapped := after("mapped"):
        state_of = mapped.state_of
        mentioned = mapped.row_of.keys() | mapped.unknown | covered
        steps += [
            Step(h, "map_labels", state_of[h], _why_mapped(h, mapped, taxonomy)) for h in state_of if h in mentioned
        ]
    if deduplicated := after("deduplicated"):
        before, state_of = state_of, deduplicated.state_of
        steps += [Step(h, "deduplicate", s, disagree) for h, s in state_of.items() if s != before.get(h)]
    if own["mapped.proposals"]:
        steps += [
            Step(row["label"], "proposals", row["state"], f"{row['origin']} {row['confidence']:.2f}")
            for row in own["mapped.proposals"].to_pylist()
        ]
    steps += _verdict_steps(verdicts, taxonomy)
    if cleaned := after("cleaned"):
        before, state_of = state_of, cleaned.state_of
        steps += [
            Step(h, "clean", s, _why_cleaned(changes.get(h), cleaned.row_of.get(h)))
            for h, s in state_of.items()
            if s != before.get(h)
        ]
    order = {label: c for c, label in enumerate([*taxonomy.ids, NO_LABEL])}
    return sorted((step for step in steps if step.label in order), key=lambda step: order[step.label])


def _ingest_steps(
    labels: pa.Table | None, unknown: pa.Table | None, taxonomy: Taxonomy, vocabulary: str
) -> Iterator[Step]:
    """The source's own rows, once for each label that their class maps to."""
    labels_of, drops = taxonomy.class_map(vocabulary), taxonomy.drop.get(vocabulary, {})
    if vocabulary == OWN:
        retired = {label for step in taxonomy.migrations for label in step.retired}
        labels_of |= {label: todays_labels(label, taxonomy.migrations) for label in retired}
    rows = labels.to_pylist() if labels else []
    for row in sorted(rows, key=lambda row: row["label"]):
        source_class = row["label"]
        text = f"'{source_class}' {STATE_NAMES[row['state']]} ({row['origin']}, {row['confidence']:.2f})"
        if source_class not in labels_of:
            fate = f"dropped: {drops[source_class]}" if source_class in drops else "stands nowhere in the taxonomy"
            yield Step(NO_LABEL, "ingest", row["state"], f"{text}; {fate}")
            continue
        since = _since(source_class, labels_of[source_class]) if vocabulary == OWN else ""
        for label in labels_of[source_class]:
            yield Step(label, "ingest", row["state"], text + since)
    for source_class in sorted(set(unknown["label"].to_pylist())) if labels is not None and unknown else []:
        for label in labels_of.get(source_class, ()):
            yield Step(label, "ingest", UNKNOWN_STATE, f"'{source_class}' left open")


def _verdict_steps(verdicts: Iterable[Verdict], taxonomy: Taxonomy) -> Iterator[Step]:
    """People's verdicts, once for each label that they are about today."""
    for verdict in verdicts:
        labels = todays_labels(verdict.label, taxonomy.migrations)
        text = f"{verdict.who}: {verdict.verdict} ({verdict.when[:10]})"
        if labels != [verdict.label]:
            text += f" of '{verdict.label}'"
        for label in labels:
            yield Step(label, "review", STATE_OF[verdict.verdict], text + _since(verdict.label, labels))


def _since(label: str, labels: Sequence[str]) -> str:
    """How a label of before a migration is called today."""
    return "" if labels == [label] else f", now {' or '.join(labels)}"


def _why_mapped(label: str, mapped: _After, taxonomy: Taxonomy) -> str:
    if label not in mapped.row_of:
        return "left open, or contradictory" if label in mapped.unknown else BY_COVERAGE
    row = mapped.row_of[label]
    if row["origin"] not in RULES:
        return f"as the source says ({row['origin']}, {row['confidence']:.2f})"
    near = (
        taxonomy.descendants
        if row["state"] == PRESENT or row["origin"] == "rule:exhaustive_children"
        else taxonomy.ancestors
    )
    own = {h for h, r in mapped.row_of.items() if r["state"] == row["state"] and r["origin"] not in RULES}
    causes = [other for other in taxonomy.ids if other in near[label] and other in own]
    return f"{row['origin']}: {', '.join(causes)} {STATE_NAMES[row['state']]}"


def _why_cleaned(change: dict | None, row: dict | None) -> str:
    if change is None:
        return row["origin"] if row else "made unknown"
    return f"{change['rule']} (was {STATE_NAMES[change['before']]}, P(present) {change['present']:.2f})"


def _duplicates(tables: Mapping[str, pa.Table | None], image_id: str) -> list[str]:
    """The other images of the duplicate group."""
    groups = tables.get("deduplicated.groups")
    own = _of_image(groups, image_id)
    if not own:
        return []
    members = groups.filter(pc.equal(groups["group_id"], own["group_id"][0]))["image_id"].to_pylist()
    return sorted(member for member in members if member != image_id)


def _of_image(table: pa.Table | None, image_id: str) -> pa.Table | None:
    return None if table is None else table.filter(pc.equal(table["image_id"], image_id))


# ---------------------------------------------------------------- for the terminal

_STYLES = {PRESENT: "green", ABSENT: "red", UNKNOWN_STATE: "yellow"}


def render(steps: list[Step]) -> RenderableType:
    """A table of labels with a line a step, for `rich.print`; labels that are absent by coverage alone in one line."""
    chains: dict[str, list[Step]] = {}
    for step in steps:
        chains.setdefault(step.label, []).append(step)
    lost = chains.pop(NO_LABEL, [])
    by_coverage = [label for label, chain in chains.items() if [s.text for s in chain] == [BY_COVERAGE]]
    table = Table("label", "state", "stage", "why", box=None, pad_edge=False, header_style="bold")
    for label, chain in chains.items():
        if label in by_coverage:
            continue
        final = next((s.state for s in reversed(chain) if s.stage not in ASSERTIONS), UNKNOWN_STATE)
        for n, step in enumerate(chain):
            # Names are data: Text keeps rich from reading "[x]" as markup.
            state = Text(STATE_NAMES[final], _STYLES[final]) if n == 0 else Text()
            text = step.text if step.stage in ASSERTIONS else f"{STATE_NAMES[step.state]}: {step.text}"
            table.add_row(Text(label if n == 0 else "", "bold"), state, Text(step.stage, "dim"), Text(text))
    parts: list[RenderableType] = [table] if table.row_count else [Text("Nobody has said anything about this image.")]
    if by_coverage:
        parts.append(Text(f"absent, since the source covers them and names none: {', '.join(by_coverage)}", "dim"))
    parts += [Text(f"no label: {step.text}", "dim") for step in lost]
    return Group(*parts)
