"""Label rows -> sparse matrices."""

from __future__ import annotations

import pyarrow as pa

from tasks.core import tables
from tasks.sampling.label_matrices import absent_matrix, present_matrix


def rows(*stated: tuple[str, str, int]) -> pa.Table:
    named = [{"image_id": i, "label": h, "state": s, "confidence": 1, "origin": "annotation"} for i, h, s in stated]
    return pa.Table.from_pylist(named, schema=tables.LABELS)


ROWS = rows(("b", "dog", 1), ("a", "cat", 1), ("a", "cat", 1), ("b", "cat", 0), ("c", "cat", 1), ("a", "cow", 1))


def test_presences_and_absences_are_apart_and_unknown_is_neither():
    assert present_matrix(ROWS, ["a", "b"], ["cat", "dog"]).toarray().tolist() == [[True, False], [False, True]]
    assert absent_matrix(ROWS, ["a", "b"], ["cat", "dog"]).toarray().tolist() == [[False, False], [True, False]]


def test_the_order_of_images_and_labels_is_that_of_the_arguments():
    ids = pa.chunked_array([["b"], ["a"]])
    assert present_matrix(ROWS, ids, ["dog", "cat"]).toarray().tolist() == [[True, False], [False, True]]


def test_no_row_is_no_error():
    assert present_matrix(ROWS.slice(0, 0), ["a"], ["cat"]).toarray().tolist() == [[False]]
