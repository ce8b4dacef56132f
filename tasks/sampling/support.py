"""What a split leaves to learn, to calibrate and to measure: positives of each label in each partition."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from tasks.sampling.label_matrices import present_matrix

USES = {"train": "learn from", "calibration": "calibrate on", "test": "measure on"}
"""Partition -> what its positives serve for."""

FEW = 5
"""Positives below which a label is named: where the thresholds' rules fall back by default, too."""


def positives(splits: pa.Table, label_rows: pa.Table, labels: Sequence[str]) -> dict[str, np.ndarray]:
    """Partition of USES -> int64 (C,), images on which each label is present.  label_rows: LABELS.  splits: SPLITS."""
    present_NC = present_matrix(label_rows, splits["image_id"], labels)
    partitions = np.asarray(splits["partition"].to_pylist())
    return {name: np.asarray(present_NC[partitions == name].sum(axis=0)).ravel().astype(np.int64) for name in USES}


def sizes_line(splits: pa.Table, labels: Sequence[str]) -> str:
    """E.g. "91 train, 12 calibration, 34 test images; 73 labels".  splits: SPLITS."""
    sizes = Counter(splits["partition"].to_pylist())
    order = [*USES, *sorted(sizes.keys() - USES.keys())]
    return f"{', '.join(f'{sizes[name]:,} {name}' for name in order)} images; {len(labels):,} labels"


def support_lines(counts: Mapping[str, np.ndarray], labels: Sequence[str]) -> list[str]:
    """A line for each partition in which labels have fewer than FEW positives, the rarest first.

    counts: of `positives`.
    """
    lines = []
    for name, counts_C in counts.items():
        few = [(int(counts_C[c]), labels[c]) for c in np.argsort(counts_C, kind="stable") if counts_C[c] < FEW]
        if few:
            listed = ", ".join(f"{label} ({count})" for count, label in few[:3]) + (", …" if len(few) > 3 else "")
            lines.append(
                f"{len(few)} of {len(labels)} labels have fewer than {FEW} positives to {USES[name]} ({name}): {listed}"
            )
    return lines
