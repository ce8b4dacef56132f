"""What `clean` learned of each label, as a table of the report: error rates of the annotators, and what it did about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tasks.core.formatting import number, percent
from tasks.report.judgement import table, td

COLUMNS = ["label", "positives", "missed", "mistaken", "skill", "changed", "expected right", "answers", "why not more"]
NOTE = (
    "Missed: share of the present labels without an annotation; mistaken: share of the absent ones with one; both by the "
    "sources, with 95 % intervals. Skill: average precision of the sources above chance, on images that they were not "
    "fitted to. Changed: made present + made absent without a person. Expected right: their share by the rates, and at "
    "the lower ends of the rates. Answers: of those about annotations that look wrong, how many said so."
)


def cleaning_table(cleaning: Mapping, names: Mapping[str, str]) -> dict:
    """cleaning: cleaning.json.  names: label id -> name shown."""
    rows = [_row(names.get(label, label), row) for label, row in cleaning.get("labels", {}).items()]
    return table(f"Errors of annotation by label ({len(rows)})", COLUMNS, rows, note=NOTE)


def _row(name: str, row: Mapping) -> list[dict]:
    both = [row["missing"], row["mistaken"]]
    answers = [sum(part[key] for part in both) for key in ("right", "asked")]
    return [
        td(name),
        td(f"{row['positives']:,}"),
        td(_rate(row["false_negative"], 1)),
        td(_rate(row["false_positive"], 2)),
        td("{} ({} to {})".format(*(number(value, 2) for value in row["skill"]))),
        td(" + ".join(str(part["changes"]) for part in both)),
        td(_precision(both)),
        td(f"{answers[0]} of {answers[1]}" if answers[1] else ""),
        td(row["why"], text=True),
    ]


def _rate(ends: Sequence[float], digits: int) -> str:
    """As `16.0 % (8.1 to 24.2)`."""
    mean, low, high = ends
    return f"{percent(mean, digits)} ({100 * low:.{digits}f} to {100 * high:.{digits}f})"


def _precision(both: Sequence[Mapping]) -> str:
    """Of all changes of the label: "0.97, at least 0.93"; "" without one."""
    num = sum(part["changes"] for part in both)
    if not num:
        return ""
    shares = (
        sum(part["changes"] * part[key] for part in both if part["changes"]) / num
        for key in ("expected_precision", "least_precision")
    )
    return "{:.2f}, at least {:.2f}".format(*shares)
