"""CAP: class-aware pseudo-labels, as many positives a class as the labelled images predict.

Axes: U unlabelled images, C labels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from torch import Generator, Tensor

from tasks.training.data import ImageSet
from tasks.training.semi.base import Augment, on_top
from tasks.training.semi.pseudo_labels import SelfLabelled

STRONG: Augment = ({"name": "rand_augment"}, {"name": "cutout", "p": 1.0})
MOST_ABSENT = 0.998
"""Cap of `absent_rate`, from the released code."""


class Thresholds(NamedTuple):
    """Scores float (C,): present from, trusted as present from, trusted as absent up to; +-inf where no image is."""

    present_C: np.ndarray
    trusted_present_C: np.ndarray
    trusted_absent_C: np.ndarray


def class_proportions(targets_NC: np.ndarray, known_NC: np.ndarray) -> np.ndarray:
    """Share of positives among the known entries of each label, float64 (C,); NaN where nothing is known."""
    positives_C = (targets_NC.astype(bool) & known_NC).sum(axis=0)
    known_C = known_NC.sum(axis=0)
    return np.divide(positives_C, known_C, out=np.full(len(known_C), np.nan), where=known_C > 0)


def class_thresholds(
    scores_UC: np.ndarray, proportions_C: np.ndarray, *, present_rate: float = 1.0, absent_rate: float = 1.0
) -> Thresholds:
    """Thresholds at ranks among the unlabelled images, each label by itself.

    With share g of positives and U images: present from the score at rank floor(g U) from the top; trusted from rank
    floor(present_rate g U) from the top, and up to rank floor(min(absent_rate, 0.998) (1 - g) U) from the bottom.
    Rank 0 means no image at all: a label too rare for one positive gets none (the released index would wrap around to
    the lowest score and make every image a positive). A label of unknown share gets neither kind.
    Source: Xie et al., "Class-Distribution-Aware Pseudo-Labeling for Semi-Supervised Multi-Label Learning", 2023.
    """
    count, num_labels = scores_UC.shape
    rates = (1.0, present_rate, min(absent_rate, MOST_ABSENT))
    result = Thresholds(np.full(num_labels, np.inf), np.full(num_labels, np.inf), np.full(num_labels, -np.inf))
    for c in np.flatnonzero(~np.isnan(proportions_C)):
        ascending_U = np.sort(scores_UC[:, c])
        share = proportions_C[c]
        shares = (share, share, 1 - share)
        # A share is a ratio of counts: 1e-9 keeps floor() from losing a whole rank to its rounding.
        present, trusted_present, trusted_absent = (
            math.floor(rate * s * count + 1e-9) for rate, s in zip(rates, shares, strict=True)
        )
        if present:
            result.present_C[c] = ascending_U[-present]
        if trusted_present:
            result.trusted_present_C[c] = ascending_U[-trusted_present]
        if trusted_absent:
            result.trusted_absent_C[c] = ascending_U[trusted_absent - 1]
    return result


class Cap(SelfLabelled):
    """From `warmup_epochs` on, all unlabelled images are labelled anew, by the averaged weights, every few epochs.

    Thresholds: `class_thresholds`, on images that are not augmented; the student sees them strongly augmented. In an
    exclusive group an image with other than one label present stays unknown. The source sums both terms, over ASL
    (gamma 4 and 0, clip 0.05).

    ratio: pseudo-labelled images beside each labelled one (60 beside 4 in the source's 5 % setting).
    present_rate, absent_rate: shares of the expected positives and negatives that are trusted, in (0, 1].
    strong: operations on top of the run's own augmentation.  every_epochs: between two labellings; the source takes 1.
    An epoch is one over the labelled images: where these are few, labelling each time costs more than training.
    """

    needs_ema = True

    def __init__(
        self,
        groups: Sequence[Sequence[int]],
        epochs: int,
        *,
        ratio: float = 1.0,
        weight: float = 1.0,
        warmup_epochs: int = 12,
        present_rate: float = 1.0,
        absent_rate: float = 1.0,
        strong: Augment = STRONG,
        every_epochs: int = 1,
    ) -> None:
        super().__init__(ratio=ratio, weight=weight)
        if not 1 <= warmup_epochs < epochs:
            raise ValueError(f"warmup_epochs must lie in [1, epochs), found {warmup_epochs} of {epochs} epochs")
        if every_epochs < 1:
            raise ValueError(f"every_epochs must be at least 1, found {every_epochs}")
        for name, rate in (("present_rate", present_rate), ("absent_rate", absent_rate)):
            if not 0 < rate <= 1:
                raise ValueError(f"{name} must lie in (0, 1], found {rate}")
        self.groups = [list(group) for group in groups]
        self.first_epoch, self.strong = warmup_epochs, strong
        self.present_rate, self.absent_rate, self.every_epochs = present_rate, absent_rate, every_epochs

    def attach(self, labelled: ImageSet, unlabelled: ImageSet) -> None:
        super().attach(labelled, unlabelled)
        self.on_top = on_top(self.strong, unlabelled)
        self.proportions_C = class_proportions(labelled.targets_NC, labelled.known_NC)

    def views(self, weak: Tensor, generator: Generator) -> list[Tensor]:
        return [self.on_top(weak, generator)]

    def is_due(self, epoch: int) -> bool:
        return epoch >= self.first_epoch and (epoch - self.first_epoch) % self.every_epochs == 0

    def decide(self, scores_UC: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        limits = class_thresholds(
            scores_UC, self.proportions_C, present_rate=self.present_rate, absent_rate=self.absent_rate
        )
        present_UC = scores_UC >= limits.present_C
        believed_UC = (scores_UC >= limits.trusted_present_C) | (scores_UC <= limits.trusted_absent_C)
        for group in self.groups:
            believed_UC[:, group] &= (present_UC[:, group].sum(axis=1) == 1)[:, None]
        return present_UC.astype(np.uint8), believed_UC
