"""Groups of copies, and labels on which copies disagree."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.core import tables
from tasks.images.near_duplicates import (
    HASHED,
    RULE_ORIGIN,
    Changes,
    cheapest_bands,
    duplicate_groups,
    equal_bytes,
    label_conflicts,
    near_pairs,
    resolve_conflicts,
    separate_distinct,
)

A = 0x0123456789ABCDEF  # 32 bits set
FAR = 0xFEDCBA9876543210  # its complement: 64 bits away


def groups_of(table: pa.Table) -> dict[str, str]:
    return dict(zip(table["image_id"].to_pylist(), table["group_id"].to_pylist(), strict=True))


def all_pairs(hashes: np.ndarray, radius: int) -> set[tuple[int, int, int]]:
    """The oracle: every pair compared."""
    distance = np.bitwise_count(hashes[:, None] ^ hashes[None, :])
    first, second = np.nonzero(np.triu(distance <= radius, k=1))
    return {(int(i), int(j), int(distance[i, j])) for i, j in zip(first, second, strict=True)}


@settings(max_examples=60)
@given(
    seeds=st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=8),
    flips=st.lists(st.lists(st.integers(0, 63), max_size=18), max_size=24),
    radius=st.integers(0, 16),
)
def test_every_pair_within_the_radius_is_found_once(seeds, flips, radius):
    near = [seeds[n % len(seeds)] ^ sum(1 << b for b in set(bits)) for n, bits in enumerate(flips)]
    hashes = np.array(seeds + near, np.uint64)
    pairs = list(zip(*(part.tolist() for part in near_pairs(hashes, radius=radius)), strict=True))
    assert len(pairs) == len(set(pairs))
    assert set(pairs) == all_pairs(hashes, radius)


@pytest.mark.parametrize("radius", [0, 1, 4, 7, 16])
def test_pairs_are_complete_among_two_thousand_hashes(radius):
    rng = np.random.default_rng(radius)
    hashes = rng.integers(0, 2**64, 2000, dtype=np.uint64)
    for _ in range(radius):
        hashes[1000:] = (
            hashes[:1000] if _ == 0 else hashes[1000:] ^ (np.uint64(1) << rng.integers(0, 64, 1000).astype(np.uint64))
        )
    pairs = set(zip(*(part.tolist() for part in near_pairs(hashes, radius=radius)), strict=True))
    assert pairs == all_pairs(hashes, radius)


@pytest.mark.parametrize("num_hashes", [1, 1_000, 1_000_000, 100_000_000])
def test_an_index_never_has_more_than_2_to_the_22_slots(num_hashes):
    assert all(cheapest_bands(num_hashes, radius) >= 3 for radius in range(17))


def test_equal_bytes_and_near_hashes_make_one_group_named_after_the_smallest_id():
    table = duplicate_groups(
        ["c", "a", "b", "d"],
        ["1" * 64, "2" * 64, "2" * 64, "3" * 64],
        [A ^ 0b11, FAR, A, FAR ^ (0xFF << 20)],
        radius=2,
    )
    # c ~ b by hash (2 bits), b = a by bytes; d is 8 bits from a
    assert groups_of(table) == {"a": "a", "b": "a", "c": "a", "d": "d"}
    assert table.schema.equals(tables.GROUPS)


def test_among_near_images_those_of_equal_bytes_are_separate_distinct():
    content = ["1" * 64, "2" * 64, "2" * 64, None, None]
    images = pa.table({"image_id": list("cabde"), "sha256": content})
    near = duplicate_groups(images["image_id"], content, [A] * 5, radius=0)
    assert set(groups_of(near).values()) == {"a"}
    assert groups_of(equal_bytes(near, images)) == {"a": "a", "b": "a", "c": "c", "d": "d", "e": "e"}


@pytest.mark.parametrize(
    ("distinct", "groups"),
    [
        ([], {"a": "a", "b": "a", "c": "a", "d": "a", "e": "e"}),
        ([("1", "2")], {"a": "a", "b": "b", "c": "b", "d": "b", "e": "e"}),  # a was joined by b alone
        ([("2", "3")], {"a": "a", "b": "a", "c": "c", "d": "c", "e": "e"}),  # c and d have the same bytes
        ([("3", "3")], {"a": "a", "b": "a", "c": "a", "d": "a", "e": "e"}),  # nobody tells the same bytes apart
        ([("1", "9")], {"a": "a", "b": "a", "c": "a", "d": "a", "e": "e"}),  # of a picture that is gone
    ],
)
def test_a_group_falls_apart_where_people_say_that_its_pictures_are_no_duplicates(distinct, groups):
    # a-b and b-c differ in 1 bit, a-c in 2
    images = pa.table(
        {"image_id": list("abcde"), "sha256": list("12334"), "phash": [A, A ^ 0b1, A ^ 0b11, A ^ 0b11, FAR]},
        schema=HASHED,
    )
    near = duplicate_groups(*images.columns, radius=1)
    table = separate_distinct(near, images, set(distinct), radius=1)
    assert groups_of(table) == groups
    assert table.schema.equals(tables.GROUPS)


def test_a_chain_of_near_images_is_one_group():
    chain = [A, A ^ 0b1, A ^ 0b11, A ^ 0b111]  # ends differ in 3 bits
    table = duplicate_groups(list("wxyz"), [None] * 4, chain, radius=1)
    assert set(groups_of(table).values()) == {"w"}


def test_unknown_hashes_join_nothing():
    table = duplicate_groups(["a", "b", "c"], [None, None, None], [None, None, A], radius=16)
    assert groups_of(table) == {"a": "a", "b": "b", "c": "c"}


def test_flat_images_join_by_bytes_only():
    flat = 1 << 63  # only the mean
    table = duplicate_groups(["a", "b", "c"], ["1" * 64, "1" * 64, "2" * 64], [flat] * 3, radius=4)
    assert groups_of(table) == {"a": "a", "b": "a", "c": "c"}


def test_no_image_is_no_error():
    assert duplicate_groups([], [], [], radius=4).num_rows == 0


@settings(max_examples=30)
@given(order=st.permutations(range(12)), seed=st.integers(0, 100))
def test_groups_do_not_depend_on_the_order_of_the_images(order, seed):
    rng = np.random.default_rng(seed)
    hashes = [A ^ int(rng.integers(0, 64)) for _ in range(12)]
    contents = [f"{rng.integers(0, 6):064d}" for _ in range(12)]
    ids = [f"image {n}" for n in range(12)]
    table = duplicate_groups(ids, contents, hashes, radius=1)
    shuffled = duplicate_groups(
        [ids[n] for n in order], [contents[n] for n in order], [hashes[n] for n in order], radius=1
    )
    assert shuffled.equals(table)


# ---------------------------------------------------------------- labels


def groups(**members: str) -> pa.Table:
    """groups(g="abc") -> images a, b, c in group g."""
    rows = [{"image_id": image_id, "group_id": group} for group, ids in members.items() for image_id in ids]
    return pa.Table.from_pylist(rows, schema=tables.GROUPS)


def labels(*rows: tuple[str, str, int], confidence: float = 0.9) -> pa.Table:
    named = [
        {"image_id": i, "label": label, "state": state, "confidence": confidence, "origin": "annotation"}
        for i, label, state in rows
    ]
    return pa.Table.from_pylist(named, schema=tables.LABELS)


def states(table: pa.Table) -> dict[tuple[str, str], int]:
    return {(r["image_id"], r["label"]): r["state"] for r in table.to_pylist()}


NOTHING = tables.empty(tables.UNKNOWN)
PARTIAL = {  # no source annotates anything exhaustively
    "images": tables.empty(tables.IMAGES),
    "coverage": tables.empty(tables.COVERAGE),
    "unknown": NOTHING,
}


def test_a_conflict_names_both_sides():
    found = label_conflicts(
        groups(g="abc", h="d"), labels(("a", "cat", 1), ("b", "cat", 0), ("c", "dog", 1), ("d", "cat", 0)), **PARTIAL
    )
    assert found.to_pylist() == [{"group_id": "g", "label": "cat", "present": ["a"], "absent": ["b"]}]


def test_unknown_conflicts_with_nothing():
    assert label_conflicts(groups(g="ab"), labels(("a", "cat", 1)), **PARTIAL).num_rows == 0


def exhaustive(unknown: list[tuple[str, str]]) -> dict[str, pa.Table]:
    """Image b stands in a source that annotates cats exhaustively."""
    return {
        "images": pa.table({"image_id": ["a", "b"], "source": ["web", "coco"]}),
        "coverage": pa.table({"source": ["coco"], "label": ["cat"]}),
        "unknown": pa.Table.from_pylist([{"image_id": i, "label": h} for i, h in unknown], schema=tables.UNKNOWN),
    }


def test_no_row_in_an_exhaustive_source_is_an_absence():
    found = label_conflicts(groups(g="ab"), labels(("a", "cat", 1)), **exhaustive(unknown=[]))
    assert found["absent"].to_pylist() == [["b"]]


def test_a_pair_declared_unknown_in_an_exhaustive_source_is_no_absence():
    assert label_conflicts(groups(g="ab"), labels(("a", "cat", 1)), **exhaustive(unknown=[("b", "cat")])).num_rows == 0


def resolve(members: pa.Table, given_labels: pa.Table, rule: str):
    return resolve_conflicts(given_labels, NOTHING, label_conflicts(members, given_labels, **PARTIAL), rule=rule)


THREE = (("a", "cat", 1), ("b", "cat", 0), ("c", "cat", 0), ("c", "dog", 1), ("d", "cat", 1))


@pytest.mark.parametrize(
    ("rule", "cats", "unknown"),
    [
        ("unknown", {}, ["a", "b", "c"]),
        ("present", {"a": 1, "b": 1, "c": 1}, []),
        ("majority", {"a": 0, "b": 0, "c": 0}, []),
    ],
)
def test_each_rule_resolves_the_whole_group(rule, cats, unknown):
    given_labels, members = labels(*THREE), groups(g="abc", h="d")
    resolved, forgotten, changes = resolve(members, given_labels, rule)
    assert given_labels.num_rows - changes.dropped + changes.added == resolved.num_rows
    assert states(resolved) == {(i, "cat"): s for i, s in cats.items()} | {("c", "dog"): 1, ("d", "cat"): 1}
    assert forgotten["image_id"].to_pylist() == unknown
    assert label_conflicts(members, resolved, **PARTIAL).num_rows == 0


def test_a_tied_majority_is_unknown():
    given_labels = labels(("a", "cat", 1), ("b", "cat", 0))
    resolved, forgotten, _ = resolve(groups(g="ab"), given_labels, "majority")
    assert resolved.num_rows == 0
    assert forgotten["image_id"].to_pylist() == ["a", "b"]


def test_overruled_rows_say_so_and_take_the_surest_confidence():
    given_labels = pa.concat_tables([labels(("a", "cat", 1), confidence=0.7), labels(("b", "cat", 0), confidence=0.9)])
    resolved, _, changes = resolve(groups(g="ab"), given_labels, "present")
    assert changes == Changes(dropped=0, added=0, overruled=1)
    by_image = {r["image_id"]: r for r in resolved.to_pylist()}
    assert by_image["a"]["origin"] == "annotation"
    assert by_image["b"]["origin"] == RULE_ORIGIN
    assert by_image["b"]["confidence"] == pytest.approx(0.7)


def test_an_implied_absence_that_wins_is_written_and_one_that_loses_becomes_present():
    given_labels = labels(("a", "cat", 1))
    found = label_conflicts(groups(g="ab"), given_labels, **exhaustive(unknown=[]))
    resolved, _, changes = resolve_conflicts(given_labels, NOTHING, found, rule="present")
    assert changes == Changes(dropped=0, added=1, overruled=0)
    assert states(resolved) == {("a", "cat"): 1, ("b", "cat"): 1}
    resolved, forgotten, changes = resolve_conflicts(given_labels, NOTHING, found, rule="unknown")
    assert changes == Changes(dropped=1, added=0, overruled=0)
    assert resolved.num_rows == 0
    assert tables.check_unique(forgotten, ["image_id", "label"], where="unknown") is None
    assert forgotten["image_id"].to_pylist() == ["a", "b"]
