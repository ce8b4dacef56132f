"""Partially labelled images: what to do with unknown labels."""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from tasks.nn.losses.asl import shifted_log_complement, shifted_power
from tasks.nn.losses.base import MultiLabelLoss, Reduction

Mode = Literal["ignore", "negative", "selective", "ignore_normalize"]


class SelectiveLoss(MultiLabelLoss):
    """Asymmetric loss with a third stream for unknown labels, in four modes.

    With p = sigmoid(z) and q = min(1, 1 - p + clip), factors held constant in the gradient:

        present: -alpha_pos     (1 - p)^gamma_pos     log p
        absent:  -alpha_neg     (1 - q)^gamma_neg     log q
        unknown: -alpha_unknown (1 - q)^gamma_unknown log q, or nothing

    mode: "ignore"            unknown costs nothing.
          "negative"          every unknown pays as an absence.
          "selective" (CSL)   unknown pays as an absence, except for labels whose prior is above prior_threshold, and
                              except for the likelihood_topk * N unknown entries of the batch most likely present.
          "ignore_normalize"  as ignore, each image weighted 1 + 1 / (1 + number of its known labels).
    warmup_epochs: the prior of a label is its mean probability under a model trained in ignore mode. The authors train
        one for it; here the first `warmup_epochs` >= 1 epochs run in ignore mode and the prior is gathered in the last
        of them. Needs `start_epoch`; until then the loss ignores.
    reduction: the authors sum. "mean" counts the entries that pay.
    The choice of likely entries is made within the batch that one process sees.
    Source: Ben-Baruch et al., CVPR 2022, "Multi-label Classification with Partial Annotations using Class-aware
    Selective Loss"; ignore_normalize after Durand et al., CVPR 2019.
    """

    def __init__(
        self,
        num_labels: int,
        *,
        mode: Mode = "selective",
        gamma_pos: float = 0.0,
        gamma_neg: float = 1.0,
        gamma_unknown: float = 2.0,
        alpha_pos: float = 1.0,
        alpha_neg: float = 1.0,
        alpha_unknown: float = 1.0,
        clip: float = 0.0,
        prior_threshold: float = 0.05,
        likelihood_topk: int = 5,
        warmup_epochs: int = 1,
        reduction: Reduction = "sum",
    ) -> None:
        super().__init__(num_labels, reduction=reduction)
        if mode not in get_args(Mode):
            raise ValueError(f"mode '{mode}' is unknown; use one of {', '.join(get_args(Mode))}")
        if mode == "selective" and warmup_epochs < 1:
            raise ValueError(
                "warmup_epochs must be at least 1: the prior of each label is gathered in the last of them"
            )
        self.mode = mode
        self.uses_unknown = mode in ("negative", "selective")
        self.gamma_pos, self.gamma_neg, self.gamma_unknown = gamma_pos, gamma_neg, gamma_unknown
        self.alpha_pos, self.alpha_neg, self.alpha_unknown = alpha_pos, alpha_neg, alpha_unknown
        self.clip = clip
        self.prior_threshold, self.likelihood_topk = prior_threshold, likelihood_topk
        self.warmup_epochs = warmup_epochs
        self.epoch = 0
        self.register_buffer("probability_sum_C", torch.zeros(num_labels, dtype=torch.float64))
        self.register_buffer("num_images", torch.zeros((), dtype=torch.float64))
        self.register_buffer("prior_C", torch.zeros(num_labels), persistent=False)

    def start_epoch(self, epoch: int) -> None:
        """Fix the priors once the warm-up is over; a resumed run arrives at the same ones."""
        self.epoch = epoch
        if self.mode == "selective" and epoch >= self.warmup_epochs:
            self.prior_C = (self.probability_sum_C / self.num_images.clamp(min=1)).float()

    def terms(self, logits_NC: Tensor, targets_NC: Tensor, known_NC: Tensor) -> tuple[Tensor, Tensor]:
        log_p_NC = F.logsigmoid(logits_NC)
        log_q_NC = shifted_log_complement(logits_NC, self.clip)
        with torch.no_grad():
            focus_present_NC = self.alpha_pos * (self.gamma_pos * F.logsigmoid(-logits_NC)).exp()
            focus_absent_NC = self.alpha_neg * shifted_power(logits_NC, self.clip, self.gamma_neg)
            focus_unknown_NC = self.alpha_unknown * shifted_power(logits_NC, self.clip, self.gamma_unknown)
            weight_NC, pays_NC = self._weights(logits_NC, known_NC)
        known_cost_NC = -targets_NC * focus_present_NC * log_p_NC - (1 - targets_NC) * focus_absent_NC * log_q_NC
        cost_NC = torch.where(known_NC, known_cost_NC, -focus_unknown_NC * log_q_NC)
        return weight_NC * cost_NC, pays_NC

    def _weights(self, logits_NC: Tensor, known_NC: Tensor) -> tuple[Tensor, Tensor]:
        """Weight of each entry's cost, and which entries pay at all."""
        weight_NC = torch.ones_like(logits_NC)
        if self.mode == "ignore_normalize":
            return weight_NC + 1 / (1 + known_NC.sum(1, keepdim=True)), known_NC
        if self.mode == "negative":
            return weight_NC, torch.ones_like(known_NC)
        if self.mode == "selective" and self.epoch >= self.warmup_epochs:
            return weight_NC, known_NC | self._trusted_absences(logits_NC, known_NC)
        if self.mode == "selective" and self.epoch == self.warmup_epochs - 1 and logits_NC.requires_grad:
            # Of all processes at once: a checkpoint holds the first one's buffers, and every process resumes from it.
            seen = torch.cat([torch.sigmoid(logits_NC).sum(0).double(), self.num_images.new_tensor([len(logits_NC)])])
            if dist.is_available() and dist.is_initialized():
                dist.all_reduce(seen)
            self.probability_sum_C += seen[:-1]
            self.num_images += seen[-1]
        return weight_NC, known_NC

    def _trusted_absences(self, logits_NC: Tensor, known_NC: Tensor) -> Tensor:
        """Unknown entries that pay as absences: bool (N, C)."""
        likely = min(self.likelihood_topk * len(logits_NC), logits_NC.numel())
        trusted_NC = ~known_NC & (self.prior_C <= self.prior_threshold)
        if likely:
            unknown_logits = logits_NC.masked_fill(known_NC, -torch.inf).flatten()
            chosen = torch.zeros_like(unknown_logits, dtype=torch.bool)
            chosen[unknown_logits.topk(likely).indices] = True
            trusted_NC &= ~chosen.view_as(trusted_NC)
        return trusted_NC
