"""One self-contained HTML page and a model card from what the other stages wrote."""

from __future__ import annotations

from tasks import tracking
from tasks.core.tables import write_text
from tasks.core.workspace import Workspace
from tasks.images.shards import ShardReader
from tasks.params import Params
from tasks.report.inputs import learning_curve_rows, ledger_entries, settings_of, shown_decisions, shown_mistakes
from tasks.report.label_parts import changes_by_label, chosen_examples, origins_by_label
from tasks.report.model_card import render_model_card
from tasks.report.page import Findings, render_report
from tasks.report.pictures import data_uri


def run(params: Params) -> None:
    """Gather what the stages wrote, with pictures of the mistakes that are shown; render report and card."""
    workspace, section = Workspace(params.paths), params.report
    vocabulary, mistakes = workspace.vocabulary(), workspace.read("evaluation.mistakes")
    counts = {"most": section.worst_mistakes, "most_of_a_label": section.mistakes_of_a_label}
    worst = shown_mistakes(mistakes["worst"], **counts)
    result = workspace.read("evaluation.result")
    ap = {label: row["AP"] for label, row in result["labels"].items()}
    examples = chosen_examples(mistakes["examples"], ap, most=section.label_pictures)
    change = workspace.read("evaluation.change")
    decisions = shown_decisions(change, most_of_a_label=section.mistakes_of_a_label)
    by_label = [of_kind for kinds in examples.values() for of_kind in kinds.values()]
    shown = {entry["image_id"] for part in (worst, *decisions.values(), *by_label) for entry in part}
    reader = ShardReader(params.paths.shards)
    findings = Findings(
        title=section.title,
        result=result,
        findings=workspace.read("evaluation.findings"),
        change=change,
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
        worst=worst,
        decisions=decisions,
        examples=examples,
        origins=origins_by_label(workspace.read("cleaned.labels")),
        changes=changes_by_label(workspace.read("cleaned.changes")),
        pictures={i: data_uri(reader[reader.index[i]]) for i in sorted(shown)},
        made={"made from": tracking.commit_of_code(), **settings_of(params.model, params.finetune)},
    )
    write_text(params.paths.report, render_report(findings))
    write_text(params.paths.model_card, render_model_card(findings, list(params.sources)))
    tracking.log_files([params.paths.report, params.paths.model_card])
