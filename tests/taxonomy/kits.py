"""Small builders, a plain restatement of the propagation rules, and the Open Images kit."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa

from tasks.core.tables import LABELS, UNKNOWN
from tasks.taxonomy.taxonomy import Taxonomy


def label_rows(rows: Iterable[tuple]) -> pa.Table:
    """LABELS of (image_id, label, state[, confidence[, origin]])."""
    filled = [(*row, *(1.0, "annotation")[len(row) - 3 :]) for row in rows]
    return pa.Table.from_pylist([dict(zip(LABELS.names, row, strict=True)) for row in filled], schema=LABELS)


def unknown_rows(pairs: Iterable[tuple[str, str]]) -> pa.Table:
    """UNKNOWN of (image_id, label)."""
    return pa.Table.from_pylist([{"image_id": i, "label": label} for i, label in pairs], schema=UNKNOWN)


def states(labels: pa.Table) -> dict[tuple[str, str], int]:
    """(image_id, label) -> state; fails when a pair has two rows."""
    pairs = list(zip(labels["image_id"].to_pylist(), labels["label"].to_pylist(), strict=True))
    assert len(set(pairs)) == len(pairs), "a pair has two rows"
    return dict(zip(pairs, labels["state"].to_pylist(), strict=True))


def pairs_of(table: pa.Table) -> set[tuple[str, str]]:
    """The (image_id, label) pairs of a table."""
    return set(zip(table["image_id"].to_pylist(), table["label"].to_pylist(), strict=True))


def resolved(stated: dict[str, set[int]], marked: set[str], taxonomy: Taxonomy) -> dict[str, int | None]:
    """The rules of tasks/taxonomy/propagation.py for one image, by label: 1, 0 or None (unknown)."""
    agreed = {label: min(given) for label, given in stated.items() if len(given) == 1}
    up = {a for label, state in agreed.items() if state == 1 for a in taxonomy.ancestors[label]}
    down = {d for label, state in agreed.items() if state == 0 for d in taxonomy.descendants[label]}
    unclear = ({label for label, given in stated.items() if len(given) == 2} | marked) - agreed.keys()
    open_labels = marked | unclear | {a for label in unclear for a in taxonomy.ancestors[label]}

    def state(label: str) -> int | None:
        if label in agreed:
            return agreed[label]
        if label in up:
            return None if label in down else 1
        if label in down and label not in open_labels and not stated.get(label):
            return 0
        return None

    for label in reversed(taxonomy.parents_first):
        if taxonomy[label].exhaustive_children and all(state(child) == 0 for child in taxonomy.children[label]):
            down.add(label)
    touched = stated.keys() | up | down | open_labels
    return {label: state(label) for label in touched}


def open_images(real_data: Path) -> tuple[dict[str, set[str]], dict[str, str]]:
    """The boxable hierarchy (child -> parents, Subcategory only) and the class descriptions."""
    folder = real_data / "openimages"
    parents: dict[str, set[str]] = {}

    def walk(node: dict, parent: str | None) -> None:
        parents.setdefault(node["LabelName"], set()).update([parent] if parent else [])
        for child in node.get("Subcategory", []):
            walk(child, node["LabelName"])

    walk(json.loads((folder / "bbox_labels_600_hierarchy.json").read_text()), None)
    with open(folder / "oidv6-class-descriptions.csv", newline="") as file:
        names = {row[0]: row[1] for row in list(csv.reader(file))[1:]}
    return parents, names
