"""What the report reads besides tables and JSON documents."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import yaml


def learning_curve_rows(path: Path) -> list[dict[str, float | None]]:
    """Rows of learning_curves.csv with numbers, None where empty."""
    with path.open(encoding="utf-8", newline="") as file:
        return [{k: None if v == "" else float(v) for k, v in row.items()} for row in csv.DictReader(file)]


def ledger_entries(folder: Path, graph: Path = Path("dvc.yaml")) -> list[dict]:
    """Entries of the ledger in the order of the stages in dvc.yaml."""
    order = list(yaml.safe_load(graph.read_text(encoding="utf-8"))["stages"])
    entries = [json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("*.json")]
    return sorted(entries, key=lambda entry: (order.index(entry["stage"].split("@")[0]), entry["stage"]))
