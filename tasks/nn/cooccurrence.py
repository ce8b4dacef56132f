"""Which labels occur together: what the report shows of the data, and what graph heads start from.

Axes: N images, C labels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

ROWS_PER_PRODUCT = 1 << 16
"""float32 counts within one product stay far below 2**24, where they would stop being exact."""


@dataclass(frozen=True)
class Cooccurrence:
    """How often labels stand on the same image, over known labels only.

    nums_C: int64, images on which the label is known present.
    adj_CC: int64, symmetric, diagonal 0: images on which both are known present.
    known_CC: int64, images on which the row's label is present and the column's is known either way.
    """

    nums_C: np.ndarray
    adj_CC: np.ndarray
    known_CC: np.ndarray

    @classmethod
    def count(cls, targets_NC: np.ndarray, known_NC: np.ndarray) -> Cooccurrence:
        """Count each image once, and only what is known of it.

        targets_NC: {0, 1}, meaningless where unknown.  known_NC: bool.
        """
        num_labels = targets_NC.shape[1]
        both_CC, known_CC = np.zeros((2, num_labels, num_labels), np.int64)
        for start in range(0, len(targets_NC), ROWS_PER_PRODUCT):
            known = np.asarray(known_NC[start : start + ROWS_PER_PRODUCT], bool)
            present = ((targets_NC[start : start + ROWS_PER_PRODUCT] != 0) & known).astype(np.float32)
            both_CC += (present.T @ present).astype(np.int64)
            known_CC += (present.T @ known.astype(np.float32)).astype(np.int64)
        nums_C = both_CC.diagonal().copy()
        np.fill_diagonal(both_CC, 0)
        return cls(nums_C, both_CC, known_CC)

    @classmethod
    def placeholder(cls, num_labels: int) -> Cooccurrence:
        """Empty counts, for a head whose graph is about to be loaded."""
        return cls(np.zeros(num_labels, np.int64), *np.zeros((2, num_labels, num_labels), np.int64))

    def conditional_probability(self) -> np.ndarray:
        """P(column | row), float64 (C, C) in [0, 1], among the images on which the row is present and the column known.

        0 where there is no such image, and on the diagonal.
        """
        return self.adj_CC / np.maximum(self.known_CC, 1)
