"""Division and means that say what happens where nothing is counted."""

from __future__ import annotations

from typing import Literal

import numpy as np

AbsentLabels = Literal["excluded", "zero", "undefined"]
"""A label without a known positive: left out of the mean, counted as 0, or making the mean undefined (NaN)."""


def ratio(numerator: np.ndarray, denominator: np.ndarray, *, otherwise: float = 0.0) -> np.ndarray:
    """float64 numerator / denominator, `otherwise` where the denominator is not positive."""
    numerator, denominator = np.broadcast_arrays(numerator, denominator)
    out = np.full(numerator.shape, otherwise)
    return np.divide(numerator, denominator, out=out, where=denominator > 0)


def harmonic(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """2ab / (a + b); 0 where both are 0, NaN where one is NaN."""
    return np.where(np.isnan(a + b), np.nan, ratio(2 * a * b, a + b))


def mean_over_labels(values: np.ndarray, absent: AbsentLabels, *, axis: int = -1) -> np.ndarray:
    """Mean of per-label values where NaN marks an absent label. NaN when no label is left."""
    if absent == "zero":
        return np.nan_to_num(values, nan=0.0).mean(axis=axis)
    if absent == "undefined":
        return values.mean(axis=axis)
    present = ~np.isnan(values)
    return ratio(np.where(present, values, 0.0).sum(axis=axis), present.sum(axis=axis), otherwise=np.nan)
