"""What all losses share: the mask of known labels, single precision inside, and the three reductions.

Axes: N images of the batch, C labels.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn

Reduction = Literal["mean", "sum", "batch"]


class MultiLabelLoss(nn.Module):
    """A scalar from logits_NC, targets_NC and known_NC.

    Implementing a new loss: give `costs` (what a label costs when it is present, and when it is absent), or, where
    unknown entries or several labels at once matter, `terms`. Both run in float32 (float64 stays), outside autocast.

    num_labels: C.
    reduction: "mean"  divides the sum by the number of entries that count (the known ones, for most losses);
               "sum"   is the sum over images and labels, as the published asymmetric losses have it: its gradient grows
                       with the batch and with the number of known labels, and the published learning rates expect that;
               "batch" divides the sum by the number of images.
    """

    angular: bool = False
    """Needs a head that gives cosines."""
    uses_unknown: bool = False
    """Entries that are not known can change the loss with the options given (the class docstring says how)."""
    logit_scale: float = 1.0
    """Probabilities at inference are sigmoid(logit_scale * logit)."""
    softmax_groups: list[list[int]]
    """Label groups whose probabilities are a softmax instead; empty for all but group_softmax."""

    def __init__(self, num_labels: int, *, reduction: Reduction) -> None:
        super().__init__()
        if reduction not in get_args(Reduction):
            raise ValueError(f"reduction '{reduction}' is unknown; use one of {', '.join(get_args(Reduction))}")
        self.num_labels = num_labels
        self.reduction = reduction
        self.softmax_groups = []
        self.register_buffer("label_weights_C", None, persistent=False)

    def weigh_labels(self, weights_C: Tensor | None) -> None:
        """Let the cost of each label count `weights_C` times, float (C,) of mean 1; None: all alike.

        A mean is still divided by the number of entries, not by the sum of their weights.
        """
        self.label_weights_C = weights_C

    def weights(self, targets_NC: Tensor) -> Tensor:
        """Of each entry of `terms`, broadcastable to (N, X), where labels are weighed."""
        return self.label_weights_C

    def costs(self, logits_NC: Tensor) -> tuple[Tensor, Tensor]:
        """(cost if present, cost if absent), each float (N, C), non-negative, finite."""
        raise NotImplementedError

    def terms(self, logits_NC: Tensor, targets_NC: Tensor, known_NC: Tensor) -> tuple[Tensor, Tensor]:
        """Cost of each entry, float (N, X), and whether it counts, bool (N, X). Targets are 0 where unknown.

        A target between 0 and 1 (label smoothing, mixed images) pays its share of both costs.
        """
        present_NC, absent_NC = self.costs(logits_NC)
        return targets_NC * present_NC + (1 - targets_NC) * absent_NC, known_NC

    def sum_and_count(self, logits_NC: Tensor, targets_NC: Tensor, known_NC: Tensor) -> tuple[Tensor, Tensor]:
        """The sum over entries that count, and how many there are: both scalars.

        For a mean over several processes or accumulation steps: add sums and counts first, divide once.
        """
        assert logits_NC.shape == targets_NC.shape == known_NC.shape, (
            logits_NC.shape,
            targets_NC.shape,
            known_NC.shape,
        )
        assert logits_NC.shape[1] == self.num_labels, (logits_NC.shape, self.num_labels)
        with torch.autocast(logits_NC.device.type, enabled=False):
            logits_NC = logits_NC if logits_NC.dtype == torch.float64 else logits_NC.float()
            known_NC = known_NC.bool()
            targets_NC = torch.where(known_NC, targets_NC.to(logits_NC.dtype), 0.0)
            cost_NX, counts_NX = self.terms(logits_NC, targets_NC, known_NC)
            if self.label_weights_C is not None:
                cost_NX = cost_NX * self.weights(targets_NC)
            return torch.where(counts_NX, cost_NX, 0.0).sum(), counts_NX.sum()

    def forward(self, logits_NC: Tensor, targets_NC: Tensor, known_NC: Tensor) -> Tensor:
        """The reduced loss, a scalar; a differentiable 0 when no entry counts.

        logits_NC: float (N, C), cosines for an angular loss.  targets_NC: (N, C) in [0, 1].  known_NC: bool (N, C).
        """
        total, count = self.sum_and_count(logits_NC, targets_NC, known_NC)
        if self.reduction == "mean":
            return total / count.clamp(min=1)
        if self.reduction == "batch":
            return total / max(len(logits_NC), 1)
        return total

    def start_epoch(self, epoch: int) -> None:
        """Called by the loop before each epoch, counted from 0, for losses whose rule changes over time."""
