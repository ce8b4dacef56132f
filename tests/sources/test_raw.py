"""Objects collapse to pairs in three states, and none is lost on the way."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.sources import raw
from tasks.sources.raw import collapse_objects, labels_table, prefixed, sorted_distinct

objects = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2), st.sampled_from([1, 0, -1])))


@given(objects)
def test_present_wins_over_unknown_wins_over_nothing(rows):
    images, labels, states = np.asarray(rows, np.int64).reshape(-1, 3).T
    collapsed = collapse_objects(images, labels, states, num_labels=3, reasons={5: "x"}, why_O=np.full(len(rows), 5))
    present = {3 * i + j for i, j, state in rows if state == 1}
    unknown = {3 * i + j for i, j, state in rows if state == -1} - present
    assert collapsed.present.tolist() == sorted(present)
    assert collapsed.unknown.tolist() == sorted(unknown)
    assert len(collapsed.present) + sum(count for _, count, _ in collapsed.dropped) == len(rows)


def test_an_object_that_does_not_count_needs_a_reason():
    one = np.zeros(1, np.int64)
    with pytest.raises(AssertionError, match="an object without a reason"):
        collapse_objects(one, one, one - 1, num_labels=1)


@given(st.lists(st.integers(-(2**62), 2**62)))
def test_sorted_distinct_is_what_numpy_calls_unique(values):
    assert sorted_distinct(np.asarray(values, np.int64)).tolist() == sorted(set(values))


def test_tables_larger_than_a_chunk_are_the_same_rows(monkeypatch):
    ids = prefixed("s", ["a", "b/c", "ü"])
    entries = np.asarray([0, 1, 3, 4, 5])
    whole = labels_table(ids, ["x", "y"], entries, origin="annotation").to_pylist()
    monkeypatch.setattr(raw, "ROWS_A_CHUNK", 2)
    assert labels_table(ids, ["x", "y"], entries, origin="annotation").to_pylist() == whole
    assert [(row["image_id"], row["label"]) for row in whole] == [
        ("s/a", "x"),
        ("s/a", "y"),
        ("s/b/c", "y"),
        ("s/ü", "x"),
        ("s/ü", "y"),
    ]
