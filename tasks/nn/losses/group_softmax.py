"""Cross-entropy within exclusive groups, binary cross-entropy outside them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from tasks.nn.losses.base import MultiLabelLoss, Reduction


class GroupSoftmax(MultiLabelLoss):
    """One softmax a group of labels of which exactly one holds (ten digits); other labels by binary cross-entropy.

    An image without a known positive in a group still teaches: its cost is -log of the probability left to the members
    not known to be absent. Nothing known, or all members absent, costs nothing.

    groups: label indices of each exclusive group of the taxonomy; groups of one are treated as free labels.
    group_weights: weight of each group's cross-entropy, in the order of `groups`; empty for 1 each.
    outside_weight: weight of the labels outside all groups.
    reduction: "batch" gives the sum over groups of weight * mean cross-entropy when every image has every group. For
        "mean" a group counts once an image, where anything is known of it.
    """

    def __init__(
        self,
        num_labels: int,
        groups: Sequence[Sequence[int]] = (),
        *,
        group_weights: Sequence[float] = (),
        outside_weight: float = 1.0,
        reduction: Reduction = "batch",
    ) -> None:
        super().__init__(num_labels, reduction=reduction)
        if group_weights and len(group_weights) != len(groups):
            raise ValueError(
                f"group_weights has {len(group_weights)} values, the taxonomy has {len(groups)} exclusive groups; "
                "give one weight a group, or none"
            )
        weights = list(group_weights) or [1.0] * len(groups)
        kept = [(list(group), weight) for group, weight in zip(groups, weights, strict=True) if len(group) > 1]
        members = [j for group, _ in kept for j in group]
        if len(set(members)) != len(members):
            raise ValueError("a label stands in two exclusive groups; give it one `group:` in the taxonomy")
        self.softmax_groups = [group for group, _ in kept]
        self.outside_weight = outside_weight
        width = max((len(group) for group, _ in kept), default=0)
        padded = [group + [0] * (width - len(group)) for group, _ in kept]
        valid = [[True] * len(group) + [False] * (width - len(group)) for group, _ in kept]
        buffers = {
            "members_GM": torch.tensor(padded, dtype=torch.long).reshape(len(kept), width),
            "valid_GM": torch.tensor(valid, dtype=torch.bool).reshape(len(kept), width),
            "weights_G": torch.tensor([weight for _, weight in kept], dtype=torch.float32),
            "outside_J": torch.tensor([j for j in range(num_labels) if j not in set(members)], dtype=torch.long),
        }
        for name, buffer in buffers.items():
            self.register_buffer(name, buffer, persistent=False)

    def terms(self, logits_NC: Tensor, targets_NC: Tensor, known_NC: Tensor) -> tuple[Tensor, Tensor]:
        outside = self.outside_J
        logits_NJ, targets_NJ = logits_NC[:, outside], targets_NC[:, outside]
        free_NJ = F.binary_cross_entropy_with_logits(logits_NJ, targets_NJ, reduction="none") * self.outside_weight
        if not self.softmax_groups:
            return free_NJ, known_NC[:, outside]
        logits_NGM, targets_NGM, known_NGM = (x_NC[:, self.members_GM] for x_NC in (logits_NC, targets_NC, known_NC))
        cost_NG, counts_NG = _group_costs(logits_NGM, targets_NGM, known_NGM & self.valid_GM, self.valid_GM)
        costs = torch.cat([free_NJ, cost_NG * self.weights_G], dim=1)
        return costs, torch.cat([known_NC[:, outside], counts_NG], dim=1)

    def weights(self, targets_NC: Tensor) -> Tensor:
        """A group counts as its present members do, on average; as all its members where none is known."""
        weights_C = self.label_weights_C
        outside_NJ = weights_C[self.outside_J].expand(len(targets_NC), -1)
        if not self.softmax_groups:
            return outside_NJ
        members_GM = weights_C[self.members_GM]
        present_NGM = targets_NC[:, self.members_GM] * self.valid_GM
        present_NGM = torch.where(present_NGM.any(-1, keepdim=True), present_NGM, self.valid_GM.to(present_NGM))
        of_group_NG = (present_NGM * members_GM).sum(-1) / present_NGM.sum(-1)
        return torch.cat([outside_NJ, of_group_NG], dim=1)


def _group_costs(logits_NGM: Tensor, targets_NGM: Tensor, known_NGM: Tensor, valid_GM: Tensor) -> tuple[Tensor, Tensor]:
    """Cost of each group and whether anything is known of it; padding is False in valid_GM and known_NGM."""
    lowest = torch.finfo(logits_NGM.dtype).min / 2  # stands for -inf without NaN in 0 * log p
    logits_NGM = logits_NGM.masked_fill(~valid_GM, lowest)
    targets_NGM = targets_NGM.masked_fill(~known_NGM, 0)
    mass_NG = targets_NGM.sum(-1)
    shares_NGM = targets_NGM / mass_NG.clamp(min=torch.finfo(mass_NG.dtype).tiny).unsqueeze(-1)
    named_NG = -(shares_NGM * torch.log_softmax(logits_NGM, -1)).sum(-1)

    possible_NGM = valid_GM & ~known_NGM
    some_possible_NG = possible_NGM.any(-1)
    possible_NGM = torch.where(some_possible_NG.unsqueeze(-1), possible_NGM, valid_GM)
    left_NG = logits_NGM.logsumexp(-1) - logits_NGM.masked_fill(~possible_NGM, lowest).logsumexp(-1)

    named = mass_NG > 0
    return torch.where(named, named_NG, left_NG), named | (known_NGM.any(-1) & some_possible_NG)
