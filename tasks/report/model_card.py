"""The model card: what the model is for, what it learned from, how well it works, and where it should not be trusted."""

from __future__ import annotations

from collections.abc import Sequence

from tasks.core.formatting import number
from tasks.report.page import Findings, unknown_labels
from tasks.report.variant_table import variant_messages


def render_model_card(findings: Findings, sources: Sequence[str]) -> str:
    """Markdown. Every number comes from the evaluation; nothing is claimed that was not measured."""
    protocol, metrics = findings.result["protocol"], findings.result["metrics"]
    labels = findings.result["labels"]
    weak = sorted((row["AP"], label) for label, row in labels.items() if row["AP"] is not None)[:5]
    rows = [
        f"| {_escaped(findings.display_names.get(label, label))} | {number(row['AP'])} | {number(row['precision'])} | {number(row['recall'])} "
        f"| {number(findings.thresholds['labels'][label]['threshold'])} | {row['positives']} / {row['known']} |"
        for label, row in labels.items()
    ]
    return "\n".join(
        [
            f"# {findings.title}: model card",
            "",
            f"Multi-label image classifier over {len(labels)} labels; {protocol['weights_kind']} weights, sha256 `{protocol.get('model_sha256', '')}`.",
            "",
            "## Intended use",
            "",
            "Tagging images like those it was tested on. A label is decided present when its score reaches the threshold below.",
            "A label that is not decided present is not proven absent.",
            "",
            "## Data",
            "",
            f"Sources: {', '.join(sources)}. Licences and attribution stand per image in the `images` table.",
            f"Test images: {protocol['num_images']}; {unknown_labels(protocol)}.",
            "",
            "## How well it works",
            "",
            f"mAP {number(metrics['mAP'])}, overall F1 {number(metrics['OF1'])}, per-label F1 {number(metrics['CF1'])}, "
            f"exact match {number(metrics['exact_match'])}, calibration error {number(metrics['ECE'])} (protocol `{protocol['name']}`).",
            "",
            "| label | AP | precision | recall | threshold | present / known |",
            "|---|---|---|---|---|---|",
            *rows,
            "",
            *(f"- As {name}: {message}." for name, message in variant_messages(findings.export).items()),
            *([""] if variant_messages(findings.export) else []),
            "## Limits",
            "",
            f"Weakest labels: {', '.join(f'{findings.display_names.get(h, h)} ({number(ap)})' for ap, h in weak)}.",
            *(
                [
                    f"No positive in the test images, so nothing is known of: {', '.join(protocol['labels_without_positives'])}."
                ]
                if protocol["labels_without_positives"]
                else []
            ),
            "Thresholds were fitted on the calibration images; on images of another kind they need fitting again.",
            "",
        ]
    )


def _escaped(name: str) -> str:
    """A name inside a table of Markdown, where a bar ends the column."""
    return name.replace("|", "\\|")
