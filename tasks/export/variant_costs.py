"""The files of `export.variants`, and what each costs against the exported one on the images that `evaluate` scored."""

from __future__ import annotations

import shutil
from collections.abc import Sequence

import numpy as np

from tasks.core import tables
from tasks.evaluation.measure import evaluate
from tasks.evaluation.scored_run import ScoredRun, read_scored_run
from tasks.export.manifest import Preprocessing
from tasks.export.runtime import Predictor
from tasks.export.variants import VARIANTS
from tasks.images.shards import ShardReader
from tasks.nn.geometry import fit_to
from tasks.params import Params

BATCH_SIZE = 16
"""Images in memory at once; changes no result."""


def write_variants(params: Params, preprocessing: Preprocessing) -> dict[str, dict]:
    """Write the folder `paths.variants`; {variant: what export.json says of it}.

    Thresholds stay those of the exported file. Ranges of activations come from images that `evaluate` did not score.
    """
    folder = params.paths.variants
    shutil.rmtree(folder, ignore_errors=True)  # no file of a variant that is not asked for any more
    folder.mkdir(parents=True)
    if not params.export.variants:
        return {}
    evaluated = read_scored_run(params.paths.evaluation / "scored_run.parquet")
    reader = ShardReader(params.paths.shards)
    others = sorted(set(reader.index) - set(evaluated.image_ids))
    calibration_ids = evenly(others, params.export.quantisation_images)
    calibration_BHWC = network_images(reader, calibration_ids, preprocessing)
    full = Scores(Predictor(params.paths.exported), reader, evaluated)
    report = {}
    for name in params.export.variants:
        path = folder / f"{name}{VARIANTS[name].suffix}"
        VARIANTS[name].write(params.paths.exported, path, calibration_BHWC)
        report[name] = cost(full, Scores(Predictor(path), reader, evaluated)) | {
            "files": {file.name: tables.sha256_of(file) for file in sorted(folder.glob(f"{name}.*"))},
            "size_bytes": sum(file.stat().st_size for file in folder.glob(f"{name}.*")),
        }
    return report


class Scores:
    """What a file says of the evaluated images: scores_NC, decisions_NC, and metrics under their protocol."""

    def __init__(self, predictor: Predictor, reader: ShardReader, evaluated: ScoredRun) -> None:
        ids, preprocessing = evaluated.image_ids, predictor.manifest.preprocessing
        batches = (ids[start : start + BATCH_SIZE] for start in range(0, len(ids), BATCH_SIZE))
        found = [predictor(network_images(reader, batch, preprocessing)) for batch in batches]
        self.scores_NC, self.decisions_NC = (np.concatenate(part) for part in zip(*found, strict=True))
        self.metrics = evaluate(
            self.scores_NC,
            evaluated.targets_NC,
            evaluated.known_NC,
            evaluated.labels,
            ids,
            evaluated.thresholds_C,
            protocol=evaluated.stamp["name"],
        )["metrics"]


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


def network_images(reader: ShardReader, image_ids: Sequence[str], preprocessing: Preprocessing) -> np.ndarray:
    """The stored images as the network takes them; uint8 (B, H, W, 3)."""
    pixels = (reader[reader.index[image_id]] for image_id in image_ids)
    return np.stack([fit_to(stored, preprocessing.image_px, preprocessing.resize) for stored in pixels])


def evenly(items: Sequence[str], most: int) -> list[str]:
    """At most `most` of the items, evenly over their order."""
    return [items[i] for i in np.unique(np.linspace(0, len(items) - 1, min(most, len(items))).round().astype(int))]
