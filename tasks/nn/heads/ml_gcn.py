"""ML-GCN: the label graph writes the classifier."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from tasks.nn.cooccurrence import Cooccurrence
from tasks.nn.heads.base import Head
from tasks.nn.heads.graph import NodeFeatures
from tasks.nn.heads.label_graph import LabelVectors, vocabulary_graph


class MLGcn(Head):
    """Global max pooling, then the dot product with each label's vector, which two graph convolutions make.

    Context, node_features, glove, node_dim, threshold, rho: as for `gat`.  hidden_dim: width between the two layers.
    Source: Chen et al., CVPR 2019, "Multi-Label Image Recognition with Graph Convolutional Networks".
    """

    def __init__(
        self,
        num_features: int,
        num_labels: int,
        cooccurrence: Cooccurrence | None = None,
        label_names: Sequence[str] | None = None,
        node_vectors: np.ndarray | Tensor | None = None,
        *,
        hidden_dim: int = 1024,
        node_features: NodeFeatures = "spectral",
        glove: str = "",
        node_dim: int = 300,
        threshold: float = 0.4,
        rho: float = 0.25,
    ) -> None:
        super().__init__()
        options = {"glove": glove, "node_dim": node_dim, "threshold": threshold, "rho": rho}
        graph = vocabulary_graph(
            "ml_gcn", cooccurrence, label_names, node_vectors, node_features=node_features, **options
        )
        self.label_graph = LabelVectors(*graph, num_features, node_features=node_features, hidden_dim=hidden_dim)
        self.label_axes = {f"label_graph.{name}": axis for name, axis in self.label_graph.label_axes.items()}
        self.vocabulary_state = tuple(f"label_graph.{name}" for name in self.label_graph.vocabulary_state)

    def forward(self, features_BFHW: Tensor) -> Tensor:
        pooled_BF = features_BFHW.amax((2, 3))
        return F.linear(pooled_BF, self.label_graph().to(pooled_BF.dtype))
