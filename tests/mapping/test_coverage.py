"""What is covered, and the report of what a mapping left out."""

from __future__ import annotations

import json

import pytest

from tasks.mapping.coverage import (
    coverage_report,
    labels_without_source,
    map_coverage,
    nearest_names,
)
from tasks.mapping.mapping import map_rows
from tasks.taxonomy.exclusions import exclusion_violations
from tasks.taxonomy.reading import parse_taxonomy
from tests.taxonomy.kits import label_rows

TAXONOMY = parse_taxonomy(
    {
        "labels": [
            {"id": "two", "implies": ["even"], "from": {"v": ["2", "two"]}},
            {"id": "four", "implies": ["even"], "from": {"v": ["four"]}},
            {"id": "even", "exhaustive_children": True},
            {"id": "cat", "implies": ["animal"], "excludes": ["dog"], "from": {"v": ["cat"]}},
            {"id": "dog", "implies": ["animal"], "from": {"v": ["dog"]}},
            {"id": "animal"},
            {"id": "pet", "from": {"v": ["pet"]}},
            {"id": "poodle", "implies": ["pet"], "from": {"v": ["poodle"]}},
            {"id": "ghost"},
        ]
    }
)


@pytest.mark.parametrize(
    ("exhaustive", "covered"),
    [
        ({"2"}, []),  # "two" may still be there
        ({"2", "two"}, ["two"]),
        ({"2", "two", "four"}, ["two", "four", "even"]),  # exhaustive children, all covered
        ({"cat", "dog"}, ["cat", "dog"]),  # a horse is an animal, too
        ({"pet"}, []),  # a poodle that nobody had to annotate is a pet
        ({"pet", "poodle"}, ["pet", "poodle"]),
        ({"stranger"}, []),
        (set(), []),
    ],
)
def test_a_label_is_covered_only_if_its_absence_can_be_read_from_what_is_not_there(exhaustive, covered):
    assert map_coverage(exhaustive, TAXONOMY, "v") == covered


def test_labels_that_nothing_maps_to_are_listed():
    assert labels_without_source(TAXONOMY, ["v"]) == ["ghost"]  # even and animal live on their children
    assert labels_without_source(TAXONOMY, []) == TAXONOMY.ids


def test_present_labels_that_exclude_each_other_are_found():
    rows = label_rows([("i", "cat", 1), ("i", "dog", 1), ("j", "cat", 1), ("j", "dog", 0), ("k", "dog", 1)])
    assert exclusion_violations(rows, TAXONOMY).to_dicts() == [{"image_id": "i", "label": "cat", "other": "dog"}]


def test_nearest_names_ignore_case_and_padding():
    assert nearest_names("POODEL", ["poodle ", "noodle", "cat"]) == ["poodle ", "noodle"]
    assert nearest_names("zzz", ["cat"]) == []


def test_the_report_names_what_was_left_out_and_is_json():
    rows = [("i", "poodel", 1), ("i", "/m/1", 1), ("j", "/m/1", 1), ("i", "2", 1), ("i", "cat", 1), ("i", "dog", 1),
            ("j", "dog", 1), ("j", "dog", 0)]  # fmt: skip
    mapped = {"zoo": map_rows(label_rows(rows), TAXONOMY, "v")}
    source_classes = {"zoo": {"/m/1": "Cats", "poodel": "poodel"}}
    report = json.loads(json.dumps(coverage_report(mapped, source_classes, {"zoo": "v"}, TAXONOMY)))
    zoo = report["sources"]["zoo"]
    assert zoo["unmapped"] == [
        {"name": "/m/1", "display_name": "Cats", "rows": 2, "nearest": ["cat"]},
        {"name": "poodel", "display_name": "poodel", "rows": 1, "nearest": ["poodle"]},
    ]
    assert zoo["implied"] == {"even": {"present": 1}, "animal": {"present": 1}}
    assert zoo["contradictions"]["counts"] == {"rows disagree": 1}
    assert zoo["exclusions_violated"]["count"] == 1
    assert zoo["rows_in"] - sum(zoo["dropped"].values()) + sum(zoo["added"].values()) == sum(zoo["rows_out"].values())
    assert report["labels_without_source"] == ["ghost"]


def test_ambiguous_names_are_reported_with_their_rows():
    labels = [{"id": "coffee", "from": {"v": ["coffee shop"]}}, {"id": "shop", "from": {"v": ["coffee shop"]}}]
    taxonomy = parse_taxonomy({"labels": labels})
    mapped = {s: map_rows(label_rows([("i", "coffee shop", 1)]), taxonomy, "v") for s in ("a", "b")}
    report = coverage_report(mapped, {}, {"a": "v", "b": "v"}, taxonomy)
    assert report["ambiguous"] == [{"vocabulary": "v", "name": "coffee shop", "labels": ["coffee", "shop"], "rows": 2}]
