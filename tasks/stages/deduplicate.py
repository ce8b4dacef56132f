"""Group exact and near duplicates; resolve the labels on which they disagree."""

from __future__ import annotations

import pyarrow.compute as pc

from tasks.core.ledger import Ledger
from tasks.core.workspace import Workspace
from tasks.images.near_duplicates import duplicate_groups, duplicates_report, label_conflicts, resolve_conflicts
from tasks.params import Params


def run(params: Params) -> None:
    """Mapped images and labels -> group of every usable image, labels without contradictions inside a group."""
    workspace, section = Workspace(params.paths), params.deduplicate
    images = workspace.read("mapped.images")
    usable = images.filter(pc.equal(images["status"], "ok"))
    labels, unknown = workspace.read("mapped.labels"), workspace.read("mapped.unknown")
    coverage = workspace.read("mapped.coverage")

    groups = duplicate_groups(usable["image_id"], usable["sha256"], usable["phash"], radius=section.radius)
    conflicts = label_conflicts(groups, labels, images=usable, coverage=coverage, unknown=unknown)
    resolved, unknown, changes = resolve_conflicts(labels, unknown, conflicts, rule=section.conflict)

    workspace.write("deduplicated.groups", groups)
    workspace.write("deduplicated.labels", resolved)
    workspace.write("deduplicated.unknown", unknown)
    workspace.write("duplicates_report", duplicates_report(groups, conflicts) | {"rule": section.conflict})

    ledger, reason = Ledger("deduplicate"), f"duplicates disagree, rule '{section.conflict}'"
    ledger.num_in("images", images.num_rows)
    ledger.dropped("images", images.num_rows - usable.num_rows, "quarantined")
    ledger.num_out("images", groups.num_rows)
    ledger.num_in("labels", labels.num_rows)
    ledger.dropped("labels", changes.dropped, reason)
    ledger.added("labels", changes.added, reason)
    ledger.num_out("labels", resolved.num_rows)
    workspace.book(ledger)
