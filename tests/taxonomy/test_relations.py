"""Relations over scores and decisions."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.taxonomy.reading import parse_taxonomy
from tasks.taxonomy.relations import (
    Relations,
    apply_exclusions,
    apply_implications,
    apply_relations,
    relations_of,
)

TAXONOMY = parse_taxonomy(
    {
        "labels": [
            {"id": "forest", "implies": ["tree"]},
            {"id": "tree", "implies": ["plant"]},
            {"id": "plant"},
            {"id": "office", "implies": ["indoor"]},
            {"id": "indoor", "excludes": ["plant"]},
        ]
    }
)
FOREST, TREE, PLANT, OFFICE, INDOOR = range(5)
RELATIONS = relations_of(TAXONOMY, TAXONOMY.ids)


def test_a_parent_scores_at_least_as_high_as_its_best_kind():
    scores = np.array([[0.9, 0.2, 0.3, 0.1, 0.4], [0.1, 0.2, 0.3, 0.0, 0.0]])
    expected = np.array([[0.9, 0.9, 0.9, 0.1, 0.4], [0.1, 0.2, 0.3, 0.0, 0.0]])
    np.testing.assert_array_equal(apply_implications(scores, RELATIONS), expected)


def test_a_decided_kind_decides_what_it_implies():
    decisions = np.array([[True, False, False, False, False]])
    np.testing.assert_array_equal(apply_implications(decisions, RELATIONS), [[True, True, True, False, False]])


def test_the_input_is_left_alone():
    scores = np.array([[0.9, 0.2, 0.3, 0.1, 0.4]])
    apply_implications(scores, RELATIONS)
    assert scores[0, TREE] == 0.2


def test_of_two_that_exclude_each_other_the_better_stays():
    decisions = np.array([[False, False, True, False, True]])
    assert apply_exclusions(decisions, np.array([[0, 0, 0.6, 0, 0.7]]), RELATIONS).nonzero()[1].tolist() == [INDOOR]
    assert apply_exclusions(decisions, np.array([[0, 0, 0.7, 0, 0.7]]), RELATIONS).nonzero()[1].tolist() == [PLANT]


def test_a_label_loses_with_all_that_imply_it():
    decisions = np.array([[True, True, True, False, True]])
    kept = apply_exclusions(decisions, np.array([[0.5, 0.6, 0.6, 0, 0.9]]), RELATIONS)
    assert kept.nonzero()[1].tolist() == [INDOOR]


def test_a_parent_that_lives_on_a_kind_is_as_strong_as_the_kind():
    decisions = np.array([[True, False, False, False, True]])  # forest .9 speaks for plant, whose own score is low
    kept = apply_relations(decisions, np.array([[0.9, 0.1, 0.1, 0.0, 0.5]]), RELATIONS)
    assert kept.nonzero()[1].tolist() == [FOREST, TREE, PLANT]


def test_a_parent_goes_with_the_only_kind_that_spoke_for_it():
    decisions = np.array([[True, False, False, True, False]])
    kept = apply_relations(decisions, np.array([[0.6, 0.1, 0.1, 0.9, 0.1]]), RELATIONS)
    assert kept.nonzero()[1].tolist() == [OFFICE, INDOOR]


def test_columns_follow_the_model_not_the_taxonomy():
    relations = relations_of(TAXONOMY, ["plant", "stranger", "forest"])
    assert relations == Relations(implications=((2, 0),), exclusions=())


def test_the_taxonomy_itself_will_do_where_the_columns_are_its_labels():
    scores = np.random.default_rng(0).random((7, 5))
    np.testing.assert_array_equal(apply_implications(scores, TAXONOMY), apply_implications(scores, RELATIONS))


def test_without_relations_or_images_nothing_changes():
    nothing = Relations((), ())
    decisions = np.ones((3, 2), bool)
    np.testing.assert_array_equal(apply_relations(decisions, np.ones((3, 2)), nothing), decisions)
    assert apply_relations(np.zeros((0, 5), bool), np.zeros((0, 5)), RELATIONS).shape == (0, 5)


@st.composite
def relations(draw) -> Relations:
    num = draw(st.integers(2, 7))
    parents = {n: draw(st.sets(st.integers(n + 1, num - 1), max_size=2)) if n + 1 < num else set() for n in range(num)}
    labels = [{"id": str(n), "implies": [str(p) for p in ps]} for n, ps in parents.items()]
    plain = parse_taxonomy({"labels": labels})
    family = {n: {n} | {int(d) for d in plain.descendants[str(n)]} for n in range(num)}
    allowed = [(a, b) for a in range(num) for b in range(a) if not family[a] & family[b]]
    for a, b in draw(st.lists(st.sampled_from(allowed), max_size=3)) if allowed else []:
        labels[a].setdefault("excludes", []).append(str(b))
    taxonomy = parse_taxonomy({"labels": labels})
    return relations_of(taxonomy, taxonomy.ids)


@settings(max_examples=200)
@given(relations(), st.integers(0, 2**32 - 1))
def test_related_decisions_break_no_rule_and_invent_nothing(rules, seed):
    rng = np.random.default_rng(seed)
    num = 7
    scores = rng.random((6, num)).round(1)  # ties
    decisions = rng.random((6, num)) < 0.5
    after = apply_relations(decisions, scores, rules)
    for child, ancestor in rules.implications:
        assert not (after[:, child] & ~after[:, ancestor]).any()
    for a, b in rules.exclusions:
        assert not (after[:, a] & after[:, b]).any()
    assert not (after & ~apply_implications(decisions, rules)).any()
    np.testing.assert_array_equal(apply_relations(after, scores, rules), after)


@settings(max_examples=100)
@given(relations(), st.integers(0, 2**32 - 1))
def test_consistent_scores_decide_consistently_at_any_one_threshold(rules, seed):
    scores = np.random.default_rng(seed).random((5, 7))
    after = apply_implications(scores, rules)
    assert (after >= scores).all()
    np.testing.assert_array_equal(after >= 0.5, apply_implications(scores >= 0.5, rules))
    np.testing.assert_array_equal(apply_implications(after, rules), after)
