"""Implications over long rows: what flows where, what beats what, and that unknown stays unknown."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.core.tables import LABELS, RULES, UNKNOWN
from tasks.taxonomy.propagation import propagate
from tasks.taxonomy.reading import parse_taxonomy
from tasks.taxonomy.taxonomy import Taxonomy
from tests.taxonomy.kits import label_rows, pairs_of, resolved, states, unknown_rows

VEHICLES = parse_taxonomy(
    {
        "labels": [
            {"id": "sedan", "implies": ["car"]},
            {"id": "car", "implies": ["vehicle"]},
            {"id": "bus", "implies": ["vehicle"]},
            {"id": "vehicle"},
            {"id": "two", "implies": ["even"]},
            {"id": "four", "implies": ["even"]},
            {"id": "even", "exhaustive_children": True},
        ]
    }
)


def states_after(rows: list[tuple], **options) -> dict[str, int]:
    """label -> state on the one image of `rows`."""
    found = propagate(label_rows([("i", *row) for row in rows]), VEHICLES, **options)
    return {label: state for (_, label), state in states(found.labels).items()}


def test_presence_flows_up_and_not_down():
    assert states_after([("car", 1)]) == {"car": 1, "vehicle": 1}


def test_absence_flows_down_and_not_up():
    assert states_after([("car", 0)]) == {"car": 0, "sedan": 0}


def test_either_direction_can_be_turned_off():
    assert states_after([("car", 1), ("bus", 0)], positives=False) == {"car": 1, "bus": 0}
    assert states_after([("car", 1), ("vehicle", 0)], positives=False, negatives=False) == {"car": 1, "vehicle": 0}


def test_the_absence_of_all_known_children_does_not_make_a_label_absent():
    assert "vehicle" not in states_after([("car", 0), ("bus", 0)])


def test_a_label_with_exhaustive_children_is_absent_when_all_of_them_are():
    assert states_after([("two", 0), ("four", 0)]) == {"two": 0, "four": 0, "even": 0}
    assert "even" not in states_after([("two", 0)])
    assert states_after([("two", 0), ("four", 1)])["even"] == 1


def test_an_implied_row_has_the_rules_origin_and_the_best_confidence():
    rows = [
        ("i", "car", 1, 0.25, "box"),
        ("i", "bus", 1, 0.75, "verified"),
        ("i", "four", 0, 0.5),
        ("i", "two", 0, 0.75),
    ]
    found = propagate(label_rows(rows), VEHICLES).labels.to_pylist()
    by_label = {row["label"]: (row["state"], row["confidence"], row["origin"]) for row in found}
    assert by_label["vehicle"] == (1, 0.75, "rule:implies")
    assert by_label["even"] == (0, 0.5, "rule:exhaustive_children")  # as sure as the least sure child


def test_of_rows_that_say_the_same_the_surest_stays_then_the_most_trusted():
    rows = [("i", "car", 1, 0.5, "verified"), ("i", "car", 1, 1.0, "box"), ("i", "car", 1, 1.0, "annotation")]
    found = propagate(label_rows(rows), VEHICLES)
    assert found.labels.to_pylist()[0]["origin"] == "annotation"
    assert found.dropped == {"says the same as another row": 2}
    assert found.added == {"rule:implies": 1}


def test_a_row_beats_an_implication_and_both_are_listed():
    found = propagate(label_rows([("i", "car", 1), ("i", "vehicle", 0)]), VEHICLES)
    assert states(found.labels) == {("i", "sedan"): 0, ("i", "car"): 1, ("i", "bus"): 0, ("i", "vehicle"): 0}
    contradictions = {(row["label"], row["kind"]) for row in found.contradictions.to_pylist()}
    assert contradictions == {("car", "row against implication"), ("vehicle", "row against implication")}


def test_rows_that_disagree_make_the_pair_unknown_in_spite_of_coverage():
    found = propagate(label_rows([("i", "bus", 1), ("i", "bus", 0)]), VEHICLES)
    assert found.labels.num_rows == 0
    assert pairs_of(found.unknown) == {("i", "bus"), ("i", "vehicle")}
    assert found.contradictions.to_pylist() == [{"image_id": "i", "label": "bus", "kind": "rows disagree"}]
    assert found.dropped == {"present and absent at once": 2}


def test_a_present_descendant_decides_where_rows_disagree():
    found = propagate(label_rows([("i", "vehicle", 1), ("i", "vehicle", 0), ("i", "car", 1)]), VEHICLES)
    assert states(found.labels)[("i", "vehicle")] == 1
    assert found.contradictions.num_rows == 1


def test_implications_that_disagree_leave_the_pair_unknown():
    found = propagate(label_rows([("i", "sedan", 1), ("i", "vehicle", 0)]), VEHICLES)
    assert ("i", "car") in pairs_of(found.unknown)
    assert {"image_id": "i", "label": "car", "kind": "implications disagree"} in found.contradictions.to_pylist()


def test_a_marked_pair_stays_unknown_against_an_implied_absence_but_not_against_a_row_or_a_presence():
    marked = unknown_rows([("i", "car")])
    by_parent = propagate(label_rows([("i", "vehicle", 0)]), VEHICLES, unknown=marked)
    assert ("i", "car") in pairs_of(by_parent.unknown)
    assert ("i", "car") not in states(by_parent.labels)
    assert states(propagate(label_rows([("i", "sedan", 1)]), VEHICLES, unknown=marked).labels)[("i", "car")] == 1
    assert states(propagate(label_rows([("i", "car", 0)]), VEHICLES, unknown=marked).labels)[("i", "car")] == 0


def test_unknown_flows_up_even_on_an_image_without_rows():
    found = propagate(label_rows([]), VEHICLES, unknown=unknown_rows([("i", "sedan")]))
    assert pairs_of(found.unknown) == {("i", "sedan"), ("i", "car"), ("i", "vehicle")}


def test_nothing_in_is_nothing_out():
    found = propagate(label_rows([]), VEHICLES)
    assert found.labels.schema.equals(LABELS)
    assert (found.labels.num_rows, found.unknown.num_rows, found.contradictions.num_rows) == (0, 0, 0)


# ---------------------------------------------------------------- invariants


@st.composite
def taxonomies(draw) -> Taxonomy:
    """A random DAG of up to 7 labels, some with exhaustive children."""
    num = draw(st.integers(1, 7))
    parents = [draw(st.sets(st.integers(n + 1, num - 1), max_size=2)) if n + 1 < num else set() for n in range(num)]
    has_children = set().union(*parents)
    exhaustive = draw(st.sets(st.sampled_from(sorted(has_children)))) if has_children else set()
    labels = [
        {"id": f"L{n}", "implies": [f"L{p}" for p in sorted(parents[n])], "exhaustive_children": n in exhaustive}
        for n in range(num)
    ]
    return parse_taxonomy({"labels": draw(st.permutations(labels))})


@st.composite
def given_rows(draw):
    """A taxonomy, rows about three images (repeats and contradictions included) and marked pairs."""
    taxonomy = draw(taxonomies())
    pair = st.tuples(st.sampled_from("abc"), st.sampled_from(taxonomy.ids))
    origin = st.sampled_from(["annotation", "box", "verified", "review:ann", *RULES])
    row = st.tuples(pair, st.integers(0, 1), st.sampled_from([0.25, 0.5, 1.0]), origin)
    rows = draw(st.lists(row, max_size=20))
    return taxonomy, [(*pair, *rest) for pair, *rest in rows], draw(st.lists(pair, max_size=4))


@settings(max_examples=150)
@given(given_rows())
def test_every_pair_has_the_state_that_the_rules_give(case):
    taxonomy, rows, marked = case
    found = propagate(label_rows(rows), taxonomy, unknown=unknown_rows(marked))
    expected_states, expected_unknown = {}, set()
    for image in "abc":
        stated: dict[str, set[int]] = {}
        for i, label, state, _, origin in rows:
            if i == image and not origin.startswith("rule:"):
                stated.setdefault(label, set()).add(state)
        for label, state in resolved(stated, {label for i, label in marked if i == image}, taxonomy).items():
            if state is None:
                expected_unknown.add((image, label))
            else:
                expected_states[image, label] = state
    assert states(found.labels) == expected_states
    assert pairs_of(found.unknown) == expected_unknown


@settings(max_examples=100)
@given(given_rows(), st.randoms(use_true_random=False))
def test_rows_are_conserved_and_their_order_is_free(case, random):
    taxonomy, rows, marked = case
    found = propagate(label_rows(rows), taxonomy, unknown=unknown_rows(marked))
    assert found.labels.num_rows == len(rows) - found.dropped.total() + found.added.total()
    random.shuffle(rows)
    again = propagate(label_rows(rows), taxonomy, unknown=unknown_rows(marked))
    assert again.labels.equals(found.labels)
    assert again.contradictions.to_pylist() == found.contradictions.to_pylist()


@settings(max_examples=100)
@given(given_rows())
def test_propagating_twice_changes_nothing(case):
    taxonomy, rows, marked = case
    once = propagate(label_rows(rows), taxonomy, unknown=unknown_rows(marked))
    twice = propagate(once.labels, taxonomy, unknown=once.unknown.cast(UNKNOWN))
    assert twice.labels.equals(once.labels)
    assert pairs_of(twice.unknown) == pairs_of(once.unknown)


def test_many_images_in_many_batches_are_resolved_like_each_alone(monkeypatch):
    monkeypatch.setattr("tasks.taxonomy.propagation._PAIRS_PER_BATCH", 7 * 3)
    rng = np.random.default_rng(0)
    rows = [
        (f"i{rng.integers(50):02d}", VEHICLES.ids[rng.integers(7)], int(rng.integers(2)), float(rng.random()))
        for _ in range(400)
    ]
    whole = states(propagate(label_rows(rows), VEHICLES).labels)
    alone = {}
    for image in {row[0] for row in rows}:
        alone |= states(propagate(label_rows([r for r in rows if r[0] == image]), VEHICLES).labels)
    assert whole == alone
    assert list(whole) == sorted(whole, key=lambda pair: (pair[0], VEHICLES.index[pair[1]]))


def test_a_label_that_the_taxonomy_lacks_is_a_programmers_mistake():
    with pytest.raises(AssertionError, match="train"):
        propagate(label_rows([("i", "train", 1)]), VEHICLES)
