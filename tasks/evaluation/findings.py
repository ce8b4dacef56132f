"""What `evaluate` finds beyond the headline: slices, and the same test with and without one component.

Axes: N images, C labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.core.states import areas_of
from tasks.core.tables import PRESENT
from tasks.evaluation.measure import under_protocols
from tasks.evaluation.scored_run import ScoredRun
from tasks.evaluation.scored_set import Postprocessing, ScoredSet
from tasks.evaluation.slices import Slice, by_image, by_object_size, by_rarity, by_short_side, measure_slices
from tasks.metrics import METRICS
from tasks.metrics.f1 import per_label
from tasks.metrics.scored import Scored

AT_THRESHOLDS = ("OF1", "CF1", "image_F1", "exact_match")


def find(
    run: ScoredRun,
    raw_NC: np.ndarray,
    post: Postprocessing,
    *,
    slices: Sequence[Slice],
) -> dict:
    """The test by slice, with and without relations and probability calibration, and under every protocol.

    raw_NC: float32 (N, C), scores as the model gave them.  post: what made those of `run` of them.
    """
    scored = run.scored()
    raw, calibrated = (replace(scored, scores_NC=scores_NC) for scores_NC in (raw_NC, post.calibrate(raw_NC)))
    return {
        "slices": measure_slices(scored, slices),
        "relations": relations_effect(calibrated, post),
        "probabilities": probabilities_effect(raw, calibrated) if run.stamp["probabilities"] != "none" else {},
        "under_protocols": under_protocols(scored),
    }


def slices_of(
    tested: ScoredSet, train_ids: Sequence[str], images: pa.Table, objects: pa.Table, label_rows: pa.Table
) -> list[Slice]:
    """By source, size of the image and of the object, reviewed or not, rarity of the label in training.

    images: IMAGES.  objects: OBJECTS.  label_rows: LABELS, cleaned, of all partitions.
    """
    rows = images.take(pc.index_in(pa.array(tested.image_ids, pa.string()), images["image_id"].combine_chunks()))
    width_N, height_N = rows["width"].to_numpy(), rows["height"].to_numpy()
    reviewed = set(label_rows.filter(pc.starts_with(label_rows["origin"], "review:"))["image_id"].to_pylist())
    share_NC = areas_of(objects, tested.image_ids, tested.labels) / (width_N.astype(np.float64) * height_N)[:, None]
    return [
        *by_image("source", rows["source"].to_pylist()),
        *by_short_side(np.minimum(width_N, height_N)),
        *by_image("reviewed by a person", ["yes" if i in reviewed else "no" for i in tested.image_ids]),
        *by_object_size(share_NC, tested.targets_NC),
        *by_rarity(count_positives(label_rows, train_ids, tested.labels)),
    ]


def count_positives(label_rows: pa.Table, image_ids: Sequence[str], labels: Sequence[str]) -> list[int]:
    """How many of the images carry each label. label_rows: LABELS."""
    present = label_rows.filter(pc.equal(label_rows["state"], PRESENT))
    present = present.filter(pc.is_in(present["image_id"], pa.array(image_ids, pa.string())))
    counts = present.group_by("label").aggregate([("image_id", "count_distinct")])
    count_of = dict(zip(counts["label"].to_pylist(), counts["image_id_count_distinct"].to_pylist(), strict=True))
    return [count_of.get(label, 0) for label in labels]


def relations_effect(off: Scored, post: Postprocessing) -> dict[str, dict]:
    """The same scores and thresholds without relations, with implied scores, with rules on decisions; {} without any.

    off: scores that no relation has changed.  Rules on decisions change no score, so their mAP is that without
    relations.
    """
    relations = post.relations
    if not relations.implications and not relations.exclusions:
        return {}
    margins_NC = off.scores_NC - np.where(np.isfinite(off.thresholds_C), off.thresholds_C, 1.0)
    ruled_NC = post.apply_relations(off.decided_NC, margins_NC, relations).astype(np.float32)
    at_half_C = np.full(len(off.thresholds_C), 0.5)
    implied = replace(off, scores_NC=post.apply_implications(off.scores_NC, relations))
    ruled = replace(off, scores_NC=ruled_NC, thresholds_C=at_half_C)
    effect = {name: _metrics(scored) for name, scored in (("off", off), ("implied scores", implied))}
    effect["rules on decisions"] = {metric: METRICS[metric](ruled) for metric in AT_THRESHOLDS}
    effect["rules on decisions"]["mAP"] = effect["off"]["mAP"]
    return effect


def probabilities_effect(before: Scored, after: Scored) -> dict[str, dict]:
    """Calibration error and Brier score before and after probability calibration; thresholds do not count."""
    return {
        name: {metric: METRICS[metric](scored) for metric in ("ECE", "brier")}
        for name, scored in (("before", before), ("after", after))
    }


def fusion_effect(
    run: ScoredRun, fused_NC: np.ndarray, thresholds_C: np.ndarray, origins: Mapping[int, str]
) -> dict[str, dict]:
    """The test without and with the detector: headline metrics, and AP and F1 of the fused labels; {} without any.

    run: of the model alone.  fused_NC, thresholds_C: with the detector.
    origins: column of a fused label -> origin of the detector's proposals.
    """
    if not origins:
        return {}
    off = run.scored()
    on = replace(off, scores_NC=fused_NC, thresholds_C=thresholds_C)
    effect: dict[str, dict] = {"labels": {run.labels[c]: {"origin": origin} for c, origin in origins.items()}}
    for name, scored in (("off", off), ("on", on)):
        effect[name] = _metrics(scored)
        f1_C = per_label(scored.label_counts).f1
        for c in origins:
            effect["labels"][run.labels[c]][name] = {"AP": scored.ap_C[c], "F1": f1_C[c]}
    return effect


def _metrics(scored: Scored) -> dict[str, float]:
    return {metric: METRICS[metric](scored) for metric in ("mAP", *AT_THRESHOLDS)}
