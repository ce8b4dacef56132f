"""What the page says of slices, protocols, drift and the accepted run."""

from __future__ import annotations

import pytest

from tasks.report.judgement import (
    change_message,
    change_pictures,
    change_tables,
    drift_message,
    drift_table,
    protocol_table,
    slice_table,
    switch_tables,
)

ROW = {"before": 0.5, "now": 0.75, "difference": 0.25, "low": 0.1, "high": 0.4}
UNSURE = {**ROW, "low": -0.1}


def shown(table: dict) -> list[list[str]]:
    return [[td["shown"] for td in row] for row in table["rows"]]


def a_slice(value: str, images: int) -> dict:
    metrics = dict.fromkeys(("mAP", "OP", "OR", "OF1", "CF1"), 0.75)
    return {"by": "size", "value": value, "images": images, "labels": 3, "positives": 9, "metrics": metrics}


def test_a_slice_of_few_images_is_warned_of():
    small = slice_table([a_slice("below 128 px", 2), a_slice("above", 500)])
    assert [row[2]["tone"] for row in small["rows"]] == ["warn", ""]
    assert small["note"] == "Of fewer than 30 images, so that chance decides: 1 of 2 slices."
    assert slice_table([a_slice("below 128 px", 30), a_slice("above", 500)])["note"] == ""


def a_change(**more) -> dict:
    return {"how": "paired", "why": "", "metrics": {}, "labels": {}, "settings": [], "decisions": {}, **more}


def test_decisions_that_changed_stand_side_by_side_with_the_scores_of_both_runs():
    decision = {"image_id": "i", "label": "cat", "truth": 1, "before": 0.125, "now": 0.875}
    sides = {"mended": {"num": 1200, "worst": [decision]}, "broken": {"num": 0, "worst": []}}
    mended, broken = change_pictures(a_change(decisions=sides), {"mended": [decision]}, {"i": "data:,"}, {"cat": "Cat"})
    assert mended["title"] == "Wrong in the accepted run, right now (1,200)"
    assert (broken["title"], broken["shots"]) == ("Right in the accepted run, wrong now (0)", [])
    (shot,) = mended["shots"]
    assert (shot["label"], shot["is"], shot["before"], shot["now"]) == ("Cat", "there", "0.12", "0.88")
    assert change_pictures(a_change(), {}, {}, {}) == []


def test_the_headline_starts_with_map_whatever_order_the_file_has():
    headline, _, _ = change_tables(a_change(metrics={"CF1": ROW, "mAP": ROW}), {})
    assert shown(headline) == [
        ["mAP", "0.500", "0.750", "+0.250", "+0.100 to +0.400"],
        ["F1 per label", "0.500", "0.750", "+0.250", "+0.100 to +0.400"],
    ]


def test_before_and_now_have_bars_of_one_scale_side_by_side():
    headline, _, _ = change_tables(a_change(metrics={"mAP": ROW}), {})
    assert headline["columns"][:3] == ["metric", "accepted", "now"]
    assert [td["bar"] for td in headline["rows"][0]] == [None, 0.5, 0.75, None, None]


def test_only_a_difference_whose_interval_leaves_out_zero_is_coloured():
    worse = {"before": 0.75, "now": 0.5, "difference": -0.25, "low": -0.4, "high": -0.1}
    tables = change_tables(a_change(metrics={"mAP": ROW, "OF1": UNSURE, "CF1": worse, "OP": {**ROW, "low": None}}), {})
    assert [row[3]["tone"] for row in tables[0]["rows"]] == ["good", "", "", "bad"]  # mAP, OF1, OP, CF1


def test_labels_are_shown_by_name_best_first_and_unmoved_ones_not_at_all():
    labels = {
        "a": {**ROW, "difference": 0.1}, "b": {**ROW, "difference": -0.2}, "c": {**ROW, "difference": 0.0},
        "d": {**ROW, "difference": None},
    }  # fmt: skip
    _, moved, _ = change_tables(a_change(labels=labels), {"a": "Ape"})
    assert [row[0] for row in shown(moved)] == ["Ape", "b"]


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("nothing accepted", "No run was accepted yet"),
        ("paired", "evaluated again on the same images"),
        ("as written", "no intervals"),
        ("not comparable", "cannot be compared with the accepted one: why not"),
    ],
)
def test_the_page_says_how_the_accepted_run_was_compared(how, message):
    assert message in change_message(a_change(how=how, why="why not"))


def test_a_property_that_divides_nothing_is_no_slice():
    metrics = dict.fromkeys(("mAP", "OP", "OR", "OF1", "CF1"), 0.5)
    one = {"images": 2000, "labels": 3, "positives": 5, "metrics": metrics}
    slices = [{"by": "source", "value": "a", **one}, {"by": "rarity", "value": "rare", **one}]
    assert slice_table(slices)["rows"] == []
    rows = shown(slice_table([*slices, {"by": "source", "value": "b", **one}]))
    assert [row[:3] for row in rows] == [["source", "a", "2,000"], ["source", "b", "2,000"]]


def test_ours_stands_beside_the_chosen_protocol():
    table = protocol_table({name: {"mAP": 0.5} for name in ("asl", "mlgcn", "otx", "tagwright", "voc07")}, "otx")
    assert table["columns"] == ["metric", "tagwright", "otx (chosen)", "asl", "mlgcn", "voc07"]
    assert [td["tone"] for td in table["rows"][0]] == ["", "", "strong", "", "", ""]


def test_the_label_that_moved_most_stands_first_and_is_marked_where_it_is_more_than_chance():
    still = {"PSI": 0.01, "PSI_by_chance": 0.1, "KS": 0.1, "predicted_before": 0.1, "predicted": 0.1, "notable": False}
    drift = {"a": still, "b": {**still, "PSI": 0.5, "notable": True}}
    rows = drift_table(drift, {"b": "Bee"})["rows"]
    assert [(row[0]["shown"], row[1]["tone"]) for row in rows] == [("Bee", "warn"), ("a", "")]
    assert drift_message(drift, "calibration", "test").startswith("1 of 2 labels drifted between the calibration")


def test_a_switch_that_was_not_measured_shows_no_table():
    relations = {name: {"mAP": 0.5} for name in ("off", "implied scores", "rules on decisions")}
    first, *others = switch_tables({"relations": relations, "fusion": {}, "probabilities": {}})
    assert [row[0] for row in shown(first)] == ["off", "implied scores", "rules on decisions"]
    assert not any(table["rows"] for table in others)
