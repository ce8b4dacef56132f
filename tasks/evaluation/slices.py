"""The same metrics on parts of the test: where is the model better or worse than its headline says?

Axes: N images, C labels. A slice is a set of (image, label) pairs; unknown ones never count.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from tasks.metrics import METRICS
from tasks.metrics.scored import Scored

SHOWN = ("mAP", "OP", "OR", "OF1", "CF1")

SHORT_SIDES_PX = (128, 256, 512, 1024)
"""Bounds of the bands of image size. Fixed, so that two runs cut alike."""

RARE, COMMON = 10, 100
"""Training images up to which a label is rare, and common; frequent beyond. Source: Gupta et al., CVPR 2019, LVIS."""

OBJECT_SHARES = (0.01, 0.1)
"""Bounds of the bands of object size, as a share of the image's area: tiny, middling, large."""


@dataclass(frozen=True)
class Slice:
    """One value of one property. entries_NC: bool, broadcastable to (N, C)."""

    by: str
    value: str
    entries_NC: np.ndarray


def measure_slices(scored: Scored, slices: Iterable[Slice]) -> list[dict]:
    """[{"by", "value", "images", "labels", "positives", "metrics"}], slices without a known positive left out.

    Counts are of the known pairs of the slice. Unknown ones are left out whatever the protocol makes of them: it would
    turn the rest of the set into negatives of the slice.
    """
    protocol = replace(scored.protocol, unknown_in_ap="ignored", unknown_in_f1="ignored")
    rows = []
    for part in slices:
        counted_NC = scored.known_NC & part.entries_NC
        positives = int(np.count_nonzero(counted_NC & (scored.targets_NC == 1)))
        if not positives:
            continue
        n, c = np.flatnonzero(counted_NC.any(axis=1)), np.flatnonzero(counted_NC.any(axis=0))
        own_entries = np.ix_(n, c)
        own = Scored(
            scored.scores_NC[own_entries],
            scored.targets_NC[own_entries],
            counted_NC[own_entries],
            scored.thresholds_C[c],
            protocol,
        )
        metrics = {name: METRICS[name](own) for name in SHOWN}
        rows.append(
            {
                "by": part.by,
                "value": part.value,
                "images": len(n),
                "labels": len(c),
                "positives": positives,
                "metrics": {name: None if np.isnan(value) else value for name, value in metrics.items()},
            }
        )
    return rows


# ---------------------------------------------------------------- properties


def by_image(name: str, value_N: Sequence[str], *, order: Sequence[str] | None = None) -> list[Slice]:
    """One slice a value of a property of images, in `order`, or sorted."""
    values_N = np.asarray(value_N, dtype=object)
    return [Slice(name, value, (values_N == value)[:, None]) for value in order or sorted(set(value_N))]


def by_short_side(short_side_px_N: Sequence[int]) -> list[Slice]:
    """Bands of the original image's shorter side."""
    names = _band_names(SHORT_SIDES_PX, "{:d}", " px")
    return by_image("image size", _banded(short_side_px_N, SHORT_SIDES_PX, names), order=names)


def by_rarity(train_images_C: Sequence[int]) -> list[Slice]:
    """Labels by the number of training images that carry them."""
    names = [f"rare (≤ {RARE} training images)", f"common (≤ {COMMON})", "frequent"]
    band_C = np.asarray(_banded(train_images_C, (RARE + 1, COMMON + 1), names), dtype=object)
    return [Slice("rarity", name, (band_C == name)[None, :]) for name in names]


def by_object_size(share_NC: np.ndarray, targets_NC: np.ndarray) -> list[Slice]:
    """Positives whose largest object has that size, each band against all negatives.

    share_NC: float (N, C), area of the label's largest object over the image's; NaN where not known.
    """
    names = _band_names(OBJECT_SHARES, "{:.0%}", " of the image")
    negative_NC = targets_NC == 0
    bounds = (0.0, *OBJECT_SHARES, np.inf)
    return [
        Slice("object size", name, negative_NC | ((share_NC >= low) & (share_NC < high)))
        for name, (low, high) in zip(names, pairwise(bounds), strict=True)
    ]


def _band_names(bounds: Sequence[float], form: str, unit: str) -> list[str]:
    shown = [form.format(bound) for bound in bounds]
    between = [f"{low} to {high}{unit}" for low, high in pairwise(shown)]
    return [f"under {shown[0]}{unit}", *between, f"{shown[-1]}{unit} or more"]


def _banded(values: Sequence[float], bounds: Sequence[float], names: Sequence[str]) -> list[str]:
    return [names[b] for b in np.digitize(np.asarray(values, float), bounds)]
