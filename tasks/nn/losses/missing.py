"""Losses made for data in which many present labels were never annotated."""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from tasks.nn.losses.base import MultiLabelLoss, Reduction

Unknown = Literal["ignore", "negative"]


class _MissingLabels(MultiLabelLoss):
    """Common option `unknown`: "ignore", or "negative" where the published setting is wanted (unknown is absent)."""

    def __init__(self, num_labels: int, *, unknown: Unknown, reduction: Reduction) -> None:
        super().__init__(num_labels, reduction=reduction)
        if unknown not in get_args(Unknown):
            raise ValueError(f"unknown '{unknown}' is unknown; use one of {', '.join(get_args(Unknown))}")
        self.assume_negative = unknown == "negative"
        self.uses_unknown = self.assume_negative

    def terms(self, logits_NC: Tensor, targets_NC: Tensor, known_NC: Tensor) -> tuple[Tensor, Tensor]:
        cost_NC, _ = super().terms(logits_NC, targets_NC, known_NC)
        return cost_NC, torch.ones_like(known_NC) if self.assume_negative else known_NC


class Hill(_MissingLabels):
    """A negative loss that falls again for confident predictions, which are likely forgotten annotations.

        present: -(1 - p_m)^gamma log p_m with p_m = sigmoid(z - margin)        absent: (lambda - p) p^2

    hill_lambda: lambda >= 1.  margin: shift of positive logits.  gamma: focusing exponent of the positive side.
    unknown: "ignore", or "negative" to let unknown labels pay as absences, which is the published setting.
    Source: Zhang et al., 2021, "Simple and Robust Loss Design for Multi-Label Learning with Missing Labels".
    """

    def __init__(
        self,
        num_labels: int,
        *,
        hill_lambda: float = 1.5,
        margin: float = 1.0,
        gamma: float = 2.0,
        unknown: Unknown = "ignore",
        reduction: Reduction = "sum",
    ) -> None:
        super().__init__(num_labels, unknown=unknown, reduction=reduction)
        self.hill_lambda, self.margin, self.gamma = hill_lambda, margin, gamma

    def costs(self, logits_NC: Tensor) -> tuple[Tensor, Tensor]:
        p_NC = torch.sigmoid(logits_NC)
        return focal_present(logits_NC - self.margin, self.gamma), (self.hill_lambda - p_NC) * p_NC**2


class SelfPacedCorrection(_MissingLabels):
    """SPLC: from the second epoch, an unknown label that the model itself believes in pays as a present one.

    Focal loss with the logits of known present labels shifted by `margin`; promoted labels are not shifted, as in the
    published code.

    tau: probability above which an unknown label is promoted.  change_epoch: first epoch that promotes, counted from 0;
        needs `start_epoch`.
    margin, gamma: shift of positive logits, focusing exponent.
    unknown: what an unknown label below tau does: "ignore", or "negative" for the published setting (it is absent).
    Source: Zhang et al., 2021, "Simple and Robust Loss Design for Multi-Label Learning with Missing Labels".
    """

    def __init__(
        self,
        num_labels: int,
        *,
        tau: float = 0.6,
        change_epoch: int = 1,
        margin: float = 1.0,
        gamma: float = 2.0,
        unknown: Unknown = "ignore",
        reduction: Reduction = "sum",
    ) -> None:
        super().__init__(num_labels, unknown=unknown, reduction=reduction)
        self.uses_unknown = True
        self.tau, self.change_epoch = tau, change_epoch
        self.margin, self.gamma = margin, gamma
        self.epoch = 0

    def start_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def costs(self, logits_NC: Tensor) -> tuple[Tensor, Tensor]:
        return focal_present(logits_NC - self.margin, self.gamma), focal_present(-logits_NC, self.gamma)

    def terms(self, logits_NC: Tensor, targets_NC: Tensor, known_NC: Tensor) -> tuple[Tensor, Tensor]:
        cost_NC, counts_NC = super().terms(logits_NC, targets_NC, known_NC)
        if self.epoch < self.change_epoch:
            return cost_NC, counts_NC
        promoted_NC = ~known_NC & (torch.sigmoid(logits_NC) > self.tau)
        return torch.where(promoted_NC, focal_present(logits_NC, self.gamma), cost_NC), counts_NC | promoted_NC


def focal_present(logits: Tensor, gamma: float) -> Tensor:
    """-(1 - p)^gamma log p with p = sigmoid(logits)."""
    return -(gamma * F.logsigmoid(-logits)).exp() * F.logsigmoid(logits)
