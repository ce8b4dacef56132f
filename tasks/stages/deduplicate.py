"""Group exact and near duplicates; resolve the labels on which equal images, or by option near ones, disagree."""

from __future__ import annotations

import pyarrow.compute as pc

from tasks.core.ledger import Ledger
from tasks.core.workspace import Workspace
from tasks.images.near_duplicates import (
    duplicate_groups,
    duplicates_report,
    equal_bytes,
    label_conflicts,
    resolve_conflicts,
    separate_distinct,
    worst_conflict,
)
from tasks.params import Params
from tasks.review.duplicate_verdicts import distinct_pairs, read_duplicate_verdicts


def run(params: Params) -> None:
    """Mapped images and labels -> group of every usable image, labels without contradictions among equal ones."""
    workspace, section = Workspace(params.paths), params.deduplicate
    images = workspace.read("mapped.images")
    usable = images.filter(pc.equal(images["status"], "ok"))
    labels, unknown = workspace.read("mapped.labels"), workspace.read("mapped.unknown")
    coverage = workspace.read("mapped.coverage")

    groups = duplicate_groups(usable["image_id"], usable["sha256"], usable["phash"], radius=section.radius)
    distinct = distinct_pairs(read_duplicate_verdicts(params.paths.duplicate_verdicts))
    groups = separate_distinct(groups, usable, distinct, radius=section.radius)
    alike = groups if section.resolve == "near" else equal_bytes(groups, usable)
    conflicts = label_conflicts(alike, labels, images=usable, coverage=coverage, unknown=unknown)
    resolved, unknown, changes = resolve_conflicts(labels, unknown, conflicts, rule=section.conflict)

    facts = {"rule": section.conflict, "resolve": section.resolve}
    workspace.write("deduplicated.groups", groups)
    workspace.write("deduplicated.labels", resolved)
    workspace.write("deduplicated.unknown", unknown)
    workspace.write("duplicates_report", duplicates_report(groups, conflicts) | facts)

    ledger, reason = Ledger("deduplicate"), f"duplicates disagree, rule '{section.conflict}'"
    ledger.num_in("images", images.num_rows)
    ledger.dropped("images", images.num_rows - usable.num_rows, "quarantined")
    ledger.num_out("images", groups.num_rows)
    ledger.num_in("labels", labels.num_rows)
    ledger.dropped("labels", changes.dropped, reason, example=worst_conflict(conflicts))
    ledger.added("labels", changes.added, reason)
    ledger.num_out("labels", resolved.num_rows)
    if distinct:
        ledger.note(f"{len(distinct)} pairs of pictures are no duplicates, as people say")
    workspace.book(ledger)
