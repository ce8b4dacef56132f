"""One self-contained HTML page and a model card from what the other stages wrote."""

from __future__ import annotations

import csv
import json

import yaml

from tasks.core import tables
from tasks.core.workspace import Workspace
from tasks.images.shards import ShardReader
from tasks.params import Params
from tasks.report.model_card import render_model_card
from tasks.report.page import Findings, render_page
from tasks.report.pictures import data_uri


def run(params: Params) -> None:
    """Gather the findings, render page and card."""
    findings = gather(params)
    tables.write_text(params.paths.report, render_page(findings))
    tables.write_text(params.paths.model_card, render_model_card(findings, list(params.sources)))


def gather(params: Params) -> Findings:
    """Everything the page shows; pictures only of the mistakes that it shows."""
    paths, words = params.paths, Workspace(params.paths).vocabulary()
    mistakes = tables.read_json(paths.evaluation / "mistakes.json")
    reader = ShardReader(paths.shards)
    shown = {m["image_id"] for m in mistakes["worst"][: params.report.worst_mistakes]}
    return Findings(
        title=params.report.title,
        result=tables.read_json(paths.evaluation / "result.json"),
        findings=tables.read_json(paths.evaluation / "findings.json"),
        change=tables.read_json(paths.evaluation / "change.json"),
        curves=tables.read_json(paths.evaluation / "curves.json"),
        mistakes=mistakes,
        metrics=tables.read_json(paths.metrics),
        thresholds=tables.read_json(paths.thresholds),
        learning=read_learning_curves(params),
        coverage=tables.read_json(paths.coverage_report),
        duplicates=tables.read_json(paths.duplicates_report),
        cleaning=tables.read_json(paths.cleaning_report),
        resampling=tables.read_json(paths.resampling_report),
        export=tables.read_json(paths.export_report),
        ledger=ledger_entries(params),
        display_names=dict(zip(words.labels, words.display_names, strict=True)),
        pictures={i: data_uri(reader[reader.index[i]]) for i in sorted(shown)},
        worst_mistakes=params.report.worst_mistakes,
    )


def read_learning_curves(params: Params) -> list[dict]:
    """Rows of the CSV with numbers, None where empty."""
    with params.paths.learning_curves.open(encoding="utf-8", newline="") as file:
        return [{k: None if v == "" else float(v) for k, v in row.items()} for row in csv.DictReader(file)]


def ledger_entries(params: Params) -> list[dict]:
    """Entries in the order of dvc.yaml."""
    with open("dvc.yaml", encoding="utf-8") as file:
        order = list(yaml.safe_load(file)["stages"])
    entries = [json.loads(p.read_text(encoding="utf-8")) for p in params.paths.ledger.glob("*.json")]
    return sorted(entries, key=lambda e: (order.index(e["stage"].split("@")[0]), e["stage"]))
