"""Rows of source classes -> the project's labels: what each becomes, where the rest went, nothing made up."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.core.ledger import Ledger
from tasks.core.tables import LABELS, conform
from tasks.mapping.coverage import map_coverage
from tasks.mapping.mapping import map_rows, provable_absences, union
from tasks.taxonomy.drafts import draft_taxonomy
from tasks.taxonomy.reading import parse_taxonomy, read_taxonomy
from tasks.taxonomy.taxonomy import Taxonomy
from tests.taxonomy.kits import label_rows, open_images, pairs_of, states, unknown_rows

CITY = parse_taxonomy(
    {
        "labels": [
            {"id": "car", "implies": ["vehicle"], "from": {"v": ["car", "auto"]}},
            {"id": "bus", "implies": ["vehicle"], "from": {"v": ["bus"]}},
            {"id": "vehicle", "from": {"v": ["vehicle"]}},
            {"id": "coffee", "from": {"v": ["coffee shop", "coffee"]}},
            {"id": "shop", "from": {"v": ["coffee shop"]}},
        ],
        "drop": {"v": {"shadow": "no object"}},
    }
)


def mapped_states(rows: list[tuple], **options) -> dict[str, int]:
    """label -> state on the one image of `rows`."""
    found = map_rows(label_rows([("i", *row) for row in rows]), CITY, "v", **options)
    return {label: state for (_, label), state in states(found.labels).items()}


def test_any_class_of_a_label_makes_it_present():
    assert mapped_states([("auto", 1)]) == {"car": 1, "vehicle": 1}


def test_a_label_is_absent_only_when_all_its_classes_are():
    assert mapped_states([("car", 0)]) == {}
    assert mapped_states([("car", 0), ("auto", 0)]) == {"car": 0}
    assert mapped_states([("car", 0), ("auto", 1)]) == {"car": 1, "vehicle": 1}
    assert mapped_states([("bus", 0)]) == {"bus": 0}


def test_a_class_stated_twice_counts_once_for_the_union():
    assert mapped_states([("car", 0), ("car", 0)]) == {}


def test_the_descendants_of_a_label_belong_to_its_union():
    labels = [
        {"id": "vehicle", "from": {"v": ["car", "truck"]}},
        {"id": "bus", "implies": ["vehicle"], "from": {"v": ["bus"]}},
    ]
    taxonomy = parse_taxonomy({"labels": labels})
    two = map_rows(label_rows([("i", "car", 0), ("i", "truck", 0)]), taxonomy, "v")
    three = map_rows(label_rows([("i", "car", 0), ("i", "truck", 0), ("i", "bus", 0)]), taxonomy, "v")
    assert states(two.labels) == {}
    assert states(three.labels) == {("i", "vehicle"): 0, ("i", "bus"): 0}


def test_the_presence_of_an_ambiguous_class_counts_for_each_label_and_its_absence_for_none():
    assert mapped_states([("coffee shop", 1)]) == {"coffee": 1, "shop": 1}
    assert mapped_states([("coffee shop", 0)]) == {}
    assert mapped_states([("coffee shop", 0), ("coffee", 0)]) == {"coffee": 0}


def test_a_class_that_is_present_and_absent_at_once_is_a_contradiction_even_if_it_is_one_of_several():
    found = map_rows(label_rows([("i", "car", 1), ("i", "car", 0)]), CITY, "v")
    assert pairs_of(found.unknown) == {("i", "car"), ("i", "vehicle")}
    assert found.contradictions["kind"].to_pylist() == ["rows disagree"]


def test_every_row_is_accounted_for_by_reason():
    rows = [
        ("i", "car", 1), ("i", "auto", 1), ("i", "shadow", 1), ("i", "cat", 1), ("j", "car", 0),
        ("j", "coffee shop", 0), ("k", "coffee shop", 1), ("k", "bus", 1), ("k", "bus", 0),
        ("k", "car", 1, 0.5, "vendor:x"),
    ]  # fmt: skip
    found = map_rows(label_rows(rows), CITY, "v")
    assert found.num_in == 10
    assert found.dropped == {
        "declared drop: no object": 1,  # shadow
        "source class is not in the taxonomy": 1,  # cat
        "only some of a label's source classes are absent": 2,  # car without auto; coffee without its other class
        "absence of an ambiguous source class": 1,  # shop
        "says the same as another row": 1,  # car, auto
        "present and absent at once": 2,  # bus
    }
    assert found.added == {"one source class maps to several labels": 2, "rule:implies": 1}
    assert found.unmapped == {"cat": 1}
    ledger = Ledger("map_labels")
    found.book(ledger)
    assert ledger.unexplained() == {}
    assert ledger.as_dict()["units"]["labels"]["out"] == 5  # i: car, vehicle; k: coffee, shop; and one proposal


def test_proposals_stay_apart_and_imply_nothing():
    rows = [
        ("i", "car", 1, 0.5, "vendor:x"),
        ("i", "auto", 1, 0.75, "vendor:x"),
        ("i", "car", 1, 0.25, "model:m"),
        ("i", "bus", 1),
    ]
    found = map_rows(label_rows(rows), CITY, "v")
    assert states(found.labels) == {("i", "bus"): 1, ("i", "vehicle"): 1}
    assert [(r["origin"], r["confidence"]) for r in found.proposals.to_pylist()] == [
        ("model:m", 0.25),
        ("vendor:x", 0.75),
    ]
    assert found.dropped == {"says the same as another proposal": 1}


def test_a_pair_that_the_source_leaves_open_stays_open_for_the_label_and_what_it_implies():
    found = map_rows(label_rows([]), CITY, "v", unknown=unknown_rows([("i", "car"), ("i", "shadow")]))
    assert pairs_of(found.unknown) == {("i", "car"), ("i", "vehicle")}


def test_another_class_that_is_present_decides_a_pair_left_open():
    found = map_rows(label_rows([("i", "auto", 1)]), CITY, "v", unknown=unknown_rows([("i", "car")]))
    assert (states(found.labels)[("i", "car")], found.unknown.num_rows) == (1, 0)


def test_a_vocabulary_that_the_taxonomy_never_mentions_maps_to_nothing_and_says_so():
    found = map_rows(label_rows([("i", "car", 1)]), CITY, "w")
    assert (found.labels.num_rows, found.unmapped) == (0, {"car": 1})


def test_an_empty_source_gives_empty_tables_of_the_right_shape():
    found = map_rows(LABELS.empty_table(), CITY, "v")
    for table in (found.labels, found.proposals):
        assert conform(table, LABELS, where="labels").num_rows == 0


def test_text_columns_of_any_arrow_text_type_are_read():
    rows = label_rows([("i", "car", 1), ("j", "bus", 0)])
    expected = map_rows(rows, CITY, "v").labels
    for kind in (pa.large_string(), pa.dictionary(pa.int8(), pa.string()), pa.string_view()):
        cast = rows.set_column(0, "image_id", rows["image_id"].cast(kind)).set_column(
            1, "label", rows["label"].cast(kind)
        )
        assert (
            map_rows(pa.concat_tables([cast.slice(0, 1), cast.slice(1)]), CITY, "v").labels.to_pylist()
            == expected.to_pylist()
        )


@pytest.mark.parametrize("name", ["__proto__", "a/x", 'a,b "c"', "👍🏽", " padded ", "null", "é", "e\u0301"])
def test_odd_names_of_labels_and_images_pass_unchanged(name):
    taxonomy = parse_taxonomy({"labels": [{"id": name, "from": {"v": [name]}}]})
    assert states(map_rows(label_rows([(f"s/{name}/1", name, 1)]), taxonomy, "v").labels) == {(f"s/{name}/1", name): 1}


# ---------------------------------------------------------------- invariants: a world, and true rows about it

NAMES = [f"n{n}" for n in range(6)]


@st.composite
def taxonomies(draw) -> Taxonomy:
    """Up to 6 labels in a random DAG over 6 source classes: shared ones, several a label, exhaustive children."""
    num = draw(st.integers(1, 6))
    parents = [draw(st.sets(st.integers(n + 1, num - 1), max_size=2)) if n + 1 < num else set() for n in range(num)]
    has_children = set().union(*parents)
    labels = [
        {
            "id": f"L{n}",
            "implies": [f"L{p}" for p in sorted(parents[n])],
            "exhaustive_children": n in has_children and draw(st.booleans()),
            "from": {"v": sorted(draw(st.sets(st.sampled_from(NAMES), max_size=3)))},
        }
        for n in range(num)
    ]
    return parse_taxonomy({"labels": draw(st.permutations(labels))})


def complete_world(true_names: set[str], taxonomy: Taxonomy) -> tuple[set[str], set[str]]:
    """The smallest world (true names, true labels) around some true names in which all that the taxonomy says holds."""
    names, labels = set(true_names), set()
    while True:
        before = len(names) + len(labels)
        labels |= {label for name in names for label in taxonomy.class_map("v").get(name, ())}
        labels |= {a for label in labels for a in taxonomy.ancestors[label]}
        for label in sorted(labels):
            if taxonomy[label].exhaustive_children and labels.isdisjoint(taxonomy.children[label]):
                labels.add(taxonomy.children[label][0])
            # A union that can show an absence is complete: where the label is, one of its names is.
            if label in provable_absences(taxonomy, "v") and names.isdisjoint(union(taxonomy, "v", label)):
                names.add(taxonomy[label].source_classes["v"][0])
        if len(names) + len(labels) == before:
            return names, labels


@st.composite
def observations(draw):
    """A taxonomy, a true world for each of two images, and true rows about some of their classes, some twice."""
    taxonomy = draw(taxonomies())
    worlds = {image: complete_world(draw(st.sets(st.sampled_from(NAMES), max_size=3)), taxonomy) for image in "ab"}
    pairs = draw(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(NAMES)), max_size=16))
    rows = [(image, name, int(name in worlds[image][0])) for image, name in pairs]
    return taxonomy, worlds, rows


@settings(max_examples=300)
@given(observations())
def test_true_rows_never_map_to_a_false_label(case):
    taxonomy, worlds, rows = case
    found = map_rows(label_rows(rows), taxonomy, "v")
    for (image, label), state in states(found.labels).items():
        assert state == (label in worlds[image][1]), (image, label)
    assert found.contradictions.num_rows == 0


@settings(max_examples=300)
@given(observations(), st.sets(st.sampled_from(NAMES)), st.data())
def test_what_no_row_says_is_absent_only_where_coverage_proves_it(case, exhaustive, data):
    taxonomy, worlds, _ = case
    present = [(image, name) for image, (names, _) in worlds.items() for name in sorted(names & exhaustive)]
    left_open = set(data.draw(st.lists(st.sampled_from(present))) if present else [])
    rows = [(*pair, 1) for pair in present if pair not in left_open]
    found = map_rows(label_rows(rows), taxonomy, "v", unknown=unknown_rows(left_open))
    known, unknown = states(found.labels), pairs_of(found.unknown)
    for label in map_coverage(exhaustive, taxonomy, "v"):
        for image, (_, labels) in worlds.items():
            if (image, label) not in known and (image, label) not in unknown:
                assert label not in labels, (image, label)


@settings(max_examples=200)
@given(
    taxonomies(),
    st.lists(
        st.tuples(
            st.sampled_from("ab"),
            st.sampled_from([*NAMES, "stranger"]),
            st.integers(0, 1),
            st.sampled_from([0.25, 0.5, 1.0]),
            st.sampled_from(["annotation", "verified", "vendor:x", "model:m"]),
        ),
        max_size=25,
    ),
    st.randoms(use_true_random=False),
)
def test_rows_are_conserved_and_their_order_is_free(taxonomy, rows, random):
    found = map_rows(label_rows(rows), taxonomy, "v")
    out = found.labels.num_rows + found.proposals.num_rows
    assert found.num_in - found.dropped.total() + found.added.total() == out
    assert sum(found.source_classes.values()) == len(rows)
    random.shuffle(rows)
    again = map_rows(label_rows(rows), taxonomy, "v")
    assert again.labels.to_pylist() == found.labels.to_pylist()
    assert again.proposals.to_pylist() == found.proposals.to_pylist()
    assert (again.dropped, again.added) == (found.dropped, found.added)


# ---------------------------------------------------------------- real data


def test_real_open_images_rows_are_conserved_and_reach_all_their_ancestors(real_data, tmp_path):
    parents, names = open_images(real_data)
    path = tmp_path / "taxonomy.yaml"
    path.write_text(draft_taxonomy(parents, names, "openimages"), encoding="utf-8")
    taxonomy = read_taxonomy(path)
    import csv

    with open(real_data / "openimages" / "human-imagelabels.csv", newline="") as file:
        rows = [
            (r["ImageID"], r["LabelName"], int(float(r["Confidence"])), 1.0, "verified") for r in csv.DictReader(file)
        ]
    found = map_rows(label_rows(rows), taxonomy, "openimages")

    def ancestors(mid: str) -> set[str]:
        return set().union(*({p} | ancestors(p) for p in parents[mid])) - {"/m/0bl9f"}

    expected = {(image, mid) for image, own, _, _, _ in rows for mid in {own} | ancestors(own)}
    mid_of = {label.id: label.source_classes["openimages"][0] for label in taxonomy.labels}
    assert {(image, mid_of[label]) for image, label in pairs_of(found.labels)} == expected
    assert found.num_in == len(rows) == 288
    assert found.dropped == {}
    assert found.added == {"rule:implies": len(expected) - 288}
