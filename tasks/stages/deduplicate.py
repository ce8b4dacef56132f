"""Group exact and near duplicates; resolve the labels on which they disagree."""

from __future__ import annotations

from collections import Counter

import pyarrow as pa
import pyarrow.compute as pc

from tasks.core import tables
from tasks.core.ledger import Ledger
from tasks.core.workspace import Workspace
from tasks.images.near_duplicates import duplicate_groups, label_conflicts, resolve_conflicts
from tasks.params import Params


def run(params: Params) -> None:
    """Mapped images and labels -> group of every usable image, labels without contradictions inside a group."""
    section, mapped, out = params.deduplicate, params.paths.mapped, params.paths.deduplicated
    images = Workspace(params.paths).read("mapped.images")
    usable = images.filter(pc.equal(images["status"], "ok"))
    labels = tables.read_table(mapped / "labels.parquet", tables.LABELS)
    unknown = tables.read_table(mapped / "unknown.parquet", tables.UNKNOWN)
    coverage = tables.read_table(mapped / "coverage.parquet", tables.COVERAGE)

    groups = duplicate_groups(usable["image_id"], usable["sha256"], usable["phash"], radius=section.radius)
    conflicts = label_conflicts(groups, labels, images=usable, coverage=coverage, unknown=unknown)
    resolved, unknown, changes = resolve_conflicts(labels, unknown, conflicts, rule=section.conflict)

    tables.write_table(out / "groups.parquet", tables.sort_table(groups, ["image_id"]), tables.GROUPS)
    tables.write_table(out / "labels.parquet", tables.sort_table(resolved, ["image_id", "label"]), tables.LABELS)
    tables.write_table(out / "unknown.parquet", tables.sort_table(unknown, ["image_id", "label"]), tables.UNKNOWN)
    tables.write_json(params.paths.duplicates_report, summary(groups, conflicts) | {"rule": section.conflict})

    ledger = Ledger("deduplicate")
    ledger.num_in("images", images.num_rows)
    ledger.dropped("images", images.num_rows - usable.num_rows, "quarantined")
    ledger.num_out("images", groups.num_rows)
    ledger.num_in("labels", labels.num_rows)
    ledger.dropped("labels", changes.dropped, f"duplicates disagree, rule '{section.conflict}'")
    ledger.added("labels", changes.added, f"duplicates disagree, rule '{section.conflict}'")
    ledger.num_out("labels", resolved.num_rows)
    Workspace(params.paths).book(ledger)


def summary(groups: pa.Table, conflicts: pa.Table) -> dict:
    """Groups of two and more with their members, and the labels on which they disagree."""
    size = Counter(groups["group_id"].to_pylist())
    members: dict[str, list[str]] = {}
    for image_id, group in zip(groups["image_id"].to_pylist(), groups["group_id"].to_pylist(), strict=True):
        if size[group] > 1:
            members.setdefault(group, []).append(image_id)
    return {
        "duplicate_groups": len(members),
        "duplicate_images": sum(len(m) - 1 for m in members.values()),
        "groups": members,
        "conflicts": conflicts.to_pylist(),
    }
