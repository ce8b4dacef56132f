"""The files of `export.variants`, and what each costs against the exported one on the images that `evaluate` scored.

Axes: N images, B images of a batch, C labels.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tasks.core.tables import sha256_of
from tasks.export.manifest import Preprocessing
from tasks.export.runtime import Predictor
from tasks.export.variants import VARIANTS
from tasks.nn.geometry import fit_to

BATCH_SIZE = 16
"""Images in memory at once; changes no result."""

Images = Callable[[Sequence[str]], np.ndarray]
"""image ids -> uint8 (B, H, W, 3), as the network takes them."""
Measure = Callable[[np.ndarray], Mapping[str, float | None]]
"""scores float32 (N, C) of the evaluated images -> their metrics."""


def empty_folder(folder: Path) -> None:
    """Make the folder, without the file of a variant that is not asked for any more."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


def write_variants(
    names: Sequence[str],
    exported: Path,
    folder: Path,
    *,
    images_of: Images,
    quantisation_ids: Sequence[str],
    evaluated_ids: Sequence[str],
    measure: Measure,
) -> dict[str, dict]:
    """Write the variants of the file `exported` to `folder`; {variant: what export.json says of it}.

    Thresholds stay those of the exported file.
    quantisation_ids: images that ranges of activations come from; none that `evaluate` scored.
    """
    quantisation_BHWC = images_of(quantisation_ids)
    full = Scores(Predictor(exported), images_of, evaluated_ids, measure)
    report = {}
    for name in names:
        path = folder / f"{name}{VARIANTS[name].suffix}"
        VARIANTS[name].write(exported, path, quantisation_BHWC)
        report[name] = cost(full, Scores(Predictor(path), images_of, evaluated_ids, measure)) | {
            "files": {file.name: sha256_of(file) for file in sorted(folder.glob(f"{name}.*"))},
            "size_bytes": sum(file.stat().st_size for file in folder.glob(f"{name}.*")),
        }
    return report


class Scores:
    """What a file says of the evaluated images: scores_NC, decisions_NC, and metrics under their protocol."""

    def __init__(self, predictor: Predictor, images_of: Images, image_ids: Sequence[str], measure: Measure) -> None:
        batches = (image_ids[start : start + BATCH_SIZE] for start in range(0, len(image_ids), BATCH_SIZE))
        outputs = [predictor(images_of(batch)) for batch in batches]
        self.scores_NC, self.decisions_NC = (np.concatenate(part) for part in zip(*outputs, strict=True))
        self.metrics = measure(self.scores_NC)


def cost(full: Scores, variant: Scores) -> dict:
    """mAP and overall F1 of the variant, points of 100 that they lost, and how far scores and decisions moved."""
    report = {}
    for name in ("mAP", "OF1"):
        before, after = full.metrics[name], variant.metrics[name]  # None where no evaluated image has a positive
        report |= {name: after, f"{name}_points_lost": None if before is None else 100 * (before - after)}
    return report | {
        "images": len(full.scores_NC),
        "max_score_difference": float(np.abs(full.scores_NC - variant.scores_NC).max()),
        "unlike_decisions": int((full.decisions_NC != variant.decisions_NC).sum()),
    }


def network_images(image_ids: Sequence[str], reader: Any, preprocessing: Preprocessing) -> np.ndarray:
    """The stored images as the network takes them; uint8 (B, H, W, 3). reader: tasks.images.shards.ShardReader."""
    pixels = (reader[reader.index[image_id]] for image_id in image_ids)
    return np.stack([fit_to(stored, preprocessing.image_px, preprocessing.resize) for stored in pixels])


def evenly(items: Sequence[str], most: int) -> list[str]:
    """At most `most` of the items, evenly over their order."""
    return [items[i] for i in np.unique(np.linspace(0, len(items) - 1, min(most, len(items))).round().astype(int))]
