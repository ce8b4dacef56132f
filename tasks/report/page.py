"""What the report says: figures and tables from the stages' files, rendered through page.html.j2.

Every name from the data goes through the template's escaping; only our own SVG is inserted as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader

from tasks.core.formatting import interval, number, percent
from tasks.report import figures, judgement
from tasks.report.cleaning_table import cleaning_table
from tasks.report.label_parts import label_parts, part_id
from tasks.report.variant_table import variant_messages

SECTIONS = (
    ("change", "What changed"),
    ("labels", "Labels"),
    ("slices", "Slices"),
    ("curves", "Curves"),
    ("mistakes", "Worst mistakes"),
    ("protocols", "Protocols"),
    ("drift", "Drift"),
    ("data", "Data"),
    ("ledger", "Ledger"),
    ("provenance", "Provenance"),
)


@dataclass(frozen=True)
class Findings:
    """Everything the page shows, as the stages wrote it.

    result, findings, change, curves, mistakes: the JSON files of that name under evaluation/.
    metrics: metrics.json.  thresholds: thresholds.json.  learning: rows of learning_curves.csv.
    coverage, duplicates, cleaning, resampling, export: the stages' reports.  ledger: entries in stage order.
    display_names: label id -> name shown.
    worst, decisions, examples: mistakes and changed decisions that are shown, and examples of each label.  pictures: image id -> data URI, of these.
    origins, changes: where each label's rows came from, what cleaning changed (tasks/report/label_parts.py).
    made: what made the model and this page, by name.
    """

    title: str
    result: dict
    findings: dict
    change: dict
    curves: dict
    mistakes: dict
    metrics: dict
    thresholds: dict
    learning: Sequence[dict]
    coverage: dict
    duplicates: dict
    cleaning: dict
    resampling: dict
    export: dict
    ledger: Sequence[dict]
    display_names: Mapping[str, str]
    worst: Sequence[dict]
    decisions: Mapping[str, Sequence[dict]]
    examples: Mapping[str, Mapping[str, Sequence[dict]]]
    origins: Mapping[str, Sequence[tuple]]
    changes: Mapping[str, Sequence[tuple]]
    pictures: Mapping[str, str]
    made: Mapping[str, str]


def render_report(findings: Findings) -> str:
    """The page as one HTML string that needs nothing else."""
    environment = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True)
    protocol, drift = findings.result["protocol"], findings.findings["drift"]
    rows = findings.result["labels"].items()
    label_rows = [_label_row(findings, label, row, part_id(position)) for position, (label, row) in enumerate(rows)]
    return environment.get_template("page.html.j2").render(
        title=findings.title,
        lead=_lead(findings),
        sections=SECTIONS,
        cards=_cards(findings),
        protocol_message=protocol_message(protocol),
        partition=protocol.get("partition", "test"),
        change_message=judgement.change_message(findings.change),
        change_tables=judgement.change_tables(findings.change, findings.display_names),
        change_pictures=judgement.change_pictures(
            findings.change, findings.decisions, findings.pictures, findings.display_names
        ),
        slices=judgement.slice_table(findings.findings["slices"]),
        protocols=judgement.protocol_table(findings.findings["under_protocols"], protocol["name"]),
        drift_message=judgement.drift_message(drift, findings.findings["drift_from"], protocol["partition"]),
        drift=judgement.drift_table(drift, findings.display_names),
        switches=judgement.switch_tables(findings.findings),
        label_columns=LABEL_COLUMNS,
        label_rows=label_rows,
        label_parts=label_parts(
            findings.result,
            thresholds=findings.thresholds,
            curves=findings.curves["labels"],
            confused=findings.mistakes["confused"],
            change=findings.change,
            examples=findings.examples,
            pictures=findings.pictures,
            origins=findings.origins,
            changes=findings.changes,
            names=findings.display_names,
        ),
        curves=_curve_figures(findings),
        shots=_shots(findings),
        confused=judgement.confused_tables(findings.mistakes, findings.display_names),
        data_message=_data_message(findings),
        data_figures=_data_figures(findings),
        data_tables=_data_tables(findings),
        ledger=_ledger_rows(findings.ledger),
        provenance=_provenance(findings),
    )


# ---------------------------------------------------------------- headline


def _cards(findings: Findings) -> list[dict]:
    metrics, untuned = findings.result["metrics"], findings.result["untuned_metrics"]
    intervals = findings.result.get("intervals", {}).get("metrics", {})
    cards = []
    for name, title in (
        ("mAP", "mAP"),
        ("OF1", "F1 overall"),
        ("CF1", "F1 per label"),
        ("image_F1", "F1 per image"),
        ("exact_match", "Exact match"),
        ("ECE", "Calibration error"),
    ):
        detail = interval(intervals.get(name), of=metrics[name])
        if name == "mAP" and (why := findings.result.get("intervals", {}).get("why", {}).get(name)):
            detail = f"no interval: {why}"
        if name in ("OF1", "CF1", "image_F1"):
            detail = f"{number(untuned[name])} at threshold 0.5"
        cards.append({"name": title, "value": number(metrics[name]), "detail": detail})
    cleaning = findings.metrics.get("cleaning") or {}
    if cleaning:
        detail = f"of {cleaning['planted']} planted errors, at precision {number(cleaning['precision'], 2)}"
        cards.append({"name": "Errors repaired", "value": percent(cleaning["recall"]), "detail": detail})
    return cards


def _lead(findings: Findings) -> str:
    protocol = findings.result["protocol"]
    without = len(protocol["labels_without_positives"])
    seen = f", {without} of them without a positive," if without else ""
    return (
        f"{protocol['num_labels']} labels{seen} on {protocol['num_images']:,} {protocol.get('partition', 'test')} images, "
        f"{protocol['weights_kind']} weights, model {protocol.get('model_sha256', '')[:12]}."
    )


# What a protocol does, by the values of its fields.
ABSENT_LABELS = {
    "excluded": "left out of the means",
    "zero": "counted as 0 in the means",
    "undefined": "which leave the means undefined",
}
UNKNOWN_LABELS = {"ignored": "left out", "absent": "counted as negatives", "present": "counted as positives"}


def protocol_message(protocol: dict) -> str:
    """How the figures were measured, in one line of the page. protocol: stamp of the result."""
    absent = protocol["labels_without_positives"]
    fate = ABSENT_LABELS[protocol["absent_labels"]]
    listed = f" Labels without a positive here, {fate}: {', '.join(absent[:12])}." if absent else ""
    return (
        f"Measured under protocol “{protocol['name']}”: average precision over {protocol['average_precision'].replace('_', ' ')}, "
        f"{unknown_labels(protocol)}, thresholds by {protocol['threshold_rule']}. Intervals are 95 %, resampling whole duplicate groups.{listed}"
    )


def unknown_labels(protocol: Mapping) -> str:
    """What the protocol of a result makes of unknown (image, label) pairs, as a part of a message."""
    in_ap, in_f1 = (UNKNOWN_LABELS[protocol[field]] for field in ("unknown_in_ap", "unknown_in_f1"))
    if in_ap == in_f1:
        return f"unknown labels are {in_ap}"
    return f"unknown labels are {in_ap} in average precision and {in_f1} in precision, recall and F1"


# ---------------------------------------------------------------- labels

LABEL_COLUMNS = [
    {"name": "label", "kind": "text", "title": "label"},
    {"name": "AP", "kind": "number", "title": "average precision"},
    {"name": "95 %", "kind": "text", "title": "interval of the average precision"},
    {"name": "precision", "kind": "number", "title": "at the label's threshold"},
    {"name": "recall", "kind": "number", "title": "at the label's threshold"},
    {"name": "F1", "kind": "number", "title": "at the label's threshold"},
    {"name": "threshold", "kind": "number", "title": "decided present at or above it"},
    {"name": "its 95 %", "kind": "text", "title": "interval of the threshold"},
    {"name": "present", "kind": "number", "title": "positives / known labels in this partition"},
    {"name": "note", "kind": "text", "title": "why the threshold is not the label's own"},
]


def _label_row(findings: Findings, label: str, row: dict, part: str) -> list[dict]:
    threshold = findings.thresholds["labels"][label]
    ap_interval = findings.result.get("intervals", {}).get("labels", {}).get(label, {}).get("AP")
    return [
        {**_label_td(findings.display_names.get(label, label), text=True), "href": part},
        _label_td(row["AP"], bar=True),
        _label_td(interval(ap_interval), text=True),
        _label_td(row["precision"], bar=True),
        _label_td(row["recall"], bar=True),
        _label_td(row["F1"], bar=True),
        _label_td(threshold["threshold"]),
        _label_td(interval([threshold.get("low"), threshold.get("high")]), text=True),
        {"shown": f"{row['positives']} / {row['known']}", "sort": row["positives"], "bar": None, "text": False},
        _label_td(threshold.get("reason") or "", text=True),
    ]


def _label_td(value: float | str | None, *, bar: bool = False, text: bool = False) -> dict:
    shown = value if text else number(value)
    return {
        "shown": shown,
        "sort": "" if value is None else value,
        "bar": value if bar and value is not None else None,
        "text": text,
    }


# ---------------------------------------------------------------- figures


def _curve_figures(findings: Findings) -> list[dict]:
    ap = {findings.display_names.get(h, h): row["AP"] for h, row in findings.result["labels"].items()}
    named = {findings.display_names.get(h, h): curve for h, curve in findings.curves["labels"].items()}
    shown = [
        (
            figures.precision_recall(named, findings.curves["overall"], ap),
            "Precision and recall; thin lines are the labels with the lowest average precision.",
        ),
        (
            figures.reliability(findings.curves["reliability"]),
            "Reliability: how often a score of that size is right. On the dashed line a score is a probability.",
        ),
        (figures.learning_curve(findings.learning), "Learning curve of the fine-tuning."),
    ]
    return [{"svg": svg, "caption": caption} for svg, caption in shown if svg]


def _data_figures(findings: Findings) -> list[dict]:
    names = findings.display_names
    rows = [{**row, "label": names.get(row["label"], row["label"])} for row in findings.resampling["labels"]]
    co = findings.resampling["cooccurrence"]
    shown = [
        (
            figures.resampling(rows),
            "Resampling: share of training images that carry a label, as they are and with images repeated by r(I).",
        ),
        (
            figures.cooccurrence([names.get(h, h) for h in co["labels"]], co["conditional"]),
            "Co-occurrence in training: how often the column's label is present where the row's is.",
        ),
    ]
    return [{"svg": svg, "caption": caption} for svg, caption in shown if svg]


# ---------------------------------------------------------------- mistakes, data, ledger, provenance


def _shots(findings: Findings) -> list[dict]:
    shots = []
    for mistake in findings.worst:
        if mistake["image_id"] not in findings.pictures:
            continue
        label = findings.display_names.get(mistake["label"], mistake["label"])
        threshold = mistake["threshold"]
        shots.append(
            {
                "src": findings.pictures[mistake["image_id"]],
                "alt": f"{mistake['kind']}: {label} on {mistake['image_id']}",
                "kind": "claimed, not there" if mistake["kind"] == "false positive" else "there, missed",
                "tone": "bad" if mistake["kind"] == "false positive" else "warn",
                "label": label,
                "score": f"{mistake['score']:.2f}"
                + (", never predicted" if threshold is None else f" against {threshold:.2f}"),
                "image_id": mistake["image_id"],
            }
        )
    return shots


def _data_message(findings: Findings) -> str:
    duplicates, cleaning = findings.duplicates, findings.cleaning
    done = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in cleaning["actions"].items())
    return (
        f"{duplicates['duplicate_images']} images are copies of another, in {duplicates['duplicate_groups']} groups; no group crosses a split. "
        f"Cleaning by {cleaning['policy']}: {done}; {cleaning['queue']:,} questions wait for a person."
        + "".join(f" Cleaning {message}." for message in cleaning.get("messages", ()))
    )


def _data_tables(findings: Findings) -> list[dict]:
    rows = [
        [
            judgement.td(source),
            judgement.td(name if name == shown else f"{name} ({shown})", text=True),
            judgement.td(f"{u['rows']:,}"),
            judgement.td(", ".join(u["nearest"]), text=True),
        ]
        for source, report in findings.coverage["sources"].items()
        for u in report["unmapped"]
        for name, shown in [(u["name"], u["display_name"])]
    ]
    title = f"Source labels without a place in the taxonomy ({len(rows)})"
    unmapped = judgement.table(title, ["source", "label", "rows", "nearest"], rows)
    return [cleaning_table(findings.cleaning, findings.display_names), unmapped]


def _ledger_rows(entries: Sequence[dict]) -> list[dict]:
    rows = []
    for entry in entries:
        for unit, books in entry["units"].items():
            why = [f"{count:,} {reason}" for reason, count in {**books["dropped"], **books["added"]}.items()]
            rows.append(
                {
                    "stage": entry["stage"],
                    "unit": unit,
                    "num_in": f"{books['in']:,}",
                    "added": f"{sum(books['added'].values()):,}",
                    "dropped": f"{sum(books['dropped'].values()):,}",
                    "num_out": f"{books['out']:,}",
                    "why": "; ".join([*why, *entry["notes"]]),
                }
            )
        if not entry["units"]:
            rows.append(
                {
                    "stage": entry["stage"],
                    "unit": "",
                    "num_in": "",
                    "added": "",
                    "dropped": "",
                    "num_out": "",
                    "why": "; ".join(entry["notes"]),
                }
            )
    return rows


def _provenance(findings: Findings) -> list[tuple[str, str]]:
    export = {f"export {key}": value for key, value in findings.export.items() if not isinstance(value, (dict, list))}
    export |= {f"export {name}": message for name, message in variant_messages(findings.export).items()}
    protocol = {
        key: ", ".join(value) if isinstance(value, list) else value
        for key, value in findings.result["protocol"].items()
    }
    return [
        (key.replace("_", " "), "–" if value in ("", None) else str(value))
        for key, value in {**findings.made, **protocol, **export}.items()
    ]
