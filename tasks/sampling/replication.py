"""Repeat images that carry rare labels: the replication factor r(I) of Mahajan et al., ECCV 2018.

    f(h) = share of the training images that carry label h, each image counted once
    r(h) = max(1, phi(t / f(h)))          t: target frequency; phi by the sampler
    r(I) = max of r(h) over the labels of I; 1 for an image without labels

f counts how often training MEETS a label, so its denominator is every training image. A label that is unknown on an
image is not met there: it adds nothing to f(h) and asks for no repetition. Absences enter nowhere, so an unknown label
cannot be taken for one.

Axes: N training images, C labels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from scipy.sparse import csr_array

Sampler = Callable[[np.ndarray], np.ndarray]
"""float64 (C,), f(h) in [0, 1] -> float64 (C,), r(h) >= 1; 1 where f(h) is 0, since nothing can be repeated."""


@dataclass(frozen=True, kw_only=True)
class Natural:
    """No resampling: r(h) = 1."""

    def __call__(self, frequency_C: np.ndarray) -> np.ndarray:
        return np.ones(len(frequency_C))


@dataclass(frozen=True, kw_only=True)
class Uniform:
    """phi(x) = x: labels rarer than the target are brought up to it.

    target_frequency: t in (0, 1]; labels rarer than it are boosted.  cap: the largest r(h), >= 1; the default keeps one
    very rare label from filling epochs with a handful of images.
    """

    target_frequency: float = 0.001
    cap: float = 20.0

    def __post_init__(self) -> None:
        if not 0 < self.target_frequency <= 1:
            raise ValueError(f"target_frequency is {self.target_frequency}; expected a share in (0, 1]")
        if not self.cap >= 1:
            raise ValueError(f"cap is {self.cap}; expected at least 1")

    def __call__(self, frequency_C: np.ndarray) -> np.ndarray:
        frequency_C = np.asarray(frequency_C, np.float64)
        boost = np.divide(self.target_frequency, frequency_C, out=np.zeros(len(frequency_C)), where=frequency_C > 0)
        return np.clip(self.phi(boost), 1.0, self.cap)

    def phi(self, boost_C: np.ndarray) -> np.ndarray:
        return boost_C


class SquareRoot(Uniform):
    """phi(x) = sqrt(x): rare labels come half-way, on a log scale, to the target. Options as in `Uniform`."""

    def phi(self, boost_C: np.ndarray) -> np.ndarray:
        return np.sqrt(boost_C)


def label_frequency(targets_NC: np.ndarray, known_NC: np.ndarray) -> np.ndarray:
    """f(h), float64 (C,) in [0, 1]. targets_NC: {0, 1}, meaningless where known_NC (bool) is False."""
    return _frequency(_present(targets_NC, known_NC))


def replication(targets_NC: np.ndarray, known_NC: np.ndarray, sampler: Sampler) -> np.ndarray:
    """r(I), float64 (N,) >= 1."""
    present_NC = _present(targets_NC, known_NC)
    factor_C = sampler(_frequency(present_NC))
    weighted_NC = csr_array((factor_C[present_NC.indices], present_NC.indices, present_NC.indptr), present_NC.shape)
    return np.maximum(weighted_NC.max(axis=1).toarray().ravel(), 1.0)


def replication_of(table: pa.Table, image_ids: Sequence[str]) -> np.ndarray:
    """r(I) of each image, float64 (N,); 1 where the table, of schema REPLICATION, has no row."""
    r = dict(zip(table["image_id"].to_pylist(), table["replication"].to_pylist(), strict=True))
    return np.asarray([r.get(image_id, 1.0) for image_id in image_ids])


def epoch_replicas(replication_N: np.ndarray, *, seed: int, epoch: int) -> np.ndarray:
    """int64 (N,): how often each image is drawn in this epoch; r(I) in expectation.

    The integer part, and one more with the probability of the rest, drawn anew each epoch (stochastic rounding). A
    function of its arguments alone, so that every rank of a distributed run computes the same.
    """
    replication_N = np.asarray(replication_N, np.float64)
    floor_N = np.floor(replication_N)
    draw_N = np.random.default_rng([seed, epoch]).random(len(replication_N))
    return (floor_N + (draw_N < replication_N - floor_N)).astype(np.int64)


def before_after(
    targets_NC: np.ndarray, known_NC: np.ndarray, replication_N: np.ndarray, labels: Sequence[str]
) -> list[dict]:
    """What repetition by r(I) does to each label, rarest first (equals by name).

    label; num_images; before, after: f(h) among images as they are, and as they are repeated in expectation; gain:
    after / before; raised_by: the rarer label for whose sake most repetitions of this label's images happen, null where
    there are none. That is the side effect of the maximum: common labels that stand beside rare ones grow as well.
    """
    present_NC = _present(targets_NC, known_NC)
    num_images_C = np.asarray(present_NC.sum(axis=0)).ravel()
    before_C = _frequency(present_NC)
    after_C = (present_NC.T @ replication_N) / max(replication_N.sum(), 1)
    cause_C = _raised_by(present_NC, num_images_C, replication_N)
    rows = [
        {
            "label": label,
            "num_images": int(num_images_C[c]),
            "before": float(before_C[c]),
            "after": float(after_C[c]),
            "gain": float(after_C[c] / before_C[c]) if before_C[c] else 1.0,
            "raised_by": labels[cause_C[c]] if cause_C[c] >= 0 else None,
        }
        for c, label in enumerate(labels)
    ]
    return sorted(rows, key=lambda row: (row["num_images"], row["label"]))


def _raised_by(present_NC: csr_array, num_images_C: np.ndarray, replication_N: np.ndarray) -> np.ndarray:
    """int64 (C,): the other label that causes most repetitions of each label's images, -1 for none.

    The rarest label of an image decides its r(I), since r(h) falls as f(h) grows.
    """
    num_labels = present_NC.shape[1]
    rarest_first = np.lexsort((np.arange(num_labels), num_images_C))
    rank_C = np.empty(num_labels, np.int64)
    rank_C[rarest_first] = np.arange(num_labels)
    image = np.repeat(np.arange(present_NC.shape[0]), np.diff(present_NC.indptr))
    best_N = np.full(present_NC.shape[0], num_labels)
    np.minimum.at(best_N, image, rank_C[present_NC.indices])
    decides = rank_C[present_NC.indices] == best_N[image]
    repeats = csr_array(
        ((replication_N[image] - 1)[decides], (image[decides], present_NC.indices[decides])), shape=present_NC.shape
    )
    caused_CC = (present_NC.T @ repeats).toarray()  # rows: whose images are repeated; columns: for whose sake
    np.fill_diagonal(caused_CC, 0)
    return np.where(caused_CC.max(axis=1, initial=0) > 0, caused_CC.argmax(axis=1), -1)


def _present(targets_NC: np.ndarray, known_NC: np.ndarray) -> csr_array:
    """float64 csr (N, C), 1 where a label is known to be present."""
    return csr_array((np.asarray(targets_NC) != 0) & np.asarray(known_NC, bool)).astype(np.float64)


def _frequency(present_NC: csr_array) -> np.ndarray:
    return np.asarray(present_NC.sum(axis=0)).ravel() / max(present_NC.shape[0], 1)
