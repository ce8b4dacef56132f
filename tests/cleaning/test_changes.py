"""changes.py: an assertion takes the place of the pair's row, relations follow, the books balance."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.cleaning.base import KEEP, TO_ABSENT, TO_PRESENT, TO_UNKNOWN, Decisions
from tasks.cleaning.changes import EXCLUDED, apply_changes, implied_pairs, policy_assertions
from tasks.core import tables
from tasks.core.states import States
from tasks.core.tables import ASSERTIONS
from tasks.taxonomy.propagation import propagate
from tasks.taxonomy.reading import parse_taxonomy
from tests.taxonomy.kits import label_rows, pairs_of, states, unknown_rows

TAXONOMY = parse_taxonomy(
    {
        "labels": [
            {"id": "oak", "implies": ["tree"]},
            {"id": "fir", "implies": ["tree"]},
            {"id": "tree", "implies": ["plant"]},
            {"id": "plant"},
            {"id": "zero", "implies": ["even"]},
            {"id": "two", "implies": ["even"]},
            {"id": "even", "exhaustive_children": True},
            {"id": "day", "group": "light"},
            {"id": "night", "group": "light"},
        ]
    }
)
FULL = [("full", label) for label in ("oak", "fir", "tree", "zero", "two", "even")]
IMAGES = pa.table({"image_id": ["a", "b", "c"], "source": ["full", "full", "partial"]})


def asserted(*rows: tuple) -> pa.Table:
    """ASSERTIONS of (image_id, label, state, origin); present follows from the state."""
    full = [(i, label, s, {1: 1.0, 0: 0.0, -1: 0.5}[s], origin) for i, label, s, origin in rows]
    return pa.Table.from_pylist([dict(zip(ASSERTIONS.names, row, strict=True)) for row in full], schema=ASSERTIONS)


def after(labels: list[tuple], *assertions: pa.Table, unknown=(), **options):
    coverage = pa.Table.from_pylist([{"source": s, "label": h} for s, h in FULL], schema=tables.COVERAGE)
    before, marks = label_rows(labels), unknown_rows(unknown)
    result = apply_changes(before, marks, assertions, TAXONOMY, coverage=coverage, images=IMAGES, **options)
    lost, gained = sum(result.dropped.values()), sum(result.added.values())
    assert before.num_rows + gained - lost == result.labels.num_rows, "the books do not balance"
    return result


def changes(result) -> dict[tuple[str, str], tuple[int, int, str]]:
    rows = result.changes.to_pylist()
    return {(r["image_id"], r["label"]): (r["before"], r["after"], r["rule"]) for r in rows}


def test_an_assertion_takes_the_place_of_the_row_and_of_what_followed_from_it():
    rows = [("a", "oak", 1), ("a", "tree", 1, 1.0, "rule:implies"), ("a", "plant", 1, 1.0, "rule:implies")]
    result = after(rows, asserted(("a", "oak", 0, "review:ann")))
    assert states(result.labels) == {("a", "oak"): 0}
    assert changes(result) == {
        ("a", "oak"): (1, 0, "review:ann"),
        ("a", "tree"): (1, 0, "rule:implies"),  # the source covers trees
        ("a", "plant"): (1, -1, "rule:implies"),  # nobody covers plants
    }


def test_a_present_label_makes_what_it_implies_present():
    result = after([], asserted(("c", "fir", 1, "rule:consensus")))
    assert states(result.labels) == {("c", "fir"): 1, ("c", "tree"): 1, ("c", "plant"): 1}
    assert result.labels.to_pylist()[0]["origin"] == "rule:consensus"


def test_an_assertion_about_a_covered_absence_adds_a_row_without_a_change():
    result = after([], asserted(("a", "oak", 0, "review:ann")))
    assert states(result.labels) == {("a", "oak"): 0}
    assert not result.changes.num_rows
    assert result.added == {"by verdict, where no row was": 1}


def test_a_pair_made_unknown_loses_its_row_and_coverage_does_not_make_it_absent():
    result = after(
        [("a", "zero", 1), ("a", "even", 1, 1.0, "rule:implies")], asserted(("a", "zero", -1, "rule:consensus"))
    )
    assert states(result.labels) == {}
    assert pairs_of(result.unknown) == {("a", "zero"), ("a", "even")}
    assert changes(result)["a", "even"] == (1, -1, "rule:implies")


def test_deciding_the_only_unknown_child_decides_what_it_left_open():
    result = after([], asserted(("a", "zero", 0, "review:ann")), unknown=[("a", "zero"), ("a", "even")])
    assert pairs_of(result.unknown) == set()
    assert changes(result) == {("a", "zero"): (-1, 0, "review:ann"), ("a", "even"): (-1, 0, "rule:implies")}


def test_another_unknown_child_keeps_the_parent_unknown():
    marks = [("a", "zero"), ("a", "two"), ("a", "even")]
    result = after([], asserted(("a", "zero", 0, "review:ann")), unknown=marks)
    assert pairs_of(result.unknown) == {("a", "two"), ("a", "even")}


def test_a_person_outranks_a_policy_and_a_policy_the_annotation():
    person, policy = asserted(("a", "oak", 0, "review:ann")), asserted(("a", "oak", 1, "rule:consensus"))
    assert states(after([("a", "oak", 1)], person, policy).labels)["a", "oak"] == 0
    assert states(after([("a", "oak", 0)], policy).labels)["a", "oak"] == 1


def test_a_policy_cannot_contradict_what_a_verdict_implies():
    person, policy = asserted(("a", "tree", 0, "review:ann")), asserted(("a", "oak", 1, "rule:consensus"))
    assert states(after([], person, policy).labels) == {("a", "tree"): 0, ("a", "oak"): 0, ("a", "fir"): 0}


def test_annotations_that_contradict_what_a_verdict_implies_give_way():
    denied = after([("a", "oak", 1)], asserted(("a", "tree", 0, "review:ann")))
    assert states(denied.labels) == {("a", "tree"): 0, ("a", "oak"): 0, ("a", "fir"): 0}
    seen = after([("c", "plant", 0, 1.0, "verified")], asserted(("c", "oak", 1, "review:ann")))
    assert states(seen.labels)["c", "plant"] == 1


def test_verdicts_that_contradict_each_other_both_stand_and_are_listed():
    result = after([], asserted(("a", "tree", 0, "review:ann"), ("a", "oak", 1, "review:bob")))
    assert states(result.labels)["a", "tree"] == 0
    assert states(result.labels)["a", "oak"] == 1
    assert ("a", "tree") in pairs_of(result.contradictions)


def test_images_without_an_assertion_stay_as_they_are_even_if_they_contradict_themselves():
    rows = [("b", "oak", 1), ("b", "tree", 0, 0.5, "verified"), ("a", "oak", 1)]
    result = after(rows, asserted(("a", "oak", 0, "review:ann")), unknown=[("b", "zero")])
    assert [row for row in result.labels.to_pylist() if row["image_id"] == "b"] == label_rows(rows[:2]).to_pylist()
    assert pairs_of(result.unknown) == {("b", "zero")}


def test_implications_can_be_left_alone():
    result = after([], asserted(("c", "fir", 1, "review:ann")), positives=False)
    assert states(result.labels) == {("c", "fir"): 1}


def test_nothing_asserted_changes_nothing():
    rows = [("a", "oak", 1), ("c", "plant", 0)]
    result = after(rows, asserted(), unknown=[("b", "zero")])
    assert states(result.labels) == {("a", "oak"): 1, ("c", "plant"): 0}
    assert not result.changes.num_rows
    assert not result.added
    assert not result.dropped


def test_confidence_is_the_probability_of_the_state():
    assertion = asserted(("a", "oak", 0, "rule:consensus")).set_column(3, "present", pa.array([0.25], pa.float32()))
    row = after([("a", "oak", 1)], assertion).labels.to_pylist()[0]
    assert (row["state"], row["confidence"]) == (0, 0.75)


def test_a_policy_asserts_only_what_it_does_not_keep():
    table = States.of(["a", "b"], ["oak", "fir"], np.zeros((2, 2), np.uint8), np.ones((2, 2), bool))
    actions = np.array([[KEEP, TO_PRESENT], [TO_ABSENT, TO_UNKNOWN]], np.int8)
    decisions = Decisions(actions, np.array([[0.1, 0.9], [0.2, 0.5]]), np.zeros((2, 2)))
    rows = policy_assertions(table, decisions, origin="rule:x").to_pylist()
    assert [(r["image_id"], r["label"], r["state"], round(r["present"], 3), r["origin"]) for r in rows] == [
        ("a", "fir", 1, 0.9, "rule:x"),
        ("b", "oak", 0, 0.2, "rule:x"),
        ("b", "fir", -1, 0.5, "rule:x"),
    ]


PAIRS = [(i, label) for i in "abc" for label in TAXONOMY.ids]


@given(
    st.dictionaries(st.sampled_from(PAIRS), st.integers(0, 1), max_size=8),
    st.dictionaries(st.sampled_from(PAIRS), st.integers(-1, 1), max_size=5),
)
def test_asserting_twice_changes_nothing_more_and_every_assertion_holds(annotated, states_of):
    start = propagate(label_rows([(*pair, state) for pair, state in annotated.items()]), TAXONOMY)
    assertions = asserted(*((*pair, state, "review:ann") for pair, state in states_of.items()))
    coverage = pa.Table.from_pylist([{"source": s, "label": h} for s, h in FULL], schema=tables.COVERAGE)
    once = apply_changes(start.labels, start.unknown, [assertions], TAXONOMY, coverage=coverage, images=IMAGES)
    twice = apply_changes(once.labels, once.unknown, [assertions], TAXONOMY, coverage=coverage, images=IMAGES)
    assert not twice.changes.num_rows
    assert states(twice.labels) == states(once.labels)
    for pair, state in states_of.items():
        if state >= 0:
            assert states(once.labels)[pair] == state


def test_a_changed_pair_never_has_two_rows():
    result = after([("a", "oak", 1), ("a", "fir", 1)], asserted(("a", "tree", 0, "review:ann")))
    tables.check_unique(result.labels, ["image_id", "label"], where="labels")


@pytest.mark.parametrize("origin", ["rule:consensus", "review:ann"])
def test_the_reason_of_an_added_row_names_who_asserted_it(origin):
    result = after([], asserted(("c", "fir", 1, origin)))
    who = "by verdict" if origin.startswith("review") else f"by {origin}"
    assert result.added == {f"{who}, where no row was": 1, "by implication, where no row was": 2}


def test_what_is_annotated_beside_something_that_excludes_it_gives_way_to_an_assertion():
    result = after([("a", "day", 1), ("b", "day", 1)], asserted(("a", "night", 1, "review:ann")))
    assert states(result.labels) == {("a", "day"): 0, ("a", "night"): 1, ("b", "day"): 1}
    assert changes(result)["a", "day"] == (1, 0, "review:ann")
    assert result.contradictions.num_rows == 0


def test_a_person_s_verdict_keeps_a_policy_from_what_it_excludes():
    result = after([], asserted(("a", "night", 1, "review:ann")), asserted(("a", "day", 1, "rule:consensus")))
    assert states(result.labels) == {("a", "night"): 1}


def test_two_assertions_that_exclude_each_other_are_listed():
    result = after([], asserted(("a", "night", 1, "review:ann"), ("a", "day", 1, "review:ann")))
    assert {(r["label"], r["kind"]) for r in result.contradictions.to_pylist()} == {
        ("day", EXCLUDED),
        ("night", EXCLUDED),
    }


def test_what_follows_from_assertions_need_not_be_asked():
    assertions = asserted(("a", "tree", 0, "review:ann"), ("b", "oak", 1, "review:ann"), ("c", "day", 1, "review:ann"))
    assert implied_pairs(assertions, TAXONOMY) == {
        ("a", "oak"), ("a", "fir"), ("b", "tree"), ("b", "plant"), ("c", "night")
    }  # fmt: skip
