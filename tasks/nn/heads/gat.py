"""Graph re-weighting: the label graph chooses, once for all images, how much each channel of the feature map counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import numpy as np
from torch import Tensor, nn

from tasks.nn.cooccurrence import Cooccurrence
from tasks.nn.heads.base import Head, copy_shared
from tasks.nn.heads.graph import NodeFeatures
from tasks.nn.heads.label_graph import ChannelWeights, LayerType, vocabulary_graph
from tasks.nn.heads.linear import AngularClassifier
from tasks.nn.heads.ml_decoder import MLDecoder

Pooling = Literal["avg+max", "avg"]


class Gat(Head):
    """Re-weighted channels, pooled, then a linear or an angular classifier.

    cooccurrence, label_names: of the training labels.  node_vectors: of a saved model, in place of their source.
    layer_type: "gat", or "gcn" (the layers that the published code runs by default).
    pooling: "avg+max" as in the paper, or "avg" as in its released configurations.
    node_features: "spectral" (from co-occurrence, needs no names), "glove" (the paper's; by name from the file
        `glove`), "one_hot", "learned".  node_dim: width of learned vectors, largest width of spectral ones.
    threshold: conditional probability from which two labels are neighbours.  rho: weight of all neighbours against 1.
    dropout: on attention, [0, 1).  angular: cosines instead of logits.
    Source: Prokofiev and Sovrasov, 2022, section 3.3, with the sigmoid of its code.
    """

    def __init__(
        self,
        num_features: int,
        num_labels: int,
        cooccurrence: Cooccurrence | None = None,
        label_names: Sequence[str] | None = None,
        node_vectors: np.ndarray | Tensor | None = None,
        *,
        layer_type: LayerType = "gat",
        pooling: Pooling = "avg+max",
        node_features: NodeFeatures = "spectral",
        glove: str = "",
        node_dim: int = 300,
        threshold: float = 0.4,
        rho: float = 0.25,
        dropout: float = 0.1,
        angular: bool = False,
    ) -> None:
        super().__init__()
        if pooling not in get_args(Pooling):
            raise ValueError(f"pooling '{pooling}' is unknown; use avg+max or avg")
        self.angular, self.pooling = angular, pooling
        options = {"glove": glove, "node_dim": node_dim, "threshold": threshold, "rho": rho}
        graph = vocabulary_graph("gat", cooccurrence, label_names, node_vectors, node_features=node_features, **options)
        self.label_graph = ChannelWeights(
            *graph, num_features, node_features=node_features, layer_type=layer_type, dropout=dropout
        )
        self.classifier = (AngularClassifier if angular else nn.Linear)(num_features, num_labels)
        self.label_axes = {
            **{f"label_graph.{name}": axis for name, axis in self.label_graph.label_axes.items()},
            **{f"classifier.{name}": 0 for name, _ in self.classifier.named_parameters()},
        }
        self.vocabulary_state = tuple(f"label_graph.{name}" for name in self.label_graph.vocabulary_state)

    def forward(self, features_BFHW: Tensor) -> Tensor:
        weighted_BFHW = _reweight(features_BFHW, self.label_graph())
        pooled_BF = weighted_BFHW.mean((2, 3))
        if self.pooling == "avg+max":
            pooled_BF = pooled_BF + weighted_BFHW.amax((2, 3))
        return self.classifier(pooled_BF)


class GatMLDecoder(Head):
    """Re-weighted channels, read by ML-Decoder. Context and options as for `gat` and `ml_decoder`."""

    def __init__(
        self,
        num_features: int,
        num_labels: int,
        cooccurrence: Cooccurrence | None = None,
        label_names: Sequence[str] | None = None,
        node_vectors: np.ndarray | Tensor | None = None,
        *,
        layer_type: LayerType = "gat",
        node_features: NodeFeatures = "spectral",
        glove: str = "",
        node_dim: int = 300,
        threshold: float = 0.4,
        rho: float = 0.25,
        num_groups: int = 100,
        decoder_dim: int = 768,
        num_heads: int = 8,
        ffn_dim: int = 2048,
        dropout: float = 0.1,
        angular: bool = False,
    ) -> None:
        super().__init__()
        self.angular = angular
        options = {"glove": glove, "node_dim": node_dim, "threshold": threshold, "rho": rho}
        graph = vocabulary_graph(
            "gat_ml_decoder", cooccurrence, label_names, node_vectors, node_features=node_features, **options
        )
        self.label_graph = ChannelWeights(
            *graph, num_features, node_features=node_features, layer_type=layer_type, dropout=dropout
        )
        self.decoder = MLDecoder(
            num_features,
            num_labels,
            num_groups=num_groups,
            decoder_dim=decoder_dim,
            num_heads=num_heads,
            ffn_dim=ffn_dim,
            dropout=dropout,
            angular=angular,
        )

    def forward(self, features_BFHW: Tensor) -> Tensor:
        return self.decoder(_reweight(features_BFHW, self.label_graph()))

    def carry_over(self, old_state: Mapping[str, Tensor], pairs: Sequence[tuple[int, int]]) -> list[int]:
        def part(prefix: str) -> dict[str, Tensor]:
            return {name.removeprefix(prefix): value for name, value in old_state.items() if name.startswith(prefix)}

        own = {n: v for n, v in self.label_graph.state_dict().items() if n not in self.label_graph.vocabulary_state}
        if not copy_shared(own, part("label_graph."), pairs, self.label_graph.label_axes):
            return []
        return self.decoder.carry_over(part("decoder."), pairs)


def _reweight(features_BFHW: Tensor, weights_F: Tensor) -> Tensor:
    return features_BFHW * weights_F.to(features_BFHW.dtype)[:, None, None]
