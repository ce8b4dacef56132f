"""Large-loss rejection and correction of assumed negatives."""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from tasks.nn.losses.base import MultiLabelLoss, Reduction

Mode = Literal["reject", "correct"]


class LargeLoss(MultiLabelLoss):
    """Unknown labels are assumed absent, and those with the largest loss are not believed.

    Binary cross-entropy. In epoch e (from 0) the k = ceil(N C e delta_rel / 100) unknown entries of the batch with the
    largest loss are dropped ("reject", LL-R) or pay as present for this step ("correct", LL-Ct); ties go with them. The
    first epoch changes nothing. The permanent variant (LL-Cp) rewrites the labels themselves: that is a cleaning step.

    delta_rel: growth of the rejected share a epoch, in percent of all entries; needs `start_epoch`.
    reduction: "mean" divides by all entries, the rejected ones included, as published.
    The choice is made within the batch that one process sees.
    Source: Kim et al., CVPR 2022, "Large Loss Matters in Weakly Supervised Multi-Label Classification".
    """

    uses_unknown = True

    def __init__(
        self, num_labels: int, *, mode: Mode = "reject", delta_rel: float = 0.2, reduction: Reduction = "mean"
    ) -> None:
        super().__init__(num_labels, reduction=reduction)
        if mode not in get_args(Mode):
            raise ValueError(f"mode '{mode}' is unknown; use one of {', '.join(get_args(Mode))}")
        self.mode = mode
        self.delta_rel = delta_rel
        self.epoch = 0

    def start_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def terms(self, logits_NC: Tensor, targets_NC: Tensor, known_NC: Tensor) -> tuple[Tensor, Tensor]:
        cost_NC = F.binary_cross_entropy_with_logits(logits_NC, targets_NC, reduction="none")
        everything_NC = torch.ones_like(known_NC)
        k = min(math.ceil(cost_NC.numel() * self.epoch * self.delta_rel / 100), cost_NC.numel())
        if k == 0:
            return cost_NC, everything_NC
        doubtful_NC = cost_NC.detach().masked_fill(known_NC, -1.0)  # below every cost, so known entries come last
        cutoff = doubtful_NC.flatten().topk(k).values[-1]
        disbelieved_NC = ~known_NC & (doubtful_NC >= cutoff)
        instead_NC = -F.logsigmoid(logits_NC) if self.mode == "correct" else torch.zeros_like(cost_NC)
        return torch.where(disbelieved_NC, instead_NC, cost_NC), everything_NC
