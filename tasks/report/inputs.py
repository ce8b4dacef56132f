"""What the report reads besides tables and JSON documents."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

MOST_DECISIONS = 6
"""Pictures on either side of the comparison with the accepted run."""


def settings_of(model: Any, finetune: Any) -> dict[str, str]:
    """The network and how it was fine-tuned, as a person reads it: name -> text.  Both: sections of the params."""
    height, width = model.image_px
    return {
        "network": f"{model.backbone.name} with head {model.head.name}, {width} x {height} px ({model.resize})",
        "fine-tuning": f"{finetune.epochs} epochs of batches of {finetune.batch_size}, loss {finetune.loss.name}, "
        f"{finetune.optimizer.name} at {finetune.lr:g}",
    }


def learning_curve_rows(path: Path) -> list[dict[str, float | None]]:
    """Rows of learning_curves.csv with numbers, None where empty."""
    with path.open(encoding="utf-8", newline="") as file:
        return [{k: None if v == "" else float(v) for k, v in row.items()} for row in csv.DictReader(file)]


def shown_mistakes(worst: Sequence[dict], *, most: int, most_of_a_label: int) -> list[dict]:
    """Those of mistakes.json that the page shows, in its order, worst first."""
    shown, of_label = [], Counter()
    for mistake in worst:
        of_label[mistake["label"]] += 1
        if of_label[mistake["label"]] <= most_of_a_label:
            shown.append(mistake)
    return shown[:most]


def shown_decisions(change: Mapping, *, most_of_a_label: int) -> dict[str, list[dict]]:
    """Those of change.json that the page shows, {"mended" | "broken": as there}; the empty sides are left out."""
    sides = {side: of["worst"] for side, of in change["decisions"].items() if of["worst"]}
    return {
        side: shown_mistakes(worst, most=MOST_DECISIONS, most_of_a_label=most_of_a_label)
        for side, worst in sides.items()
    }


def ledger_entries(folder: Path, graph: Path = Path("dvc.yaml")) -> list[dict]:
    """Entries of the ledger in the order of the stages in dvc.yaml."""
    order = list(yaml.safe_load(graph.read_text(encoding="utf-8"))["stages"])
    entries = [json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("*.json")]
    return sorted(entries, key=lambda entry: (order.index(entry["stage"].split("@")[0]), entry["stage"]))
