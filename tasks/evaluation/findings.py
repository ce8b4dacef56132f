"""What `evaluate` finds beyond the headline: slices, drift, relations on and off, every protocol side by side.

Axes: N images, C labels.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.core import tables
from tasks.core.states import areas_of
from tasks.core.workspace import Workspace
from tasks.evaluation.slices import Slice, by_image, by_object_size, by_rarity, by_short_side
from tasks.metrics import METRICS
from tasks.metrics.f1 import decide, per_label
from tasks.metrics.protocols import Protocol
from tasks.metrics.scored import Scored
from tasks.params import Params
from tasks.taxonomy.relations import Relations, apply_implications, apply_relations
from tasks.thresholds.document import Fused
from tasks.thresholds.fusion import fuse

DECIDED = ("OF1", "CF1", "image_F1", "exact_match")


def slices_of(
    params: Params, image_ids: list[str], labels: list[str], targets_NC: np.ndarray, train_ids: list[str]
) -> list[Slice]:
    """By source, size of the image and of the object, reviewed or not, rarity of the label in training."""
    images = Workspace(params.paths).read("mapped.images", ["image_id", "source", "width", "height"])
    rows = images.take(pc.index_in(pa.array(image_ids, pa.string()), images["image_id"].combine_chunks()))
    statements = tables.read_table(params.paths.cleaned / "labels.parquet", tables.LABELS)
    by_person = statements.filter(pc.starts_with(statements["origin"], "review:"))
    reviewed = set(by_person["image_id"].to_pylist())
    image_px_N = rows["width"].to_numpy().astype(np.float64) * rows["height"].to_numpy()
    objects = tables.read_table(params.paths.mapped / "objects.parquet", tables.OBJECTS)
    share_NC = areas_of(objects, image_ids, labels) / image_px_N[:, None]
    return [
        *by_image("source", rows["source"].to_pylist()),
        *by_short_side(np.minimum(rows["width"].to_numpy(), rows["height"].to_numpy())),
        *by_image("answered by a person", ["yes" if i in reviewed else "no" for i in image_ids]),
        *by_object_size(share_NC, targets_NC),
        *by_rarity(train_images(statements, train_ids, labels)),
    ]


def train_images(statements: pa.Table, train_ids: list[str], labels: list[str]) -> list[int]:
    """How many training images carry each label."""
    present = statements.filter(pc.equal(statements["state"], tables.PRESENT))
    present = present.filter(pc.is_in(present["image_id"], pa.array(train_ids, pa.string())))
    counts = present.group_by("label").aggregate([("image_id", "count_distinct")])
    count_of = dict(zip(counts["label"].to_pylist(), counts["image_id_count_distinct"].to_pylist(), strict=True))
    return [count_of.get(label, 0) for label in labels]


def relations_effect(
    scores_NC: np.ndarray,
    targets_NC: np.ndarray,
    known_NC: np.ndarray,
    thresholds_C: np.ndarray,
    relations: Relations,
    protocol: Protocol,
) -> dict[str, dict]:
    """The same scores and thresholds without relations, with implied scores, with rules on decisions; {} without any.

    Rules on decisions change no score, so their mAP is that without relations.
    """
    if not relations.implications and not relations.exclusions:
        return {}
    decided_NC = decide(scores_NC, thresholds_C, strict=protocol.strict)
    distance_NC = scores_NC - np.where(np.isfinite(thresholds_C), thresholds_C, 1.0)
    ruled_NC = apply_relations(decided_NC, distance_NC, relations)
    at_half = np.full(len(thresholds_C), 0.5)
    variants = {
        "off": (scores_NC, thresholds_C, ("mAP", *DECIDED)),
        "implied scores": (apply_implications(scores_NC, relations), thresholds_C, ("mAP", *DECIDED)),
        "rules on decisions": (ruled_NC.astype(np.float32), at_half, DECIDED),
    }
    found = {}
    for name, (scores, thresholds, shown) in variants.items():
        scored = Scored(scores, targets_NC, known_NC, thresholds, protocol)
        found[name] = {metric: METRICS[metric](scored) for metric in shown}
    found["rules on decisions"]["mAP"] = found["off"]["mAP"]
    return found


def probabilities_effect(
    raw_NC: np.ndarray, calibrated_NC: np.ndarray, targets_NC: np.ndarray, known_NC: np.ndarray, protocol: Protocol
) -> dict[str, dict]:
    """Calibration error and Brier score of the scores before and after they were calibrated."""
    nowhere = np.full(raw_NC.shape[1], np.inf)
    found = {}
    for name, scores_NC in (("before", raw_NC), ("after", calibrated_NC)):
        scored = Scored(scores_NC, targets_NC, known_NC, nowhere, protocol)
        found[name] = {metric: METRICS[metric](scored) for metric in ("ECE", "brier")}
    return found


def fusion_effect(
    off: Scored, detected_NC: np.ndarray, fusion: Mapping[int, Fused], labels: list[str]
) -> dict[str, dict]:
    """The test without and with the detector: headline metrics, and AP and F1 of the fused labels; {} without any.

    off: the model alone.  detected_NC: the detector's scores of the same cells.
    """
    if not fusion:
        return {}
    thresholds_C = off.thresholds_C.copy()
    thresholds_C[list(fusion)] = [fused.threshold for fused in fusion.values()]
    scores_NC = fuse(off.scores_NC, detected_NC, {c: fused.blend for c, fused in fusion.items()})
    on = Scored(scores_NC, off.targets_NC, off.known_NC, thresholds_C, off.protocol)
    found: dict[str, dict] = {"labels": {labels[c]: {"origin": fused.origin} for c, fused in fusion.items()}}
    for name, scored in (("off", off), ("on", on)):
        found[name] = {metric: METRICS[metric](scored) for metric in ("mAP", *DECIDED)}
        f1_C = per_label(scored.label_counts).f1
        for c in fusion:
            found["labels"][labels[c]][name] = {"AP": scored.ap_C[c], "F1": f1_C[c]}
    return found
