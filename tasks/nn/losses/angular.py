"""Additive-margin and asymmetric angular-margin losses over cosines."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from tasks.nn.losses.asl import shifted_log_complement
from tasks.nn.losses.base import MultiLabelLoss, Reduction

SMALLEST_SCALE, LARGEST_SCALE = 7.0, 30.0
"""Bounds of the automatic scale; the lower one is the fixed scale of the OpenVINO templates."""


def automatic_scale(num_labels: int) -> float:
    """s = sqrt(5) ln(C - 1), held in [7, 30]: 7 up to 23 labels, 9.77 for 80, 13.9 for 500."""
    return min(max(math.sqrt(5) * math.log(max(num_labels - 1, 1)), SMALLEST_SCALE), LARGEST_SCALE)


class AsymmetricAngularMargin(MultiLabelLoss):
    """Asymmetric loss on scaled cosines with a margin on both sides (AAM).

        p+ = sigmoid(s (c - m)),  p- = sigmoid(-s (c + m)),  q- = min(1, p- + clip)
        present: -(k / s)       q-^gamma_pos log p+
        absent:  -((1 - k) / s) p+^gamma_neg log q-

    s: scale > 0, sharpens; 10 to 20 for few labels, 20 to 30 otherwise.  auto_scale: take s from the number of labels.
    m: margin in cosine; the authors advise 0.  k: weight of present labels in [0, 1].
    gamma_neg, gamma_pos: exponents >= 0, named as in the published code: gamma_neg down-weights easy ABSENT labels.
        (The formula in the OpenVINO documentation prints the two superscripts the other way round.)
    clip: probability shift in [0, 1), applied only while one of the exponents is not 0.
    detach_focusing: treat the focusing factors as constants in the gradient; the published code does not.
    reduction: "sum" is the published one (Prokofiev & Sovrasov, OpenVINO 1.x); "batch" is that of OpenVINO 2.x, whose
        gradients are N times smaller at the same learning rate.
    Inference: sigmoid(s c); the margin is dropped.
    Source: Prokofiev and Sovrasov, "Combining Metric Learning and Attention Heads For Accurate and Efficient Multilabel
    Image Classification", 2022, and its code.
    """

    angular = True

    def __init__(
        self,
        num_labels: int,
        *,
        s: float = 23.0,
        auto_scale: bool = False,
        m: float = 0.0,
        k: float = 0.7,
        gamma_neg: float = 1.0,
        gamma_pos: float = 0.0,
        clip: float = 0.05,
        detach_focusing: bool = False,
        reduction: Reduction = "sum",
    ) -> None:
        super().__init__(num_labels, reduction=reduction)
        self.logit_scale = automatic_scale(num_labels) if auto_scale else s
        self.m, self.k = m, k
        self.gamma_neg, self.gamma_pos = gamma_neg, gamma_pos
        self.clip = clip if gamma_neg > 0 or gamma_pos > 0 else 0.0
        self.detach_focusing = detach_focusing

    def costs(self, cosines_NC: Tensor) -> tuple[Tensor, Tensor]:
        s = self.logit_scale
        log_p_NC = F.logsigmoid(s * (cosines_NC - self.m))
        log_q_NC = shifted_log_complement(s * (cosines_NC + self.m), self.clip)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.detach_focusing):
            # Powers of probabilities as exp(gamma log .), finite in value and gradient at both ends.
            focus_present_NC = (self.gamma_pos * log_q_NC).exp()
            focus_absent_NC = (self.gamma_neg * log_p_NC).exp()
        present_NC = -self.k / s * focus_present_NC * log_p_NC
        absent_NC = -(1 - self.k) / s * focus_absent_NC * log_q_NC
        return present_NC, absent_NC


class AdditiveMarginBinary(AsymmetricAngularMargin):
    """AAM without focusing: SphereFace2's binary loss with g the identity and no bias.

        present: -(k / s) log sigmoid(s (c - m))        absent: -((1 - k) / s) log sigmoid(-s (c + m))

    s, auto_scale, m, k, reduction: as for AAM.
    Source: Wen et al., ICLR 2022, "SphereFace2"; defaults as in the multi-label configurations of Prokofiev & Sovrasov.
    """

    def __init__(
        self,
        num_labels: int,
        *,
        s: float = 23.0,
        auto_scale: bool = False,
        m: float = 0.0,
        k: float = 0.7,
        reduction: Reduction = "sum",
    ) -> None:
        super().__init__(
            num_labels,
            s=s,
            auto_scale=auto_scale,
            m=m,
            k=k,
            gamma_neg=0.0,
            gamma_pos=0.0,
            clip=0.0,
            reduction=reduction,
        )
