"""Labels that the model itself gives to unlabelled images, once.

Axes: U unlabelled images, C labels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from tasks.training.data import Batch, ImageSet, Step
from tasks.training.distributed import World
from tasks.training.semi.base import SemiMethod


class SelfLabelled(SemiMethod):
    """Labels of the model's own making, remembered until they are made anew; a subclass decides when, and which.

    The term is the run's own loss over these images, reduced as that loss is: divided by known entries (mean), by
    images (batch), or not at all (sum). What is already known of an image is never overwritten.
    """

    scores_unlabelled = True

    def is_due(self, epoch: int) -> bool:
        """Whether the images are labelled before this epoch."""
        raise NotImplementedError

    def decide(self, scores_UC: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Targets uint8 (U, C) from scores in [0, 1], and which of them are to be believed, bool (U, C).

        A score is inf where the label is known to be present, -inf where it is known to be absent.
        """
        raise NotImplementedError

    def attach(self, labelled: ImageSet, unlabelled: ImageSet) -> None:
        shape = (len(unlabelled), labelled.targets_NC.shape[1])
        known_UC = np.zeros(shape, bool) if unlabelled.known_NC is None else unlabelled.known_NC
        targets_UC = np.zeros(shape, np.uint8) if unlabelled.targets_NC is None else unlabelled.targets_NC
        self.given = (targets_UC, known_UC)
        self._remember(targets_UC, known_UC)

    def start_epoch(self, epoch: int, score: Callable[[], np.ndarray]) -> None:
        if self.is_due(epoch):
            given_UC, known_UC = self.given
            certain_UC = np.where(given_UC == 1, np.inf, -np.inf)  # so that an exclusive group is decided around it
            targets_UC, believed_UC = self.decide(np.where(known_UC, certain_UC, score()))
            self._remember(np.where(known_UC, given_UC, targets_UC), known_UC | believed_UC)

    def _remember(self, targets_UC: np.ndarray, known_UC: np.ndarray) -> None:
        self.memory = {"targets_UC": torch.tensor(targets_UC), "known_UC": torch.tensor(known_UC)}

    def outputs(self, extra_logits_XC: Tensor | None, features_NF: Tensor, num_labelled: int) -> Tensor:
        assert extra_logits_XC is not None
        return extra_logits_XC

    def cost(self, outputs: Tensor, batch: Batch, loss: nn.Module, world: World) -> Tensor:
        assert batch.extra is not None
        rows = batch.extra.rows_U
        targets_UC = self.memory["targets_UC"][rows].to(outputs.device, torch.float32)
        return loss.sum_and_count(outputs, targets_UC, self.memory["known_UC"][rows].to(outputs.device))[0]

    def expected(self, step: Step, loss: nn.Module) -> float:
        rows = step.unlabelled_rows
        if loss.reduction == "mean":
            return max(1, int(self.memory["known_UC"][rows].sum()))
        return len(rows) if loss.reduction == "batch" else 1


class PseudoLabels(SelfLabelled):
    """Three phases in one run: labelled images only; one labelling of the unlabelled ones; then both, without a break.

    A label is present from a score of `present_from` on, absent below `absent_below`, and stays unknown between. In an
    exclusive group the first label is present and the others absent, if its score reaches `group_from`. The labelling
    model is the averaged one where `ema` is on. The source, a report on letters and digits, names no filter, which
    `group_from: 0` is, and not how it weighs the two kinds of labels.

    groups: columns of each exclusive group.  epochs: of the run.
    ratio: pseudo-labelled images beside each labelled one.  labelled_share: of the epochs, the first phase's.
    """

    def __init__(
        self,
        groups: Sequence[Sequence[int]],
        epochs: int,
        *,
        ratio: float = 1.0,
        weight: float = 1.0,
        labelled_share: float = 0.5,
        present_from: float = 0.5,
        absent_below: float = 0.5,
        group_from: float = 0.0,
    ) -> None:
        super().__init__(ratio=ratio, weight=weight)
        if not 0 <= absent_below <= present_from <= 1:
            raise ValueError(
                f"0 <= absent_below <= present_from <= 1 does not hold for {absent_below} and {present_from}"
            )
        self.groups = [list(group) for group in groups]
        self.first_epoch = max(1, round(labelled_share * epochs))
        if not 0 < labelled_share < 1 or self.first_epoch >= epochs:
            raise ValueError(f"labelled_share {labelled_share} leaves no epoch of {epochs} for one of the two phases")
        self.present_from, self.absent_below, self.group_from = present_from, absent_below, group_from

    def is_due(self, epoch: int) -> bool:
        return epoch == self.first_epoch

    def decide(self, scores_UC: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        present_UC = scores_UC >= self.present_from
        believed_UC = present_UC | (scores_UC < self.absent_below)
        for group in self.groups:
            top_U = scores_UC[:, group].argmax(axis=1)
            present_UC[:, group] = np.arange(len(group)) == top_U[:, None]
            believed_UC[:, group] = (scores_UC[:, group].max(axis=1) >= self.group_from)[:, None]
        return present_UC.astype(np.uint8), believed_UC
