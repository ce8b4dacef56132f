"""What a split leaves to learn, to calibrate and to measure."""

from __future__ import annotations

import pyarrow as pa

from tasks.core.tables import LABELS
from tasks.sampling.support import positives, support_lines


def test_labels_with_few_positives_in_a_partition_are_named_rarest_first():
    # cat: 6 in train, 5 in test; dog: 1 in train, absent elsewhere; eel: nowhere
    sides = ["train"] * 6 + ["test"] * 5 + ["calibration", "unused"]
    ids = [f"s/{n}" for n in range(len(sides))]
    splits = pa.table({"image_id": ids, "partition": sides})
    present = [(ids[n], "cat", 1) for n in range(11)] + [(ids[0], "dog", 1), (ids[6], "dog", 0), (ids[12], "eel", 1)]
    rows = [
        {"image_id": i, "label": name, "state": s, "confidence": 1.0, "origin": "annotation"} for i, name, s in present
    ]
    counts = positives(splits, pa.Table.from_pylist(rows, schema=LABELS), ["cat", "dog", "eel"])
    assert {name: list(counts_C) for name, counts_C in counts.items()} == {
        "train": [6, 1, 0],
        "calibration": [0, 0, 0],
        "test": [5, 0, 0],
    }
    assert support_lines(counts, ["cat", "dog", "eel"]) == [
        "2 of 3 labels have fewer than 5 positives to learn from (train): eel (0), dog (1)",
        "3 of 3 labels have fewer than 5 positives to calibrate on (calibration): cat (0), dog (0), eel (0)",
        "2 of 3 labels have fewer than 5 positives to measure on (test): dog (0), eel (0)",
    ]
