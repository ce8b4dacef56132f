"""How well cleaning found annotation errors that were planted on purpose (the embedded data keep their truth)."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from tasks.core.tables import UNKNOWN_STATE


def score_cleaning(truth: pa.Table, changes: pa.Table, queue: pa.Table, labels: Sequence[str]) -> dict:
    """Precision and recall of the changes that `clean` made by itself, against the planted errors; {} without any.

    truth: TRUTH, the (image, label) pairs that were annotated wrongly.  changes: CHANGES, with the ids of the images
    that `clean` saw as metadata.  queue: QUEUE.
    An error is recovered when the pair now has its true state, and found when it is at least no longer wrong (unknown,
    or waiting in the review queue).
    """
    images, known_labels = set(json.loads(changes.schema.metadata[b"image_ids"])), set(labels)
    planted = {
        (image_id, label): true
        for image_id, label, true in _rows(truth, "image_id", "label", "true")
        if image_id in images and label in known_labels
    }
    if not planted:
        return {}
    changed = {
        (image_id, label): after
        for image_id, label, after, rule in _rows(changes, "image_id", "label", "after", "rule")
        if not rule.startswith(("rule:implies", "review:"))
    }
    queued = set(_rows(queue, "image_id", "label"))
    decided = {pair: after for pair, after in changed.items() if after != UNKNOWN_STATE}
    recovered = sum(planted.get(pair) == after for pair, after in decided.items())
    return {
        "planted": len(planted),
        "changed": len(decided),
        "recovered": recovered,
        "precision": recovered / max(len(decided), 1),
        "recall": recovered / len(planted),
        "found_with_queue": sum(pair in queued or pair in changed for pair in planted) / len(planted),
        "queue_precision": float(np.mean([pair in planted for pair in queued])) if queued else None,
    }


def _rows(table: pa.Table, *columns: str) -> zip:
    return zip(*(table[column].to_pylist() for column in columns), strict=True)
