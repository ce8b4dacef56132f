"""Barlow Twins as an auxiliary task, as the semi-supervised multi-label recipe of OpenVINO Training Extensions has it.

Axes: B pairs of views over the global micro-batch, D dimensions of the projection, F features.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor, nn

from tasks.training.data import Batch, ImageSet, Step
from tasks.training.distributed import World
from tasks.training.semi.base import Augment, SemiMethod, on_top

STRONG: Augment = ({"name": "rand_augment", "num_ops": 8},)


def cross_correlation_cost(correlation_DD: Tensor, *, off_diagonal: float) -> Tensor:
    """(sum_i (C_ii - 1)^2 + off_diagonal * sum_{i != j} C_ij^2) / D.

    Source: Zbontar et al., ICML 2021, eq. 1 (there 0.0051 and not divided); OTX: 1/128, divided by D.
    """
    on = torch.diagonal(correlation_DD)
    off = correlation_DD.square().sum() - on.square().sum()
    return ((on - 1).square().sum() + off_diagonal * off) / len(on)


class BarlowTwins(SemiMethod):
    """Weak and strong views of every labelled and unlabelled image correlate dimension by dimension, and only there.

    Four views a step: labelled weak, which alone is classified, labelled strong, unlabelled weak and strong. Features
    are projected by one linear layer, standardised over the batch of each kind of view, and compared.

    The weight adapts: weight * (mean supervised loss / mean Barlow loss), exponential means of the steps so far, so the
    term's value stays near `weight` of the supervised loss whatever the two are measured in. The first step has no
    means yet and goes without. Deviations from the released code: the means are of earlier steps, because with
    micro-batches this step's are not known in time; SAM's second pass does not enter them; the supervised logits are
    those of the plain recipe, scale included; the term is added once.

    ratio: 48 unlabelled beside 16 labelled images in the source.  strong: operations on top of the weak view.
    projection_dim: D.  off_diagonal: weight of the redundancy term.  momentum: of the means, in [0, 1).
    """

    labelled_views = True

    def __init__(
        self,
        num_features: int,
        *,
        ratio: float = 3.0,
        weight: float = 0.1,
        strong: Augment = STRONG,
        projection_dim: int = 1024,
        off_diagonal: float = 1 / 128,
        momentum: float = 0.7,
    ) -> None:
        super().__init__(ratio=ratio, weight=weight)
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum must lie in [0, 1), found {momentum}")
        self.strong, self.off_diagonal, self.momentum = strong, off_diagonal, momentum
        self.projector = nn.Linear(num_features, projection_dim)
        self.standardise = nn.BatchNorm1d(projection_dim, affine=False, track_running_stats=False)
        self.register_buffer("means", torch.zeros(2, dtype=torch.float64))  # supervised, Barlow

    def attach(self, labelled: ImageSet, unlabelled: ImageSet) -> None:
        self.on_top = on_top(self.strong, unlabelled)

    def further_views(self, weak: Tensor, generator: Generator) -> list[Tensor]:
        return [self.on_top(weak, generator)]

    def views(self, weak: Tensor, generator: Generator) -> list[Tensor]:
        return [weak, self.on_top(weak, generator)]

    def outputs(self, extra_logits_XC: Tensor | None, features_NF: Tensor, num_labelled: int) -> Tensor:
        """Standardised projections of the weak and of the strong views, (2, B, D)."""
        num_unlabelled = (len(features_NF) - 2 * num_labelled) // 2
        labelled, unlabelled = features_NF.split([2 * num_labelled, 2 * num_unlabelled])
        pairs_2BF = torch.cat([labelled.unflatten(0, (2, -1)), unlabelled.unflatten(0, (2, -1))], dim=1)
        with torch.autocast(features_NF.device.type, enabled=False):
            return torch.stack([self.standardise(self.projector(view_BF.float())) for view_BF in pairs_2BF])

    def cost(self, outputs: Tensor, batch: Batch, loss: nn.Module, world: World) -> Tensor:
        weak_BD, strong_BD = outputs
        everyones = world.sum(outputs.new_tensor(float(len(weak_BD))))
        correlation_DD = world.sum_with_gradient(weak_BD.T @ strong_BD) / everyones
        cost = cross_correlation_cost(correlation_DD, off_diagonal=self.off_diagonal)
        return cost * len(weak_BD)

    def expected(self, step: Step, loss: nn.Module) -> float:
        return len(step.rows) + len(step.unlabelled_rows)

    def factor(self) -> Tensor:
        supervised, auxiliary = self.means
        return (self.weight * supervised / (auxiliary + 1e-9)).float()

    def observe(self, supervised: Tensor, auxiliary: Tensor) -> None:
        now = torch.stack([supervised, auxiliary]).to(self.means.dtype)
        self.means.mul_(self.momentum).add_(now, alpha=1 - self.momentum)
