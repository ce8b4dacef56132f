"""Where a model is wrong: reliability of its scores, its hardest mistakes, and which labels it takes for which.

Axes: N images, C labels. Only known entries count.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tasks.evaluation.scored_run import ScoredRun
from tasks.metrics.calibration_error import NUM_BINS
from tasks.metrics.f1 import decide

# generously, so that the report may show more without evaluating again
KEPT_MISTAKES, KEPT_OF_A_LABEL, KEPT_EXAMPLES = 200, 20, 6


def mistakes_of(run: ScoredRun, implications: Sequence[tuple[int, int]]) -> dict:
    """mistakes.json: {"worst", "confused", "together", "examples"}, as below with names instead of positions."""
    image_ids, labels = run.image_ids, run.labels
    entries = run.scores_NC, run.targets_NC, run.known_NC, run.thresholds_C
    decided_NC = decide(run.scores_NC, run.thresholds_C)
    gaps = cooccurrence_gaps(decided_NC, run.targets_NC, run.known_NC, implications=implications)
    return {
        "worst": [
            {**mistake, "image_id": image_ids[mistake.pop("row")], "label": labels[mistake.pop("column")]}
            for mistake in worst_mistakes(*entries, most=KEPT_MISTAKES, most_of_a_label=KEPT_OF_A_LABEL)
        ],
        "confused": [
            {**pair, "missed": labels[pair["missed"]], "taken_for": labels[pair["taken_for"]]}
            for pair in confusions(*entries)
        ],
        "together": [{**pair, "a": labels[pair["a"]], "b": labels[pair["b"]]} for pair in gaps],
        "examples": {
            label: {
                kind: [{"image_id": image_ids[row], "score": float(run.scores_NC[row, c])} for row in rows]
                for kind, rows in kinds.items()
            }
            for c, (label, kinds) in enumerate(
                zip(labels, examples_by_label(*entries, most=KEPT_EXAMPLES), strict=True)
            )
        },
    }


def reliability(scores_NC: np.ndarray, targets_NC: np.ndarray, known_NC: np.ndarray) -> list[dict]:
    """Mean score and share of positives in 15 equal bins of the score over all labels; empty bins are left out.

    scores_NC: float (N, C) in [0, 1].  targets_NC: uint8 {0, 1}.  known_NC: bool.
    Returns [{"score", "positives", "pairs"}] from the lowest bin to the highest.
    """
    scores, targets = scores_NC[known_NC].astype(np.float64), targets_NC[known_NC]
    bins = np.minimum((scores * NUM_BINS).astype(int), NUM_BINS - 1)
    pairs = np.bincount(bins, minlength=NUM_BINS)
    score_sum = np.bincount(bins, scores, minlength=NUM_BINS)
    positive_sum = np.bincount(bins, targets, minlength=NUM_BINS)
    return [
        {"score": score_sum[b] / pairs[b], "positives": positive_sum[b] / pairs[b], "pairs": int(pairs[b])}
        for b in np.flatnonzero(pairs)
    ]


def worst_mistakes(
    scores_NC: np.ndarray,
    targets_NC: np.ndarray,
    known_NC: np.ndarray,
    thresholds_C: np.ndarray,
    *,
    most: int,
    most_of_a_label: int,
) -> list[dict]:
    """The wrong decisions furthest from their threshold, at most `most`, worst first; ties by position.

    most_of_a_label: so that one frequent label does not fill the list.
    thresholds_C: float64 (C,), +inf = never predicted. Such a label is missed by what its score lacks to 1.
    Returns [{"row", "column", "kind": "false positive" | "false negative", "score", "threshold"}].
    """
    decided_NC = scores_NC >= thresholds_C
    wrong_NC = known_NC & (decided_NC != (targets_NC == 1))
    distance = np.abs(scores_NC - np.where(np.isfinite(thresholds_C), thresholds_C, 1.0))[wrong_NC]
    rows, columns = np.nonzero(wrong_NC)
    order = np.argsort(-distance, kind="stable")
    by_label = np.argsort(columns[order], kind="stable")
    sorted_columns = columns[order][by_label]
    place_in_label = np.empty(len(order), np.int64)
    place_in_label[by_label] = np.arange(len(order)) - np.searchsorted(sorted_columns, sorted_columns)
    order = order[place_in_label < most_of_a_label][:most]
    return [
        {
            "row": int(r),
            "column": int(c),
            "kind": "false positive" if decided_NC[r, c] else "false negative",
            "score": float(scores_NC[r, c]),
            "threshold": float(thresholds_C[c]),
        }
        for r, c in zip(rows[order], columns[order], strict=True)
    ]


def examples_by_label(
    scores_NC: np.ndarray, targets_NC: np.ndarray, known_NC: np.ndarray, thresholds_C: np.ndarray, *, most: int
) -> list[dict[str, list[int]]]:
    """Of each label the rows to look at: {"false positive", "false negative", "true positive"}, at most `most` each.

    The surest ones first: highest score of what was decided present, lowest of what was missed; ties by position.
    """
    decided_NC = decide(scores_NC, thresholds_C)
    present_NC, absent_NC = known_NC & (targets_NC == 1), known_NC & (targets_NC == 0)
    kinds = {
        "false positive": (decided_NC & absent_NC, -1),
        "false negative": (~decided_NC & present_NC, 1),
        "true positive": (decided_NC & present_NC, -1),
    }

    def surest(rows: np.ndarray, key_N: np.ndarray) -> list[int]:
        return rows[np.argsort(key_N[rows], kind="stable")[:most]].tolist()

    return [
        {kind: surest(np.flatnonzero(of_NC[:, c]), sign * scores_NC[:, c]) for kind, (of_NC, sign) in kinds.items()}
        for c in range(scores_NC.shape[1])
    ]


def confusions(
    scores_NC: np.ndarray, targets_NC: np.ndarray, known_NC: np.ndarray, thresholds_C: np.ndarray, *, most: int = 20
) -> list[dict]:
    """Pairs (missed, taken_for): on how many images one label was missed while the other was a false positive.

    Returns [{"missed", "taken_for", "images", "share_of_missed"}], most images first, label columns as ints.
    """
    decided_NC = scores_NC >= thresholds_C
    missed_NC = (known_NC & ~decided_NC & (targets_NC == 1)).astype(np.float32)
    false_NC = (known_NC & decided_NC & (targets_NC == 0)).astype(np.float32)
    together_CC = missed_NC.T @ false_NC
    flat = np.argsort(-together_CC, axis=None, kind="stable")[:most]
    pairs = [divmod(int(f), together_CC.shape[1]) for f in flat if together_CC.flat[f] > 0]
    missed_C = missed_NC.sum(axis=0)
    return [
        {
            "missed": m,
            "taken_for": t,
            "images": int(together_CC[m, t]),
            "share_of_missed": float(together_CC[m, t] / missed_C[m]),
        }
        for m, t in pairs
    ]


def cooccurrence_gaps(
    decided_NC: np.ndarray,
    targets_NC: np.ndarray,
    known_NC: np.ndarray,
    *,
    implications: Sequence[tuple[int, int]] = (),
    most: int = 20,
) -> list[dict]:
    """Pairs of labels that are predicted together more or less often than they stand together.

    implications: (child, ancestor) columns; such pairs say nothing that the child alone does not, and are left out.
    Counted on images where both labels are known. Returns [{"a", "b", "together", "predicted"}], label columns as ints,
    the largest difference first; pairs without a difference are left out.
    """
    true_NC = (known_NC & (targets_NC == 1)).astype(np.float32)
    predicted_NC = (known_NC & decided_NC).astype(np.float32)
    together_CC = true_NC.T @ true_NC
    predicted_CC = predicted_NC.T @ predicted_NC
    gap_CC = np.triu(np.abs(predicted_CC - together_CC), k=1)
    for pair in implications:
        gap_CC[min(pair), max(pair)] = 0
    flat = np.argsort(-gap_CC, axis=None, kind="stable")[:most]
    pairs = [divmod(int(f), gap_CC.shape[1]) for f in flat if gap_CC.flat[f] > 0]
    return [
        {"a": a, "b": b, "together": int(together_CC[a, b]), "predicted": int(predicted_CC[a, b])} for a, b in pairs
    ]
