"""One self-contained HTML page and a model card from what the other stages wrote."""

from __future__ import annotations

from tasks.core.tables import write_text
from tasks.core.workspace import Workspace
from tasks.images.shards import ShardReader
from tasks.params import Params
from tasks.report.inputs import learning_curve_rows, ledger_entries
from tasks.report.model_card import render_model_card
from tasks.report.page import Findings, render_report
from tasks.report.pictures import data_uri


def run(params: Params) -> None:
    """Gather what the stages wrote, with pictures of the mistakes that are shown; render report and card."""
    workspace, section = Workspace(params.paths), params.report
    vocabulary, mistakes = workspace.vocabulary(), workspace.read("evaluation.mistakes")
    shown = {mistake["image_id"] for mistake in mistakes["worst"][: section.worst_mistakes]}
    reader = ShardReader(params.paths.shards)
    findings = Findings(
        title=section.title,
        result=workspace.read("evaluation.result"),
        findings=workspace.read("evaluation.findings"),
        change=workspace.read("evaluation.change"),
        curves=workspace.read("evaluation.curves"),
        mistakes=mistakes,
        metrics=workspace.read("metrics"),
        thresholds=workspace.read("thresholds"),
        learning=learning_curve_rows(params.paths.learning_curves),
        coverage=workspace.read("coverage_report"),
        duplicates=workspace.read("duplicates_report"),
        cleaning=workspace.read("cleaning_report"),
        resampling=workspace.read("resampling_report"),
        export=workspace.read("export_report"),
        ledger=ledger_entries(params.paths.ledger),
        display_names=dict(zip(vocabulary.labels, vocabulary.display_names, strict=True)),
        pictures={image_id: data_uri(reader[reader.index[image_id]]) for image_id in sorted(shown)},
        worst_mistakes=section.worst_mistakes,
    )
    write_text(params.paths.report, render_report(findings))
    write_text(params.paths.model_card, render_model_card(findings, list(params.sources)))
