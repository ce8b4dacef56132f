"""Tables of the report about the run: against the accepted one, by slice, under each protocol, drift, relations.

A table is {"title", "note", "columns", "rows"}; a row holds one {"shown", "bar", "tone", "text"} a column: bar in
[0, 1] or None, tone a class of the style sheet, text true for what is read rather than compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tasks.core.formatting import number, percent, signed

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
    "hamming_accuracy": "Hamming accuracy",
    "top3_OF1": "top 3 OF1",
    "top3_CF1": "top 3 CF1",
    "ROC_AUC": "ROC-AUC",
    "ECE": "calibration error",
    "brier": "Brier score",
}
"""In the order of the page; JSON keeps none."""

FEW_IMAGES = 30
"""Below that, one image moves a share by more than 3 points."""

MOST_LABELS = 8
"""Labels listed on either side of a comparison, and in the table of drift."""


def td(shown: str, *, bar: float | None = None, tone: str = "", text: bool = False) -> dict:
    """One entry of a table; see the module docstring."""
    return {"shown": shown, "bar": bar, "tone": tone, "text": text}


def in_order(metrics: Mapping) -> list[str]:
    """The names of METRIC_NAMES that are there."""
    return [name for name in METRIC_NAMES if name in metrics]


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[dict]], *, note: str = "") -> dict:
    """A table for the template; it shows none that has no rows."""
    return {"title": title, "note": note, "columns": list(columns), "rows": [list(row) for row in rows]}


# ---------------------------------------------------------------- what changed


def change_message(change: Mapping) -> str:
    """How the run was compared with the accepted one, or why it was not."""
    if change["how"] == "nothing accepted":
        return f"No run was accepted yet, so there is nothing to compare with; {change['why'].replace('`', '')}."
    if change["how"] == "paired":
        return (
            "The accepted model was evaluated again on the same images, labels and protocol. Intervals are 95 % and "
            "paired: what both models find hard cancels out. A coloured difference is larger than chance."
        )
    if change["how"] == "as written":
        return f"Figures as they were written when the run was accepted ({change['why']}); there are no intervals."
    return f"This run cannot be compared with the accepted one: {change['why']}."


def change_tables(change: Mapping, names: Mapping[str, str]) -> list[dict]:
    """Headline metrics before and now, the labels that moved most, and the settings that differ."""
    columns = ["accepted", "now", "difference", "95 %"]
    by_difference = sorted(
        (row["difference"], label) for label, row in change["labels"].items() if row["difference"] not in (None, 0)
    )
    moved = [*by_difference[:MOST_LABELS], *by_difference[MOST_LABELS:][-MOST_LABELS:]]
    labels = [_changed(names.get(label, label), change["labels"][label]) for _, label in reversed(moved)]
    settings = [
        [td(entry["name"].replace("_", " ")), *(td(_short(entry[side]), text=True) for side in ("before", "now"))]
        for entry in change["settings"]
    ]
    return [
        table(
            "Headline",
            ["metric", *columns],
            [_changed(METRIC_NAMES[name], change["metrics"][name]) for name in in_order(change["metrics"])],
        ),
        table(
            "Labels that moved most",
            ["label", *columns],
            labels,
            note="Average precision. Of many labels some 5 % look different by chance.",
        ),
        table("What differs in the making", ["setting", "accepted", "now"], settings),
    ]


SIDES = {"mended": "Wrong in the accepted run, right now", "broken": "Right in the accepted run, wrong now"}


def change_pictures(
    change: Mapping, decisions: Mapping[str, Sequence[Mapping]], pictures: Mapping[str, str], names: Mapping[str, str]
) -> list[dict]:
    """The two sides of what changed, for the template: {"title", "shots"}, a shot with the scores of both runs.

    decisions: of `shown_decisions`.  pictures: image id -> data URI.  names: label -> name shown.
    """
    return [
        {
            "title": f"{title} ({change['decisions'][side]['num']:,})",
            "shots": [
                {
                    "src": pictures[shot["image_id"]],
                    "label": names.get(shot["label"], shot["label"]),
                    "is": "there" if shot["truth"] else "not there",
                    "before": number(shot["before"], 2),
                    "now": number(shot["now"], 2),
                    "tone": "good" if side == "mended" else "bad",
                    "image_id": shot["image_id"],
                }
                for shot in decisions.get(side, ())
                if shot["image_id"] in pictures
            ],
        }
        for side, title in SIDES.items()
        if side in change["decisions"]
    ]


def _changed(name: str, row: Mapping) -> list[dict]:
    low, high = row["low"], row["high"]
    sure = low is not None and (low > 0 or high < 0)
    better = (row["difference"] or 0) > 0
    tone = ("good" if better else "bad") if sure else ""
    return [
        td(name),
        *(td(number(row[side]), bar=row[side]) for side in ("before", "now")),
        td(signed(row["difference"]), tone=tone),
        td("" if low is None else f"{signed(low)} to {signed(high)}"),
    ]


def _short(value: object) -> str:
    text = "–" if value is None else str(value)
    return text[:12] if len(text) == 64 else text  # a hash


# ---------------------------------------------------------------- slices, protocols, drift, relations


def slice_table(slices: Sequence[Mapping]) -> dict:
    """One row a slice; a property with a single value (all images in one band) is left out.

    The count of a slice of fewer than FEW_IMAGES stands out, and a note says why.
    """
    shown = [by for by in dict.fromkeys(s["by"] for s in slices) if sum(s["by"] == by for s in slices) > 1]
    rows = [
        [
            td(s["by"]),
            td(s["value"], text=True),
            td(f"{s['images']:,}", tone="warn" if s["images"] < FEW_IMAGES else ""),
            *(td(f"{s[name]:,}") for name in ("labels", "positives")),
            *(td(number(s["metrics"][name]), bar=s["metrics"][name]) for name in ("mAP", "OP", "OR", "OF1", "CF1")),
        ]
        for by in shown
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
    few = sum(s["images"] < FEW_IMAGES for s in slices if s["by"] in shown)
    note = f"Of fewer than {FEW_IMAGES} images, so that chance decides: {few} of {len(rows)} slices." if few else ""
    return table("", columns, rows, note=note)


def protocol_table(under_protocols: Mapping[str, Mapping], chosen: str) -> dict:
    """Metrics down, protocols across: ours, then the chosen one, then the others."""
    order = [name for name in dict.fromkeys(["tagwright", chosen, *sorted(under_protocols)]) if name in under_protocols]
    heads = [f"{name} (chosen)" if name == chosen else name for name in order]
    metrics = in_order(next(iter(under_protocols.values()), {}))
    rows = [
        [
            td(METRIC_NAMES[metric]),
            *(td(number(under_protocols[name][metric]), tone="strong" if name == chosen else "") for name in order),
        ]
        for metric in metrics
    ]
    return table("", ["metric", *heads], rows)


def drift_message(drift: Mapping[str, Mapping], reference: str, partition: str) -> str:
    """How many labels drifted, and what that means."""
    notable = sum(row["notable"] for row in drift.values())
    drifted = f"{notable} of {len(drift)} labels" if notable else f"None of the {len(drift)} labels"
    return (
        f"{drifted} drifted between the {reference} images, which the thresholds were fitted on, and the {partition} images. "
        "PSI sums (q − p) ln(q / p) over ten bins of the score; a label drifts when it exceeds 0.1 and what chance "
        "gives for so few images. KS is the largest distance of the two distributions."
    )


def drift_table(drift: Mapping[str, Mapping], names: Mapping[str, str]) -> dict:
    """The labels whose scores moved most."""
    worst = sorted(drift, key=lambda label: (-drift[label]["PSI"], label))[:MOST_LABELS]
    rows = [
        [
            td(names.get(label, label)),
            td(number(drift[label]["PSI"]), tone="warn" if drift[label]["notable"] else ""),
            td(number(drift[label]["PSI_by_chance"])),
            td(number(drift[label]["KS"])),
            *(td(percent(drift[label][side], 1)) for side in ("predicted_before", "predicted")),
        ]
        for label in worst
    ]
    return table("", ["label", "PSI", "by chance", "KS", "predicted before", "predicted now"], rows)


def switch_tables(findings: Mapping) -> list[dict]:
    """What relations, a detector and probability calibration change, each on and off."""
    switches = (
        ("relations", ("off", "implied scores", "rules on decisions"), "Relations",
         "The same scores and thresholds with and without the taxonomy's implications and exclusions."),
        ("fusion", ("off", "on"), "Detector", "The model alone, and with the detector's scores for the labels that the taxonomy names."),
        ("probabilities", ("before", "after"), "Probability calibration", "Of single scores; lower is better."),
    )  # fmt: skip
    tables = []
    for key, states, title, note in switches:
        effect = findings[key]
        metrics = in_order(effect[states[0]]) if effect else []
        rows = [[td(state), *(td(number(effect[state][m], 4)) for m in metrics)] for state in states if effect]
        tables.append(table(title, ["scores", *(METRIC_NAMES[m] for m in metrics)], rows, note=note))
    return tables


def confused_tables(mistakes: Mapping, names: Mapping[str, str], *, most: int = 10) -> list[dict]:
    """Labels taken for one another, and pairs that are predicted together more or less often than they stand together."""
    confused = [
        [
            td(names.get(pair["missed"], pair["missed"])),
            td(names.get(pair["taken_for"], pair["taken_for"]), text=True),
            td(str(pair["images"])),
            td(percent(pair["share_of_missed"])),
        ]
        for pair in mistakes["confused"][:most]
    ]
    together = [
        [
            td(names.get(pair["a"], pair["a"])),
            td(names.get(pair["b"], pair["b"]), text=True),
            td(str(pair["together"])),
            td(str(pair["predicted"])),
        ]
        for pair in mistakes["together"][:most]
    ]
    return [
        table("Taken for one another", ["missed", "taken for", "images", "of the missed"], confused),
        table("Seen together", ["label", "and", "images", "predicted"], together),
    ]
