"""Heads on the pooled feature: linear, angular linear, and OpenVINO's non-linear one."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from tasks.nn.heads.base import Head, cosines, unit_normal


class Linear(Head):
    """Global average pooling and one linear layer.

    dropout: on the pooled feature, [0, 1).
    """

    def __init__(self, num_features: int, num_labels: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(num_features, num_labels)
        self.label_axes = {"classifier.weight": 0, "classifier.bias": 0}
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, features_BFHW: Tensor) -> Tensor:
        return self.classifier(self.dropout(features_BFHW.mean((2, 3))))


class AngularClassifier(nn.Module):
    """Cosine between a feature (B, D) and each label's vector; no bias."""

    def __init__(self, num_features: int, num_labels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(unit_normal(num_labels, num_features))

    def forward(self, features_BD: Tensor) -> Tensor:
        return cosines(features_BD, self.weight)


class AngularLinear(Head):
    """Global average pooling and the cosine to each label's vector.

    dropout: on the pooled feature, [0, 1).
    """

    angular = True

    def __init__(self, num_features: int, num_labels: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.classifier = AngularClassifier(num_features, num_labels)
        self.label_axes = {"classifier.weight": 0}

    def forward(self, features_BFHW: Tensor) -> Tensor:
        return self.classifier(self.dropout(features_BFHW.mean((2, 3))))


class OtxNonlinear(Head):
    """Global average pooling, Linear, batch norm, PReLU, dropout, then an angular or a plain linear classifier.

    hidden_dim: width of the first layer; 1280 in the MobileNetV3 template.  dropout: [0, 1); 0.2 there, where it is on.
    angular: cosines instead of logits.
    Source: OpenVINO Training Extensions 1.x, multi-label MobileNetV3-large-1x.
    """

    def __init__(
        self,
        num_features: int,
        num_labels: int,
        *,
        hidden_dim: int = 1280,
        dropout: float = 0.0,
        angular: bool = True,
    ) -> None:
        super().__init__()
        self.angular = angular
        self.hidden = nn.Linear(num_features, hidden_dim)
        self.norm = _BatchNorm1d(hidden_dim)
        self.activation = nn.PReLU()
        self.dropout = nn.Dropout(dropout)
        self.classifier = (AngularClassifier if angular else nn.Linear)(hidden_dim, num_labels)
        self.label_axes = {f"classifier.{name}": 0 for name, _ in self.classifier.named_parameters()}
        for layer in (self.hidden, self.classifier):
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=0.01)
                nn.init.zeros_(layer.bias)

    def forward(self, features_BFHW: Tensor) -> Tensor:
        hidden_BD = self.activation(self.norm(self.hidden(features_BFHW.mean((2, 3)))))
        return self.classifier(self.dropout(hidden_BD))


class _BatchNorm1d(nn.BatchNorm1d):
    """Batch norm that uses its running statistics for a training batch of one, which has no variance of its own."""

    def forward(self, input: Tensor) -> Tensor:
        if self.training and len(input) == 1:
            return F.batch_norm(
                input, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps
            )
        return super().forward(input)
