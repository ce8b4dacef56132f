"""How much of the queue is decided, what it may yield, and how far reviewers agree; for a terminal."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tasks.core.workspace import Workspace
from tasks.review.agreement import STATE_OF, ResolvedVerdicts
from tasks.review.audit import kappas
from tasks.review.last_run import LastRun
from tasks.taxonomy.exclusions import contradiction_line

COLUMNS = ("asked", "left", "present", "absent", "unsure")


@dataclass(frozen=True)
class Progress:
    """How far the questions about one label are answered."""

    label: str
    asked: int
    present: int
    absent: int
    unsure: int

    @property
    def left(self) -> int:
        return self.asked - self.present - self.absent - self.unsure


def progress_of(questions: Iterable[tuple[str, str]], decided: Mapping[tuple[str, str], str]) -> list[Progress]:
    """By label, the one with the most questions left first.

    questions: (image_id, label).  decided: the verdict on each that nobody need be asked about any more.
    """
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for image_id, label in questions:
        counts[label][decided.get((image_id, label), "left")] += 1
    rows = [Progress(label, c.total(), c["present"], c["absent"], c["unsure"]) for label, c in counts.items()]
    return sorted(rows, key=lambda row: (-row.left, row.label))


def review_status(workspace: Workspace) -> RenderableType:
    """The questions of the last run by label, what it expected of them, and how far reviewers agree."""
    last_run = LastRun(workspace)
    queue, verdicts, names = last_run.questions(), last_run.resolved_verdicts(), last_run.display_names()
    resolved, verdict_of_state = verdicts.resolved, {state: verdict for verdict, state in STATE_OF.items()}
    decided = {
        (row["image_id"], row["label"]): verdict_of_state[row["state"]]
        for row in verdicts.assertions.to_pylist()
        if (row["image_id"], row["label"]) in resolved
    }
    rows = progress_of(zip(queue["image_id"].to_pylist(), queue["label"].to_pylist(), strict=True), decided)
    table = Table(box=None, padding=(0, 2), pad_edge=False)
    for column in ("label", *COLUMNS):
        table.add_column(column, justify="left" if column == "label" else "right")
    for row in rows:
        # Names are data: Text keeps rich from reading "[x]" as markup.
        table.add_row(Text(names.get(row.label, row.label)), *(str(getattr(row, column)) for column in COLUMNS))
    table.add_row("all", *(str(sum(getattr(row, column) for row in rows)) for column in COLUMNS), style="bold")
    return Group(table, *map(Text, [*_outlook(workspace), *_agreement(verdicts), *_contradictions(workspace)]))


def _outlook(workspace: Workspace) -> list[str]:
    """What the last run expected of its questions and learnt from the answers so far."""
    if not workspace.exists("cleaning_report"):
        return []
    review = workspace.read("cleaning_report")["review"]
    lines, rate = [], review["error_rate"]
    if expected := sorted((int(asked), errors) for asked, errors in review["expected_errors"].items()):
        listed = ", ".join(f"{errors:.0f} among the first {asked}" for asked, errors in expected)
        lines.append(f"errors to expect in this queue: {listed}")
    if rate:
        lines.append(
            f"annotations that are wrong: {rate['share']:.1%} ({rate['low']:.1%} to {rate['high']:.1%}), "
            f"by {rate['asked']} audited"
        )
    if review["stop"]:
        lines.append("the last answers changed next to nothing: it does not pay to go on")
    return lines


def _contradictions(workspace: Workspace) -> list[str]:
    """What the last run found on images that cannot be as they are said to be."""
    if not workspace.exists("cleaned.review"):
        return []
    return [line for line in [contradiction_line(workspace.read("cleaned.review").get("contradictions", []))] if line]


def _agreement(verdicts: ResolvedVerdicts) -> list[str]:
    lines = []
    for people in kappas(verdicts.active):
        kappa = "undefined" if people["kappa"] is None else f"{people['kappa']:.2f}"
        share = f"{round(people['agree'] * people['pairs'])} of {people['pairs']}"
        lines.append(f"{' and '.join(people['who'])} agree on {share} questions, kappa {kappa}")
    if verdicts.conflicts:
        listed = ", ".join(f"{c['image_id']} {c['label']}" for c in verdicts.conflicts[:5])
        more = f" and {len(verdicts.conflicts) - 5} more" if len(verdicts.conflicts) > 5 else ""
        lines.append(f"at odds: {listed}{more}")
    return lines
