"""Binary cross-entropy."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from tasks.nn.losses.base import MultiLabelLoss, Reduction


class BinaryCrossEntropy(MultiLabelLoss):
    """-log p for a present label, -log(1 - p) for an absent one, with p = sigmoid(logit)."""

    def __init__(self, num_labels: int, *, reduction: Reduction = "mean") -> None:
        super().__init__(num_labels, reduction=reduction)

    def costs(self, logits_NC: Tensor) -> tuple[Tensor, Tensor]:
        return -F.logsigmoid(logits_NC), -F.logsigmoid(-logits_NC)
