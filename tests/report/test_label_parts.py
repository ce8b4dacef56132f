"""What the page says of one label: counts at each operating point, pictures shared fairly, where rows came from."""

from __future__ import annotations

import pytest

from tasks.core import tables
from tasks.report.label_parts import changes_by_label, chosen_examples, label_parts, origins_by_label
from tests.review.tables_of import labels_of


def examples(false_negative: int, true_positive: int = 0) -> dict[str, list[dict]]:
    def some(num: int) -> list[dict]:
        return [{"image_id": f"i{n}", "score": 0.5} for n in range(num)]

    return {"false negative": some(false_negative), "false positive": [], "true positive": some(true_positive)}


def test_every_label_has_its_first_picture_before_any_has_its_second_the_weakest_first():
    given = {"strong": examples(3), "weak": examples(3), "undefined": examples(3)}
    ap = {"strong": 0.9, "weak": 0.2, "undefined": None}
    shown = {most: chosen_examples(given, ap, most=most) for most in (0, 1, 4)}
    num = {most: {label: len(of["false negative"]) for label, of in shown[most].items()} for most in shown}
    assert num[0] == {"strong": 0, "weak": 0, "undefined": 0}
    assert num[1] == {"strong": 0, "weak": 1, "undefined": 0}
    assert num[4] == {"strong": 1, "weak": 2, "undefined": 1}


def test_rows_are_counted_by_the_kind_of_their_origin():
    table = labels_of(("a", "cat", 1), ("b", "cat", 0), ("c", "cat", 1))
    origins = ["vendor:acme", "vendor:acme", "annotation"]
    table = table.set_column(table.schema.get_field_index("origin"), table.schema.field("origin"), [origins])
    assert origins_by_label(table) == {"cat": [("annotation", 1, 0), ("vendor", 1, 1)]}


def test_changes_are_counted_by_what_became_of_what_and_who_said_so():
    rows = [("a", 0, 1, "rule:consensus"), ("b", 0, 1, "rule:consensus"), ("c", 1, -1, "review:ann")]
    columns = {"image_id": [], "label": [], "before": [], "after": [], "rule": [], "present": []}
    for image_id, before, after, rule in rows:
        for name, value in zip(columns, (image_id, "cat", before, after, rule, 0.5), strict=True):
            columns[name].append(value)
    changes = tables.conform(tables.pa.table(columns), tables.CHANGES, where="changes")
    assert changes_by_label(changes) == {
        "cat": [("absent", "present", "rule:consensus", 2), ("present", "unknown", "review:ann", 1)]
    }


def part(threshold: float | None, target: dict | None = None) -> dict:
    """Of a label with 4 positives: right ones at 0.9, 0.7, 0.2 and 0.1, a wrong one at 0.8."""
    curve = {"threshold": [0.9, 0.7, 0.2, 0.1], "precision": [1, 2 / 3, 3 / 4, 4 / 5], "recall": [0.25, 0.5, 0.75, 1]}
    entry = {"threshold": threshold, "support": 4, "low": 0.6, "high": 0.8, "reason": "", "target": target}
    (made,) = label_parts(
        {"labels": {"cat": {"AP": 0.8, "F1": 0.57, "positives": 4, "known": 9}}},
        thresholds={"rule": "per_label_f1", "fit_on": "calibration", "labels": {"cat": entry}},
        curves={"cat": curve},
        confused=[{"missed": "cat", "taken_for": "dog", "images": 2, "share_of_missed": 0.5}],
        change={},
        examples={"cat": examples(1)},
        pictures={"i0": "data:,"},
        origins={},
        changes={},
        names={"cat": "Cat", "dog": "Dog"},
    )
    return made


@pytest.mark.parametrize(("threshold", "start"), [(0.7, 1), (0.65, 1), (0.05, 3), (0.95, 0), (None, 0)])
def test_the_slider_starts_at_the_loosest_point_that_the_threshold_accepts(threshold, start):
    assert part(threshold)["curve"]["start"] == start


def test_operating_points_are_counts_so_that_precision_recall_and_f1_are_exact():
    curve = part(0.7)["curve"]
    assert (curve["tp"], curve["predicted"], curve["positives"]) == ([1, 2, 3, 4], [1, 3, 4, 5], 4)


def test_what_it_is_confused_with_and_what_it_must_reach_are_said_in_words():
    made = part(0.7, {"precision": 0.9, "recall": 0.5})
    assert made["confused"] == ["missed on 2 images where Dog was claimed (50 % of the missed)"]
    assert ("to deliver", "precision 0.9, recall 0.5") in made["facts"]
    assert [shot["image_id"] for shot in made["shots"]] == ["i0"]
