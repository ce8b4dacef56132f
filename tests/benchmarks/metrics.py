"""Metrics, thresholds, curves and bootstrap at the size of the NUS-WIDE test set with Open Images' labels.

    python -m tests.benchmarks.metrics [--images N] [--labels C] [--no-torchmetrics]

Scores are continuous, supports are long-tailed (a label on 0.1 % to 30 % of the images), seed 0.
"""

from __future__ import annotations

import argparse
from functools import partial

import numpy as np

from tasks.evaluation.curves import precision_recall_curves
from tasks.evaluation.measure import label_table
from tasks.metrics import METRICS, PROTOCOLS, Scored
from tasks.metrics.bootstrap import resample
from tasks.thresholds.rules import PerLabelF1
from tests.benchmarks import Row, measure, show

RESAMPLES = 1000


def made_up(num_images: int, num_labels: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """scores_NC float32, targets_NC uint8, known_NC bool (all known, as the peers cannot do otherwise)."""
    rng = np.random.default_rng(0)
    frequency_C = np.maximum(0.3 / np.arange(1, num_labels + 1) ** 0.8, 1e-3)
    targets_NC = (rng.random((num_images, num_labels), dtype=np.float32) < frequency_C).astype(np.uint8)
    logits_NC = rng.standard_normal((num_images, num_labels), dtype=np.float32)
    logits_NC += np.where(targets_NC == 1, np.float32(-0.5), np.float32(-3))
    return 1 / (1 + np.exp(-logits_NC)), targets_NC, np.ones(targets_NC.shape, bool)


def everything(scores_NC: np.ndarray, targets_NC: np.ndarray, known_NC: np.ndarray) -> np.ndarray:
    """All of METRICS, the per-label table, best-F1 thresholds and curves, from one sort. Returns AP (C,)."""
    labels = [f"label {c}" for c in range(scores_NC.shape[1])]
    scored = Scored(scores_NC, targets_NC, known_NC, np.full(len(labels), 0.5), PROTOCOLS["tagwright"])
    for metric in METRICS.values():
        metric(scored)
    label_table(scored, labels)
    PerLabelF1()(scored.ranking.points, scored.ranking.points)
    precision_recall_curves(scored.ranking.points, labels)
    return scored.ap_C


def warm(num_images: int, num_labels: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`made_up`, after imports and caches, which are not what is measured."""
    data = made_up(num_images, num_labels)
    everything(*(matrix[:100] for matrix in data))
    return data


def bootstrap(scores_NC: np.ndarray, targets_NC: np.ndarray, known_NC: np.ndarray) -> None:
    thresholds_C = np.full(scores_NC.shape[1], 0.5)
    resample(Scored(scores_NC, targets_NC, known_NC, thresholds_C, PROTOCOLS["tagwright"], keep_order=True), RESAMPLES)


def sklearn_ap(scores_NC: np.ndarray, targets_NC: np.ndarray, known_NC: np.ndarray) -> np.ndarray:
    from sklearn.metrics import average_precision_score

    return average_precision_score(targets_NC, scores_NC, average=None)


def torchmetrics_ap(scores_NC: np.ndarray, targets_NC: np.ndarray, known_NC: np.ndarray) -> None:
    import torch
    from torchmetrics.functional.classification import multilabel_average_precision

    targets = torch.from_numpy(targets_NC).long()
    multilabel_average_precision(torch.from_numpy(scores_NC), targets, scores_NC.shape[1], average=None)


def main(argv: list[str] | None = None) -> None:
    """Print ours beside the average precision alone of two libraries, each in a process of its own."""
    parser = argparse.ArgumentParser(prog="metrics", description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=41_151)
    parser.add_argument("--labels", type=int, default=601)
    parser.add_argument("--no-torchmetrics", action="store_true", help="the slowest part")
    options = parser.parse_args(argv)
    data = partial(warm, options.images, options.labels)

    ours, sklearn = (
        min((measure(work, prepare=data) for _ in range(3)), key=lambda measured: measured.seconds)
        for work in (everything, sklearn_ap)
    )
    assert np.abs(ours.value - sklearn.value).max() < 1e-12
    resampled = measure(bootstrap, prepare=data)
    rows = [Row("peer: scikit-learn's AP alone", ours.seconds, sklearn.seconds, ours.peak_mb, ">= 6 x, <= 2 GB")]
    if not options.no_torchmetrics:
        torchmetrics = measure(torchmetrics_ap, prepare=data)
        rows.append(Row("peer: torchmetrics' AP alone", ours.seconds, torchmetrics.seconds, ours.peak_mb, ">= 60 x"))
    rows.append(Row(f"bootstrap, {RESAMPLES:,} resamples", resampled.seconds, None, resampled.peak_mb, "<= 60 s"))
    show(f"All metrics, thresholds per label, curves of {options.images:,} x {options.labels}; equal AP", rows)


if __name__ == "__main__":
    main()
