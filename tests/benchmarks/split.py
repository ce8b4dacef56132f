"""Stratified folds against iterative-stratification, and at the size of Open Images."""

from __future__ import annotations

from functools import partial

import numpy as np
from scipy.sparse import csr_array

from tasks.sampling.stratification import stratified_folds
from tests.benchmarks import Row, measure, show

NUM_FOLDS = 10


def long_tail(num_images: int, num_labels: int = 601, labels_per_image: float = 5) -> csr_array:
    """bool (N, C): label frequencies fall like 1 / rank**1.1, about as in Open Images."""
    rng = np.random.default_rng(0)
    frequency = 1 / np.arange(1, num_labels + 1) ** 1.1
    frequency = np.minimum(frequency / frequency.sum() * labels_per_image, 0.6)
    carriers = [np.flatnonzero(rng.random(num_images, np.float32) < f) for f in frequency]
    column = np.repeat(np.arange(num_labels), [len(c) for c in carriers])
    return csr_array((np.ones(len(column), bool), (np.concatenate(carriers), column)), (num_images, num_labels))


def prepare(num_images: int) -> tuple[csr_array]:
    ours(long_tail(1000))
    return (long_tail(num_images),)


def ours(present: csr_array) -> np.ndarray:
    return stratified_folds(present, num_folds=NUM_FOLDS, rng=np.random.default_rng(0))


def prepare_peer(num_images: int) -> tuple[np.ndarray]:
    import iterstrat.ml_stratifiers  # noqa: F401

    return (long_tail(num_images).toarray(),)


def peer(present: np.ndarray) -> np.ndarray:
    from iterstrat.ml_stratifiers import IterativeStratification

    return IterativeStratification(present, np.full(NUM_FOLDS, 1 / NUM_FOLDS), np.random.RandomState(0))


def deviation(present: csr_array, fold: np.ndarray) -> float:
    """Mean over labels (with one image a fold at least) and folds of |count - ideal| / ideal."""
    membership = csr_array((np.ones(len(fold), np.int32), (fold, np.arange(len(fold)))))
    counts_FC = (membership @ present.astype(np.int32)).toarray()
    ideal_C = counts_FC.sum(axis=0) / NUM_FOLDS
    counts_FC, ideal_C = counts_FC[:, ideal_C >= 1], ideal_C[ideal_C >= 1]
    return float((np.abs(counts_FC - ideal_C) / ideal_C).mean())


def main(argv: list[str]) -> None:
    small, large = 50_000, 1_870_000
    fast, big = (measure(ours, prepare=partial(prepare, n)) for n in (small, large))
    slow = measure(peer, prepare=partial(prepare_peer, small))
    present = long_tail(small)
    show(
        "Stratified split in 10 folds, 601 labels; peer: iterative-stratification",
        [
            Row(f"{small:,} images", fast.seconds, slow.seconds, fast.peak_mb, ">= 10 x"),
            Row(
                "its deviation per label",
                deviation(present, fast.value),
                deviation(present, slow.value),
                None,
                ">= 1 x",
                "",
            ),
            Row(f"{large:,} images", big.seconds, None, big.peak_mb, "<= 120 s, <= 6 GB"),
        ],
    )
