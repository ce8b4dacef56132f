"""Renames, merges and splits on labels, verdicts, thresholds and a model's columns."""

from __future__ import annotations

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.core.tables import COVERAGE
from tasks.mapping.mapping import map_rows
from tasks.taxonomy.migrations import (
    migrate_labels,
    migrate_thresholds,
    migrate_verdicts,
    origins_of,
    todays_labels,
)
from tasks.taxonomy.reading import parse_taxonomy
from tasks.taxonomy.taxonomy import OWN, Migration
from tests.taxonomy.kits import label_rows, pairs_of, states, unknown_rows

RENAME = Migration(rename={"auto": "car"})
MERGE = Migration(merge={"footwear": ["shoe", "boot"]})
SPLIT = Migration(split={"bat": ["bat_animal", "baseball_bat"]})


def covers(*pairs: tuple[str, str]) -> pa.Table:
    return pa.Table.from_pylist([{"source": s, "label": label} for s, label in pairs], schema=COVERAGE)


def migrate(rows: list[tuple], *steps: Migration, unknown: list[tuple] = (), coverage: list[tuple] = ()):
    return migrate_labels(label_rows(rows), unknown_rows(unknown), covers(*coverage), steps)


def test_a_rename_changes_the_name_and_nothing_else():
    found = migrate(
        [("i", "auto", 1, 0.5, "box"), ("j", "auto", 0)], RENAME, unknown=[("k", "auto")], coverage=[("s", "auto")]
    )
    assert states(found.labels) == {("i", "car"): 1, ("j", "car"): 0}
    assert found.labels.to_pylist()[0]["confidence"] == 0.5
    assert pairs_of(found.unknown) == {("k", "car")}
    assert found.coverage.to_pylist() == [{"source": "s", "label": "car"}]
    assert (found.look_again.num_rows, found.dropped, found.added) == (0, {}, {})


def test_rows_that_a_rename_to_a_synonym_brings_together_are_left_to_the_mapping():
    rows = [("i", "auto", 1), ("i", "car", 1), ("j", "auto", 1), ("j", "car", 0)]
    found = migrate(rows, RENAME)
    assert found.labels.equals(label_rows(sorted((i, "car", state) for i, _, state in rows)))
    mapped = map_rows(found.labels, parse_taxonomy({"labels": [{"id": "car"}]}), OWN)
    assert states(mapped.labels) == {("i", "car"): 1}
    assert pairs_of(mapped.unknown) == {("j", "car")}
    assert pairs_of(mapped.contradictions) == {("j", "car")}


def test_a_merged_label_is_present_where_any_part_was_and_absent_where_all_were():
    rows = [("i", "shoe", 1), ("i", "boot", 0), ("j", "shoe", 0), ("j", "boot", 0), ("k", "shoe", 0)]
    found = migrate(rows, MERGE)
    assert found.labels.equals(label_rows([("i", "footwear", 1), ("j", "footwear", 0), ("j", "footwear", 0)]))
    assert found.dropped == {"only some of the merged labels are absent": 2}


def test_a_merged_label_is_covered_where_all_its_parts_were():
    pairs = [("both", "shoe"), ("both", "boot"), ("one", "shoe"), ("one", "hat")]
    found = migrate([], MERGE, coverage=pairs)
    assert pairs_of(found.coverage.rename_columns(["image_id", "label"])) == {("both", "footwear"), ("one", "hat")}


def test_an_open_pair_of_a_part_leaves_the_merged_label_open_unless_another_part_is_present():
    found = migrate([("j", "shoe", 1)], MERGE, unknown=[("i", "boot"), ("j", "boot")])
    assert pairs_of(found.unknown) == {("i", "footwear")}


def test_a_split_keeps_absences_and_asks_about_presences():
    found = migrate([("i", "bat", 1), ("j", "bat", 0), ("j", "cat", 1)], SPLIT, coverage=[("s", "bat")])
    assert states(found.labels) == {("j", "bat_animal"): 0, ("j", "baseball_bat"): 0, ("j", "cat"): 1}
    # The source covered bats, so without this the image with one would now have neither kind.
    assert pairs_of(found.unknown) == {("i", "bat_animal"), ("i", "baseball_bat")}
    assert found.look_again.to_pylist() == [
        {"image_id": "i", "label": "baseball_bat", "was": "bat"},
        {"image_id": "i", "label": "bat_animal", "was": "bat"},
    ]
    assert found.coverage["label"].to_pylist() == ["baseball_bat", "bat_animal"]


def test_what_somebody_has_looked_at_since_the_split_is_not_asked_again():
    found = migrate([("i", "bat", 1), ("i", "bat_animal", 1)], SPLIT)
    assert found.look_again["label"].to_pylist() == ["baseball_bat"]
    assert states(found.labels) == {("i", "bat_animal"): 1}


def test_a_pair_with_two_rows_loses_two_rows_in_a_split_and_is_asked_about_once():
    found = migrate([("i", "bat", 1, 1.0, "annotation"), ("i", "bat", 1, 1.0, "box")], SPLIT)
    assert (found.labels.num_rows, found.dropped.total(), found.added) == (0, 2, {})
    assert found.look_again["label"].to_pylist() == ["baseball_bat", "bat_animal"]


def test_steps_are_applied_oldest_first():
    found = migrate([("i", "auto", 1)], RENAME, Migration(merge={"vehicle": ["car", "bus"]}))
    assert states(found.labels) == {("i", "vehicle"): 1}


STEPS = [
    Migration(rename={"a": "b"}),
    Migration(merge={"m": ["b", "c"]}),
    Migration(split={"d": ["x", "y"]}),
    Migration(rename={"x": "z"}),
]
PAIR = st.tuples(st.sampled_from("ij"), st.sampled_from("abcdxyzm"))


@settings(max_examples=100)
@given(
    st.lists(st.tuples(PAIR, st.integers(0, 1)), max_size=12),
    st.sets(PAIR, max_size=4),
    st.sets(st.tuples(st.just("s"), st.sampled_from("abcd"))),
)
def test_rows_are_conserved_nothing_retired_is_left_and_twice_is_once(rows, unknown, coverage):
    rows = [(*pair, state) for pair, state in rows]
    once = migrate(rows, *STEPS, unknown=sorted(unknown), coverage=sorted(coverage))
    assert len(rows) - once.dropped.total() + once.added.total() == once.labels.num_rows
    left = {*once.labels["label"].to_pylist(), *once.unknown["label"].to_pylist(), *once.coverage["label"].to_pylist()}
    assert left <= set("myz")
    assert not pairs_of(once.unknown) & pairs_of(once.labels)
    twice = migrate_labels(once.labels, once.unknown, once.coverage, STEPS)
    assert twice.labels.equals(once.labels)
    assert twice.unknown.equals(once.unknown)
    assert twice.coverage.equals(once.coverage)


# ---------------------------------------------------------------- verdicts


def verdict(label: str, state: str, image_id: str = "i", who: str = "ann") -> dict:
    return {"image_id": image_id, "label": label, "verdict": state, "who": who}


def test_verdicts_follow_a_rename_with_all_they_carry():
    assert migrate_verdicts([verdict("auto", "unsure")], [RENAME]) == ([verdict("car", "unsure")], [])


def test_a_verdict_of_absence_on_one_part_says_nothing_about_the_merged_label():
    kept, stopped = migrate_verdicts([verdict("shoe", "absent"), verdict("boot", "present", "j")], [MERGE])
    assert kept == [verdict("footwear", "present", "j")]
    assert stopped == [verdict("shoe", "absent")]


def test_verdicts_of_absence_on_all_parts_deny_the_merged_label():
    kept, stopped = migrate_verdicts([verdict("shoe", "absent"), verdict("boot", "absent", who="bob")], [MERGE])
    assert kept == [verdict("footwear", "absent"), verdict("footwear", "absent", who="bob")]
    assert stopped == []


def test_a_verdict_of_presence_is_asked_again_after_a_split_and_absence_goes_to_each_part():
    kept, stopped = migrate_verdicts([verdict("bat", "present"), verdict("bat", "absent", "j")], [SPLIT])
    assert kept == [verdict("bat_animal", "absent", "j"), verdict("baseball_bat", "absent", "j")]
    assert stopped == [verdict("bat", "present")]


def test_verdicts_migrated_twice_are_those_migrated_once():
    verdicts = [verdict(label, v, i) for label in "abcdx" for v in ("present", "absent", "unsure") for i in "ij"]
    once, _ = migrate_verdicts(verdicts, STEPS)
    assert migrate_verdicts(once, STEPS) == (once, [])


def test_a_label_of_any_age_is_called_what_the_steps_made_of_it():
    assert [todays_labels(label, STEPS) for label in "abdxq"] == [["m"], ["m"], ["z", "y"], ["z"], ["q"]]


# ---------------------------------------------------------------- thresholds and columns


def entry(threshold: float | None) -> dict:
    return {"threshold": threshold, "support": 10, "reason": ""}


def test_each_new_column_knows_the_old_ones_that_it_comes_from():
    old = ["auto", "shoe", "boot", "bat", "sky"]
    new = ["sky", "car", "footwear", "bat_animal", "baseball_bat", "brand new"]
    assert origins_of(old, new, [RENAME, MERGE, SPLIT]) == [[4], [0], [1, 2], [3], [3], []]


def test_a_column_that_has_its_new_name_already_keeps_its_weights():
    assert origins_of(["auto", "car"], ["car"], [RENAME]) == [[1]]


def test_thresholds_are_carried_over_with_a_reason_where_the_label_changed():
    old = {"auto": entry(0.3), "shoe": entry(0.4), "boot": entry(0.6), "bat": entry(0.5), "sky": entry(None)}
    new = ["car", "footwear", "bat_animal", "baseball_bat", "sky", "brand new"]
    carried, to_fit = migrate_thresholds(old, new, [RENAME, MERGE, SPLIT])
    assert carried["car"] == entry(0.3)
    assert carried["sky"] == entry(None)
    assert (carried["footwear"]["threshold"], carried["footwear"]["reason"]) == (
        0.6,
        "carried over from shoe, boot by a migration; fit again",
    )
    assert carried["bat_animal"]["threshold"] == 0.5
    assert to_fit == ["footwear", "bat_animal", "baseball_bat", "brand new"]


def test_a_part_that_was_never_predicted_makes_the_merged_label_never_predicted():
    carried, _ = migrate_thresholds({"shoe": entry(None), "boot": entry(0.6)}, ["footwear"], [MERGE])
    assert carried["footwear"]["threshold"] is None
