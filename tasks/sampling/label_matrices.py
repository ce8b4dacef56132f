"""Long label rows -> sparse matrices, for data too large for dense ones (1.9 M images x 601 labels).

Axes: N images, C labels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.sparse import csr_array

from tasks.core.tables import ABSENT, PRESENT


def present_matrix(
    label_rows: pa.Table, image_ids: Sequence[str] | pa.ChunkedArray, labels: Sequence[str]
) -> csr_array:
    """bool csr (N, C): which label is known to be present on which image.

    label_rows: tables.LABELS; rows of other images or labels are ignored, repeated rows count once.
    """
    return _matrix(label_rows, PRESENT, image_ids, labels)


def absent_matrix(label_rows: pa.Table, image_ids: Sequence[str] | pa.ChunkedArray, labels: Sequence[str]) -> csr_array:
    """bool csr (N, C): which label has a row that says it is absent; absences implied by coverage are not in it."""
    return _matrix(label_rows, ABSENT, image_ids, labels)


def _matrix(
    label_rows: pa.Table, state: int, image_ids: Sequence[str] | pa.ChunkedArray, labels: Sequence[str]
) -> csr_array:
    rows = label_rows.filter(pc.equal(label_rows["state"], state))
    image = pc.index_in(rows["image_id"], value_set=_strings(image_ids))
    label = pc.index_in(rows["label"], value_set=_strings(labels))
    wanted = pc.and_(image.is_valid(), label.is_valid())
    image, label = image.filter(wanted).to_numpy(), label.filter(wanted).to_numpy()
    matrix = csr_array((np.ones(len(image), np.int32), (image, label)), shape=(len(image_ids), len(labels)))
    matrix.sum_duplicates()
    return matrix.astype(bool)


def _strings(values: Sequence[str] | pa.ChunkedArray) -> pa.Array:
    return values.combine_chunks() if isinstance(values, pa.ChunkedArray) else pa.array(values, pa.string())
