"""Tables of the page that judge the run: against the accepted one, by slice, under each protocol, drift, relations.

A table is {"title", "note", "columns", "rows"}; a cell is {"shown", "bar", "tone", "text"}: bar in [0, 1] or None, tone a
class of the style sheet, text true for what is read rather than compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

METRIC_NAMES = {
    "mAP": "mAP",
    "OF1": "F1 overall",
    "OP": "precision overall",
    "OR": "recall overall",
    "CF1": "F1 per label",
    "CP": "precision per label",
    "CR": "recall per label",
    "image_F1": "F1 per image",
    "exact_match": "exact match",
    "hamming_accuracy": "cells right",
    "top3_OF1": "top 3 OF1",
    "top3_CF1": "top 3 CF1",
    "ROC_AUC": "ROC-AUC",
    "ECE": "calibration error",
    "brier": "Brier score",
}
"""In the order of the page; JSON keeps none."""

MOST_LABELS = 8
"""Labels listed on either side of a comparison, and in the table of drift."""


def cell(shown: str, *, bar: float | None = None, tone: str = "", text: bool = False) -> dict:
    """One cell; see the module docstring."""
    return {"shown": shown, "bar": bar, "tone": tone, "text": text}


def number(value: float | None, digits: int = 3) -> str:
    """A figure as the page shows it, a dash where undefined."""
    return "–" if value is None else f"{value:.{digits}f}"


def in_order(metrics: Mapping) -> list[str]:
    """The names of METRIC_NAMES that are there."""
    return [name for name in METRIC_NAMES if name in metrics]


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[dict]], *, note: str = "") -> dict:
    """A table for the template; it shows none that has no rows."""
    return {"title": title, "note": note, "columns": list(columns), "rows": [list(row) for row in rows]}


# ---------------------------------------------------------------- what changed


def change_sentence(change: Mapping) -> str:
    """How the run was held against the accepted one, or why it was not."""
    if change["how"] == "nothing accepted":
        return f"No run was accepted yet, so there is nothing to compare with; {change['why'].replace('`', '')}."
    if change["how"] == "paired":
        return (
            "The accepted model was judged anew on the same images, labels and protocol. Intervals are 95 % and paired: what "
            "both models find hard cancels out. A coloured difference is larger than chance."
        )
    if change["how"] == "as written":
        return f"Figures as they were written when the run was accepted ({change['why']}); there are no intervals."
    return f"This run cannot be held against the accepted one: {change['why']}."


def change_tables(change: Mapping, names: Mapping[str, str]) -> list[dict]:
    """Headline metrics before and now, the labels that moved most, and the settings that differ."""
    columns = ["", "accepted", "now", "difference", "95 %"]
    by_difference = sorted(
        (row["difference"], label) for label, row in change["labels"].items() if row["difference"] not in (None, 0)
    )
    moved = [*by_difference[:MOST_LABELS], *by_difference[MOST_LABELS:][-MOST_LABELS:]]
    labels = [_changed(names.get(label, label), change["labels"][label]) for _, label in reversed(moved)]
    settings = [
        [cell(entry["name"].replace("_", " ")), *(cell(_short(entry[side]), text=True) for side in ("before", "now"))]
        for entry in change["settings"]
    ]
    return [
        table(
            "Headline",
            columns,
            [_changed(METRIC_NAMES[name], change["metrics"][name]) for name in in_order(change["metrics"])],
        ),
        table(
            "Labels that moved most",
            columns,
            labels,
            note="Average precision. Of many labels some 5 % look different by luck alone.",
        ),
        table("What differs in the making", ["", "accepted", "now"], settings),
    ]


def _changed(name: str, row: Mapping) -> list[dict]:
    low, high = row["low"], row["high"]
    sure = low is not None and (low > 0 or high < 0)
    better = (row["difference"] or 0) > 0
    tone = ("good" if better else "bad") if sure else ""
    return [
        cell(name),
        cell(number(row["before"])),
        cell(number(row["now"])),
        cell(_signed(row["difference"]), tone=tone),
        cell("" if low is None else f"{_signed(low)} to {_signed(high)}"),
    ]


def _signed(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:+.3f}".replace("-", "−") if abs(value) >= 0.0005 else "0.000"


def _short(value: object) -> str:
    text = "–" if value is None else str(value)
    return text[:12] if len(text) == 64 else text  # a hash


# ---------------------------------------------------------------- slices, protocols, drift, relations


def slice_table(slices: Sequence[Mapping]) -> dict:
    """One row a slice; a property that cuts nothing (all images in one band) is left out."""
    cut = [by for by in dict.fromkeys(s["by"] for s in slices) if sum(s["by"] == by for s in slices) > 1]
    rows = [
        [
            cell(s["by"]),
            cell(s["value"], text=True),
            *(cell(f"{s[name]:,}") for name in ("images", "labels", "positives")),
            *(cell(number(s["metrics"][name]), bar=s["metrics"][name]) for name in ("mAP", "OP", "OR", "OF1", "CF1")),
        ]
        for by in cut
        for s in slices
        if s["by"] == by
    ]
    columns = [
        "property",
        "value",
        "images",
        "labels",
        "present",
        "mAP",
        "precision",
        "recall",
        "F1 overall",
        "F1 per label",
    ]
    return table("", columns, rows)


def protocol_table(under_protocols: Mapping[str, Mapping], asked: str) -> dict:
    """Metrics down, protocols across: ours, then the one that was asked for, then the others."""
    order = [name for name in dict.fromkeys(["tagwright", asked, *sorted(under_protocols)]) if name in under_protocols]
    heads = [f"{name} (asked)" if name == asked else name for name in order]
    metrics = in_order(next(iter(under_protocols.values()), {}))
    rows = [
        [
            cell(METRIC_NAMES[metric]),
            *(cell(number(under_protocols[name][metric]), tone="strong" if name == asked else "") for name in order),
        ]
        for metric in metrics
    ]
    return table("", ["", *heads], rows)


def drift_sentence(drift: Mapping[str, Mapping], reference: str, partition: str) -> str:
    """How many labels drifted, and what that means."""
    notable = sum(row["notable"] for row in drift.values())
    found = f"{notable} of {len(drift)} labels" if notable else f"None of the {len(drift)} labels"
    return (
        f"{found} drifted between the {reference} images, which the thresholds were fitted on, and the {partition} images. "
        "PSI sums (q − p) ln(q / p) over ten bins of the score; a label drifts when it exceeds 0.1 and what luck gives "
        "for so few images. KS is the largest distance of the two distributions."
    )


def drift_table(drift: Mapping[str, Mapping], names: Mapping[str, str]) -> dict:
    """The labels whose scores moved most."""
    worst = sorted(drift, key=lambda label: (-drift[label]["PSI"], label))[:MOST_LABELS]
    rows = [
        [
            cell(names.get(label, label)),
            cell(number(drift[label]["PSI"]), tone="warn" if drift[label]["notable"] else ""),
            cell(number(drift[label]["PSI_by_chance"])),
            cell(number(drift[label]["KS"])),
            *(cell(f"{100 * drift[label][side]:.1f} %") for side in ("predicted_before", "predicted")),
        ]
        for label in worst
    ]
    return table("", ["label", "PSI", "by luck", "KS", "predicted before", "predicted now"], rows)


def switch_tables(findings: Mapping) -> list[dict]:
    """What relations and calibrated probabilities change, each on and off."""
    switches = (
        ("relations", ("off", "implied scores", "rules on decisions"), "Relations",
         "The same scores and thresholds with and without the taxonomy's implications and exclusions."),
        ("fusion", ("off", "on"), "Detector", "The model alone, and with the detector's scores for the labels that the taxonomy names."),
        ("probabilities", ("before", "after"), "Calibrated probabilities", "Of single scores; lower is better."),
    )  # fmt: skip
    tables = []
    for key, states, title, note in switches:
        found = findings[key]
        metrics = in_order(found[states[0]]) if found else []
        rows = [[cell(state), *(cell(number(found[state][m], 4)) for m in metrics)] for state in states if found]
        tables.append(table(title, ["", *(METRIC_NAMES[m] for m in metrics)], rows, note=note))
    return tables


def confused_tables(mistakes: Mapping, names: Mapping[str, str], *, most: int = 10) -> list[dict]:
    """Labels taken for one another, and pairs that are predicted together more or less often than they stand together."""
    confused = [
        [
            cell(names.get(pair["missed"], pair["missed"])),
            cell(names.get(pair["taken_for"], pair["taken_for"]), text=True),
            cell(str(pair["images"])),
            cell(f"{100 * pair['share_of_missed']:.0f} %"),
        ]
        for pair in mistakes["confused"][:most]
    ]
    together = [
        [
            cell(names.get(pair["a"], pair["a"])),
            cell(names.get(pair["b"], pair["b"]), text=True),
            cell(str(pair["together"])),
            cell(str(pair["predicted"])),
        ]
        for pair in mistakes["together"][:most]
    ]
    return [
        table("Taken for one another", ["missed", "taken for", "images", "of the missed"], confused),
        table("Seen together", ["label", "and", "images", "predicted"], together),
    ]
