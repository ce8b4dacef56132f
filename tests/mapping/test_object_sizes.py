"""Sizes of objects in the project's vocabulary."""

from __future__ import annotations

import pyarrow as pa

from tasks.core.tables import OBJECTS
from tasks.mapping.object_sizes import map_objects
from tasks.taxonomy.taxonomy import Taxonomy

TAXONOMY = Taxonomy.model_validate(
    {
        "labels": [
            {"id": "cat", "implies": ["animal"], "from": {"coco": ["cat", "kitten"]}},
            {"id": "dog", "implies": ["animal"], "from": {"coco": ["dog"]}},
            {"id": "animal"},
        ]
    }
)


def objects(*rows: tuple[str, str, float]) -> pa.Table:
    return pa.Table.from_pylist([dict(zip(OBJECTS.names, row, strict=True)) for row in rows], schema=OBJECTS)


def test_the_largest_object_stands_for_each_label_and_for_what_it_implies():
    rows = objects(("a", "cat", 10), ("a", "kitten", 4), ("a", "dog", 50), ("a", "car", 99), ("b", "kitten", 7))
    assert map_objects(rows, TAXONOMY, "coco").equals(
        objects(("a", "animal", 50), ("a", "cat", 10), ("a", "dog", 50), ("b", "animal", 7), ("b", "cat", 7))
    )


def test_a_source_without_sizes_has_none():
    assert map_objects(OBJECTS.empty_table(), TAXONOMY, "coco").num_rows == 0
    assert map_objects(objects(("a", "cat", 10)), TAXONOMY, "voc").num_rows == 0
