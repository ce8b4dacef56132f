"""What the page says of a single label when a reader opens it: its curve, its pictures, where its labels came from."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

import pyarrow as pa

from tasks.core.formatting import interval, number, percent, signed
from tasks.core.tables import ABSENT, PRESENT, origin_kind

KINDS = {"false negative": "there, missed", "false positive": "claimed, not there", "true positive": "found"}
STATES = {PRESENT: "present", ABSENT: "absent"}
MOST_OF_A_KIND = 3
MOST_POINTS = 24_000
"""Operating points on the whole page: some 15 bytes each."""


def chosen_examples(
    examples: Mapping[str, Mapping[str, Sequence[dict]]], ap: Mapping[str, float | None], *, most: int
) -> dict[str, dict[str, list[dict]]]:
    """Which examples of mistakes.json are shown: {label: {kind: [{"image_id", "score"}]}}, at most `most` in all.

    Every label gets its first before any label gets its second, the labels with the lowest average precision first.
    ap: label -> average precision, None where undefined.
    """
    worst_first = sorted(examples, key=lambda label: (ap[label] is None, ap[label], label))
    chosen: dict[str, dict[str, list[dict]]] = {label: {kind: [] for kind in KINDS} for label in examples}
    for place in range(MOST_OF_A_KIND):
        for kind in KINDS:
            for label in worst_first:
                of_kind = examples[label][kind]
                if most and place < len(of_kind):
                    chosen[label][kind].append(of_kind[place])
                    most -= 1
    return chosen


def origins_by_label(labels: pa.Table) -> dict[str, list[tuple[str, int, int]]]:
    """Rows of each label by the kind of their origin: {label: [(kind, present, absent)]}.  labels: LABELS."""
    counts: dict[str, Counter] = defaultdict(Counter)
    grouped = labels.group_by(["label", "origin", "state"]).aggregate([([], "count_all")])
    for row in grouped.to_pylist():
        counts[row["label"]][origin_kind(row["origin"]), row["state"]] += row["count_all"]
    return {
        label: [(kind, of[kind, PRESENT], of[kind, ABSENT]) for kind in sorted({kind for kind, _ in of})]
        for label, of in counts.items()
    }


def changes_by_label(changes: pa.Table) -> dict[str, list[tuple[str, str, str, int]]]:
    """What cleaning changed: {label: [(before, after, rule, pairs)]}.  changes: CHANGES."""
    grouped = changes.group_by(["label", "before", "after", "rule"]).aggregate([([], "count_all")])
    by_label = defaultdict(list)
    for row in grouped.sort_by([(name, "ascending") for name in ("label", "before", "after", "rule")]).to_pylist():
        before, after = (STATES.get(row[side], "unknown") for side in ("before", "after"))
        by_label[row["label"]].append((before, after, row["rule"], row["count_all"]))
    return dict(by_label)


def label_parts(
    result: Mapping,
    *,
    thresholds: Mapping,
    curves: Mapping[str, Mapping[str, Sequence[float]]],
    confused: Sequence[Mapping],
    change: Mapping,
    examples: Mapping[str, Mapping[str, Sequence[dict]]],
    pictures: Mapping[str, str],
    origins: Mapping[str, Sequence[tuple]],
    changes: Mapping[str, Sequence[tuple]],
    names: Mapping[str, str],
) -> list[dict]:
    """One entry a label, in the order of the result, for label.html.j2.

    result, thresholds, change: result.json, thresholds.json, change.json.  curves: of curves.json, by label.
    confused: pairs of mistakes.json.  examples: of `chosen_examples`.  pictures: image id -> data URI.
    origins, changes: of the functions above.  names: label -> name shown.
    """
    most_points = max(2, MOST_POINTS // max(1, len(curves)))
    return [
        {
            "id": part_id(position),
            "name": names.get(label, label),
            "summary": f"AP {number(row['AP'])}, F1 {number(row['F1'])}",
            "curve": _curve(curves[label], row, thresholds["labels"][label], most_points),
            "facts": _facts(row, thresholds, label, change),
            "shots": [
                {
                    "shown": shown,
                    "src": pictures[e["image_id"]],
                    "image_id": e["image_id"],
                    "score": f"{e['score']:.2f}",
                }
                for kind, shown in KINDS.items()
                for e in examples.get(label, {}).get(kind, ())
                if e["image_id"] in pictures
            ],
            "confused": _confused(confused, label, names),
            "origins": [(kind, f"{present:,}", f"{absent:,}") for kind, present, absent in origins.get(label, ())],
            "changes": [
                f"{pairs:,} from {before} to {after} by {rule}" for before, after, rule, pairs in changes.get(label, ())
            ],
        }
        for position, (label, row) in enumerate(result["labels"].items())
    ]


def part_id(position: int) -> str:
    """The anchor of a label's part; names may hold anything, so that they are none."""
    return f"label-{position}"


def _curve(curve: Mapping[str, Sequence[float]], row: Mapping, threshold: Mapping, most: int) -> dict | None:
    """Operating points as counts, strictest first, so that the page computes precision, recall and F1 exactly.

    Returns {"thresholds", "tp", "predicted", "positives", "start", "target", "line"}; start: the point of the fitted
    threshold; line: the points on the drawing of label.html.j2.
    """
    positives, length = row["positives"], len(curve["threshold"])
    if not positives or not length:
        return None
    step = max(1, -(-length // most))
    kept = sorted({*range(0, length, step), length - 1})
    tp = [round(curve["recall"][k] * positives) for k in kept]
    predicted = [
        round(t / curve["precision"][k]) if curve["precision"][k] else 0 for t, k in zip(tp, kept, strict=True)
    ]
    values = [float(f"{curve['threshold'][k]:.6g}") for k in kept]
    fitted = threshold["threshold"]
    accepted = [k for k, value in enumerate(values) if fitted is not None and value >= fitted]
    return {
        "thresholds": values,
        "tp": tp,
        "predicted": predicted,
        "positives": positives,
        "start": accepted[-1] if accepted else 0,
        "target": threshold.get("target"),
        "line": [
            (round(26 + 200 * t / positives), round(114 - 110 * (t / p if p else 1)))
            for t, p in zip(tp, predicted, strict=True)
        ],
    }


def _facts(row: Mapping, thresholds: Mapping, label: str, change: Mapping) -> list[tuple[str, str]]:
    entry = thresholds["labels"][label]
    own = "never predicted" if entry["threshold"] is None else number(entry["threshold"])
    joined = " and train, scored out of fold" if thresholds.get("out_of_fold_images") else ""
    spread = interval([entry.get("low"), entry.get("high")])
    facts = [
        ("images", f"{row['positives']:,} present of {row['known']:,} known"),
        ("threshold", f"{own}{f' ({spread})' if spread else ''}, rule {thresholds['rule']}"),
        ("fitted on", f"{entry['support']:,} present of {thresholds['fit_on']}{joined}"),
    ]
    if entry.get("reason"):
        facts.append(("why", entry["reason"]))
    if target := entry.get("target"):
        facts.append(("to deliver", f"precision {target['precision']:g}, recall {target['recall']:g}"))
    if moved := change.get("labels", {}).get(label):
        was = f"AP {number(moved['before'])} to {number(moved['now'])} ({signed(moved['difference'])})"
        facts.append(("since the accepted run", was))
    return facts


def _confused(pairs: Sequence[Mapping], label: str, names: Mapping[str, str]) -> list[str]:
    missed = [
        f"missed on {_images(pair['images'])} where {names.get(pair['taken_for'], pair['taken_for'])} was claimed "
        f"({percent(pair['share_of_missed'])} of the missed)"
        for pair in pairs
        if pair["missed"] == label
    ]
    claimed = [
        f"claimed on {_images(pair['images'])} where {names.get(pair['missed'], pair['missed'])} was missed"
        for pair in pairs
        if pair["taken_for"] == label
    ]
    return missed + claimed


def _images(num: int) -> str:
    return f"{num:,} image" if num == 1 else f"{num:,} images"
