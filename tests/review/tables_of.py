"""Small tables of a run, written as rows."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from tasks.core import tables
from tasks.core.prediction_table import Predictions


def queue_of(*rows: tuple) -> pa.Table:
    """QUEUE of (image_id, label, given, score, priority, reason)."""
    return pa.Table.from_pylist([dict(zip(tables.QUEUE.names, row, strict=True)) for row in rows], schema=tables.QUEUE)


def images_of(*image_ids: str, quarantined: dict[str, str] | None = None, uri: str = "{}.png") -> pa.Table:
    """IMAGES with a made-up sha256; quarantined: image id -> reason."""
    quarantined = quarantined or {}
    rows = [
        {
            "image_id": image_id,
            "source": "toy",
            "uri": uri.format(image_id),
            "sha256": f"sha-{image_id}",
            "status": "quarantined" if image_id in quarantined else "ok",
            "reason": quarantined.get(image_id),
        }
        for image_id in [*image_ids, *quarantined]
    ]
    return pa.Table.from_pylist(rows, schema=tables.IMAGES)


def labels_of(*rows: tuple[str, str, int]) -> pa.Table:
    """LABELS of (image_id, label, state)."""
    filled = [dict(zip(tables.LABELS.names, (*row, 1.0, "annotation"), strict=True)) for row in rows]
    return pa.Table.from_pylist(filled, schema=tables.LABELS)


def groups_of(**group_of: str) -> pa.Table:
    """GROUPS of image_id=group_id."""
    rows = [{"image_id": image_id, "group_id": group} for image_id, group in group_of.items()]
    return pa.Table.from_pylist(rows, schema=tables.GROUPS)


def predictions_of(labels: list[str], scores: dict[str, list[float]], **columns) -> Predictions:
    """Predictions of image id -> one score a label."""
    scores_NC = np.asarray(list(scores.values()), np.float32).reshape(len(scores), len(labels))
    partitions = columns.pop("partitions", ["train"] * len(scores))
    return Predictions(list(scores), partitions, labels, scores_NC, "model", "raw", **columns)
