"""Focal loss."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from tasks.nn.losses.base import MultiLabelLoss, Reduction


class FocalLoss(MultiLabelLoss):
    """-alpha_t (1 - p_t)^gamma log p_t, where p_t is the probability of the truth.

    alpha: weight of present labels in [0, 1], 1 - alpha that of absent ones; negative turns the weights off.
    gamma: focusing exponent >= 0; the gradient flows through it.
    Source: Lin et al., ICCV 2017, "Focal Loss for Dense Object Detection", equation 5.
    """

    def __init__(
        self, num_labels: int, *, gamma: float = 2.0, alpha: float = 0.25, reduction: Reduction = "mean"
    ) -> None:
        super().__init__(num_labels, reduction=reduction)
        self.gamma = gamma
        self.weight_present, self.weight_absent = (alpha, 1 - alpha) if alpha >= 0 else (1.0, 1.0)

    def costs(self, logits_NC: Tensor) -> tuple[Tensor, Tensor]:
        log_p_NC, log_q_NC = F.logsigmoid(logits_NC), F.logsigmoid(-logits_NC)
        # (1 - p)^gamma as exp(gamma log q): exact at both ends, and no 0^(gamma - 1) in the gradient.
        present_NC = -self.weight_present * (self.gamma * log_q_NC).exp() * log_p_NC
        absent_NC = -self.weight_absent * (self.gamma * log_p_NC).exp() * log_q_NC
        return present_NC, absent_NC
