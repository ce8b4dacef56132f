"""Images that resemble a label's positives: the album pipeline's "crawl by image", over the pool one already has.

Axes: P positives, M pool images, D features.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.core.errors import TableError, TaxonomyError, did_you_mean
from tasks.core.prediction_table import Predictions
from tasks.core.tables import PRESENT, QUEUE, UNKNOWN_STATE, conform
from tasks.core.workspace import Workspace
from tasks.review.last_run import LastRun
from tasks.taxonomy.migrations import todays_labels

BATCH_ROWS = 65_536
CANDIDATES_PER_QUESTION = 5
"""Nearest images considered for each one that is asked: below about 3 farthest-first has nothing to choose from; far
above, it prefers images that are unlike the label."""
MOST_POSITIVES = 200
"""Positives whose neighbours are sought, surest first: more cost time and add uncertain ones."""


def mine_label(workspace: Workspace, label: str, *, most: int) -> int:
    """Ask about pool images that resemble the label's positives, from the next `push` on. Returns how many.

    Mining a label again replaces its earlier questions. Raises an error where nothing can be mined.
    """
    predictions = workspace.predictions("out_of_fold")
    if label not in predictions.labels:
        raise TaxonomyError(f"review mine: no label '{label}'. {did_you_mean(label, predictions.labels)}")
    if predictions.embeddings_ND is None:
        path = workspace.paths.out_of_fold
        raise TableError(f"{path}: holds no embeddings. Set out_of_fold.enabled and run the pipeline.")
    last_run = LastRun(workspace)
    today = todays_labels(label, last_run.taxonomy.migrations)
    with_verdict = {verdict.image_id for verdict in last_run.resolved_verdicts().active if verdict.label in today}
    mined = mined_questions(predictions, label, workspace.read("cleaned.labels"), with_verdict, most=most)
    if not mined.num_rows:
        raise TableError(f"review mine: '{label}' has no positives, or the pool no image without this label's state.")
    added = last_run.added_questions()
    others = added.filter(pc.not_equal(added["label"], label))
    last_run.write_added_questions(pa.concat_tables([others, mined]))
    return mined.num_rows


def mined_questions(
    predictions: Predictions, label: str, labels: pa.Table, with_verdict: Collection[str], *, most: int
) -> pa.Table:
    """QUEUE rows about pool images that resemble the label's positives; at most `most`, none where there is nothing.

    predictions: with embeddings.  labels: LABELS; images with a row about the label are not asked about.
    with_verdict: images about which a person has already given a verdict for this label.
    Priorities lie in [-1, 0], after every question that cleaning asks.
    """
    rows = labels.filter(pc.equal(labels["label"], label))
    present = set(rows.filter(pc.equal(rows["state"], PRESENT))["image_id"].to_pylist())
    known = set(rows["image_id"].to_pylist()) | set(with_verdict)
    in_pool_N = np.asarray(predictions.partitions, object) == "pool"
    present_N = np.asarray([image_id in present for image_id in predictions.image_ids], bool)
    known_N = np.asarray([image_id in known for image_id in predictions.image_ids], bool)
    scores_N = predictions.scores_NC[:, predictions.labels.index(label)]
    positives = np.flatnonzero(present_N & ~in_pool_N)
    positives = positives[np.argsort(-scores_N[positives], kind="stable")][:MOST_POSITIVES]
    pool = np.flatnonzero(in_pool_N & ~known_N)
    chosen, similarity = mine(predictions.embeddings_ND[positives], predictions.embeddings_ND[pool], most=most)
    questions = pa.table(
        {
            "image_id": pa.array([predictions.image_ids[row] for row in pool[chosen]], pa.string()),
            "label": pa.array([label] * len(chosen), pa.string()),
            "given": np.full(len(chosen), UNKNOWN_STATE, np.int8),
            "score": scores_N[pool[chosen]],
            "priority": (similarity - 1) / 2,
            "reason": pa.array(["mined"] * len(chosen), pa.string()),
        }
    )
    return conform(questions, QUEUE, where="mined questions")


def mine(positives_PD: np.ndarray, pool_MD: np.ndarray, *, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Pool images near some positive but unlike each other, the nearest first, then greedily the farthest.

    positives_PD, pool_MD: float embeddings of one model, any scale; compared by cosine.
    most: images wanted; fewer when the pool is smaller.
    Returns their positions in the pool (K,) and their cosine similarity (K,) to the nearest positive.
    Source: farthest-first traversal, Gonzalez 1985, within the nearest `most` x CANDIDATES_PER_QUESTION.
    """
    if not len(positives_PD) or not len(pool_MD) or most < 1:
        return np.zeros(0, np.int64), np.zeros(0)
    positives_PD = unit_rows(positives_PD)
    nearest_M = np.concatenate(
        [
            (unit_rows(pool_MD[start : start + BATCH_ROWS]) @ positives_PD.T).max(axis=1)
            for start in range(0, len(pool_MD), BATCH_ROWS)
        ]
    )
    candidates = np.argsort(-nearest_M, kind="stable")[: most * CANDIDATES_PER_QUESTION]
    chosen = candidates[farthest_first(unit_rows(pool_MD[candidates]), most=most)]
    return chosen, nearest_M[chosen]


def farthest_first(points_KD: np.ndarray, *, most: int) -> np.ndarray:
    """Positions of `most` points: the first, then always the one farthest (Euclidean) from all before; int64.

    Ties go to the earlier point, so the order of the input matters.
    """
    chosen = [0] if len(points_KD) and most > 0 else []
    distance_K = np.full(len(points_KD), np.inf)
    while 0 < len(chosen) < min(most, len(points_KD)):
        distance_K = np.minimum(distance_K, np.linalg.norm(points_KD - points_KD[chosen[-1]], axis=1))
        distance_K[chosen] = -1.0  # below any distance, so that equal points are still taken one by one
        chosen.append(int(distance_K.argmax()))
    return np.asarray(chosen, np.int64)


def unit_rows(rows_ND: np.ndarray) -> np.ndarray:
    """Rows scaled to length 1; a zero row stays zero."""
    rows_ND = np.asarray(rows_ND, np.float64)
    return rows_ND / np.maximum(np.linalg.norm(rows_ND, axis=1, keepdims=True), 1e-12)


def plane(embeddings_ND: np.ndarray) -> np.ndarray:
    """The two principal components (N, 2) of the rows; the same rows give the same picture.

    The sign of a component is arbitrary: here its largest weight is positive.
    """
    centred_ND = np.asarray(embeddings_ND, np.float64) - np.mean(embeddings_ND, axis=0)
    axes_2D = np.linalg.svd(centred_ND, full_matrices=False)[2][:2]
    largest_2 = np.take_along_axis(axes_2D, np.abs(axes_2D).argmax(axis=1)[:, None], axis=1)
    points_N2 = centred_ND @ (axes_2D * np.sign(largest_2)).T
    return np.pad(points_N2, ((0, 0), (0, 2 - points_N2.shape[1])))
