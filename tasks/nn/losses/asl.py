"""Asymmetric loss."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from tasks.nn.losses.base import MultiLabelLoss, Reduction

SMALLEST = 1e-8
"""Lower clamp of a shifted probability, as in the published code."""


class AsymmetricLoss(MultiLabelLoss):
    """Focal loss with one exponent a side, and easy negatives discarded.

        p = sigmoid(z), q = min(1, 1 - p + clip)
        present: -(1 - p)^gamma_pos log p        absent: -(1 - q)^gamma_neg log q

    gamma_neg, gamma_pos: exponents >= 0.  clip: probability shift in [0, 1); absent labels with p <= clip cost nothing.
    detach_focusing: treat the factors (1 - p)^gamma and (1 - q)^gamma as constants in the gradient, as the authors'
        training script does (their class default does not).
    reduction: the authors sum.
    log p is not clamped at log 1e-8 as in the published code, so the gradient of a badly missed label does not vanish.
    Source: Ridnik et al., ICCV 2021, "Asymmetric Loss for Multi-Label Classification"; exponents of its script.
    """

    def __init__(
        self,
        num_labels: int,
        *,
        gamma_neg: float = 4.0,
        gamma_pos: float = 0.0,
        clip: float = 0.05,
        detach_focusing: bool = True,
        reduction: Reduction = "sum",
    ) -> None:
        super().__init__(num_labels, reduction=reduction)
        self.gamma_neg, self.gamma_pos = gamma_neg, gamma_pos
        self.clip = clip
        self.detach_focusing = detach_focusing

    def costs(self, logits_NC: Tensor) -> tuple[Tensor, Tensor]:
        log_p_NC, log_1mp_NC = F.logsigmoid(logits_NC), F.logsigmoid(-logits_NC)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.detach_focusing):
            focus_present_NC = (self.gamma_pos * log_1mp_NC).exp()
            focus_absent_NC = shifted_power(logits_NC, self.clip, self.gamma_neg)
        absent_NC = -focus_absent_NC * shifted_log_complement(logits_NC, self.clip)
        return -focus_present_NC * log_p_NC, absent_NC


def shifted_power(logits: Tensor, clip: float, gamma: float) -> Tensor:
    """max(p - clip, 0)^gamma with p = sigmoid(logits); its gradient is finite for every gamma >= 0."""
    if clip <= 0:
        return (gamma * F.logsigmoid(logits)).exp()
    return (torch.sigmoid(logits) - clip).clamp(min=SMALLEST).pow(gamma)


def shifted_log_complement(logits: Tensor, clip: float) -> Tensor:
    """log min(1, 1 - p + clip) with p = sigmoid(logits)."""
    if clip <= 0:
        return F.logsigmoid(-logits)
    return (torch.sigmoid(-logits) + clip).clamp(min=SMALLEST, max=1).log()
