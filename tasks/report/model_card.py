"""The model card: what the model is for, what it learned from, how well it works, and where it should not be trusted."""

from __future__ import annotations

from collections.abc import Sequence

from tasks.report.page import Findings, unknown_cells
from tasks.report.variant_table import variant_sentences


def render_model_card(findings: Findings, sources: Sequence[str]) -> str:
    """Markdown. Every number comes from the evaluation; nothing is claimed that was not measured."""
    protocol, metrics = findings.result["protocol"], findings.result["metrics"]
    labels = findings.result["labels"]
    weak = sorted((row["AP"], label) for label, row in labels.items() if row["AP"] is not None)[:5]
    rows = [
        f"| {_cell(findings.display_names.get(label, label))} | {_shown(row['AP'])} | {_shown(row['precision'])} | {_shown(row['recall'])} "
        f"| {_shown(findings.thresholds['labels'][label]['threshold'])} | {row['positives']} / {row['known']} |"
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
            f"Test images: {protocol['num_images']}; {unknown_cells(protocol)}.",
            "",
            "## How well it works",
            "",
            f"mAP {_shown(metrics['mAP'])}, overall F1 {_shown(metrics['OF1'])}, per-label F1 {_shown(metrics['CF1'])}, "
            f"exact match {_shown(metrics['exact_match'])}, calibration error {_shown(metrics['ECE'])} (protocol `{protocol['name']}`).",
            "",
            "| label | AP | precision | recall | threshold | present / known |",
            "|---|---|---|---|---|---|",
            *rows,
            "",
            *(f"- As {name}: {sentence}." for name, sentence in variant_sentences(findings.export).items()),
            *([""] if variant_sentences(findings.export) else []),
            "## Limits",
            "",
            f"Weakest labels: {', '.join(f'{findings.display_names.get(h, h)} ({_shown(ap)})' for ap, h in weak)}.",
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


def _cell(name: str) -> str:
    """A name inside a table of Markdown, where a bar ends the cell."""
    return name.replace("|", "\\|")


def _shown(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
