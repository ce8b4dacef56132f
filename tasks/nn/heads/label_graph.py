"""Layers over the label graph, and what they compute for all images at once.

Axes: C labels (nodes), D entries of a node's vector, F channels of the feature map.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tasks.core.errors import ModelError
from tasks.nn.cooccurrence import Cooccurrence
from tasks.nn.heads.base import WeightsOnly, full_precision
from tasks.nn.heads.graph import NodeFeatures, correlation_matrix, node_vectors

LayerType = Literal["gat", "gcn"]


def vocabulary_graph(
    head: str,
    cooccurrence: Cooccurrence | None,
    label_names: Sequence[str] | None,
    stored_vectors_CD: np.ndarray | Tensor | None,
    *,
    node_features: NodeFeatures,
    glove: str,
    node_dim: int,
    threshold: float,
    rho: float,
) -> tuple[Tensor, Tensor]:
    """Normalised adjacency (C, C) and node vectors (C, D) of the vocabulary, float32.

    head: its name, for messages.  stored_vectors_CD: node vectors of a saved model, in place of their source.
    Raises ModelError without co-occurrence counts.
    """
    if cooccurrence is None:
        raise ModelError(
            f"head {head}: no co-occurrence counts, and its graph is made of them. They are counted from the training "
            "labels: pass Cooccurrence.count(targets, known), or choose head ml_decoder."
        )
    adjacency_CC = correlation_matrix(cooccurrence.conditional_probability(), threshold=threshold, rho=rho)
    if stored_vectors_CD is None:
        stored_vectors_CD = node_vectors(node_features, cooccurrence, label_names, glove=glove, dim=node_dim)
    if stored_vectors_CD is None:
        stored_vectors_CD = torch.randn(len(adjacency_CC), node_dim)
    return torch.from_numpy(adjacency_CC), torch.as_tensor(stored_vectors_CD).float()


class LabelGraph(WeightsOnly):
    """Adjacency, node vectors and layers; subclasses say what is computed from them."""

    def __init__(self, adjacency_CC: Tensor, nodes_CD: Tensor, *shape: int, node_features: NodeFeatures) -> None:
        super().__init__(*shape)
        self.register_buffer("adjacency_CC", adjacency_CC)
        self.vocabulary_state = ["adjacency_CC"]
        self.label_axes = {}
        if node_features == "learned":
            self.nodes_CD = nn.Parameter(nodes_CD)
            self.label_axes["nodes_CD"] = 0
        else:
            self.register_buffer("nodes_CD", nodes_CD)
            self.vocabulary_state.append("nodes_CD")
        if node_features == "one_hot":
            self.label_axes["layers.0.weight"] = 0  # a one-hot vector picks its row: a learned table

    def stack(self, layer_type: LayerType, widths: Sequence[int], *, dropout: float = 0.0) -> nn.ModuleList:
        """One graph layer between each two of `widths`."""
        if layer_type not in get_args(LayerType):
            raise ValueError(f"layer_type '{layer_type}' is unknown; use gat or gcn")
        pairs = list(itertools.pairwise(widths))
        if layer_type == "gat":
            return nn.ModuleList(GraphAttention(i, o, dropout=dropout) for i, o in pairs)
        return nn.ModuleList(GraphConvolution(i, o) for i, o in pairs)


class ChannelWeights(LabelGraph):
    """Two graph layers, the maximum over nodes, a sigmoid: one weight in (0, 1) a channel, (F,)."""

    def __init__(
        self,
        adjacency_CC: Tensor,
        nodes_CD: Tensor,
        num_features: int,
        *,
        node_features: NodeFeatures,
        layer_type: LayerType,
        dropout: float,
    ) -> None:
        super().__init__(adjacency_CC, nodes_CD, num_features, node_features=node_features)
        self.layers = self.stack(layer_type, (nodes_CD.shape[1], num_features, num_features), dropout=dropout)

    def compute(self) -> Tensor:
        with full_precision(self.nodes_CD):
            nodes_CF = self.nodes_CD
            for layer in self.layers:
                nodes_CF = F.leaky_relu(layer(nodes_CF, self.adjacency_CC), 0.2)
            return torch.sigmoid(nodes_CF.amax(dim=0))


class LabelVectors(LabelGraph):
    """Two graph convolutions: a classifier's vector a label, (C, F)."""

    def __init__(
        self,
        adjacency_CC: Tensor,
        nodes_CD: Tensor,
        num_features: int,
        *,
        node_features: NodeFeatures,
        hidden_dim: int,
    ) -> None:
        super().__init__(adjacency_CC, nodes_CD, len(nodes_CD), num_features, node_features=node_features)
        self.layers = self.stack("gcn", (nodes_CD.shape[1], hidden_dim, num_features))

    def compute(self) -> Tensor:
        with full_precision(self.nodes_CD):
            hidden_CD = F.leaky_relu(self.layers[0](self.nodes_CD, self.adjacency_CC), 0.2)
            return self.layers[1](hidden_CD, self.adjacency_CC)


class GraphAttention(nn.Module):
    """One attention head over a node's neighbours: ELU(softmax_j(LeakyReLU(a1 . W h_i + a2 . W h_j)) W h).

    Source: Velickovic et al., ICLR 2018, "Graph Attention Networks".
    """

    def __init__(self, in_dim: int, out_dim: int, *, dropout: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(in_dim, out_dim))
        self.attention = nn.Parameter(torch.empty(2 * out_dim, 1))
        self.dropout = nn.Dropout(dropout)
        for parameter in (self.weight, self.attention):
            nn.init.xavier_uniform_(parameter, gain=1.414)

    def forward(self, nodes_CD: Tensor, adjacency_CC: Tensor) -> Tensor:
        nodes_CF = nodes_CD @ self.weight
        own_F1, neighbour_F1 = self.attention.chunk(2)
        energy_CC = F.leaky_relu(nodes_CF @ own_F1 + (nodes_CF @ neighbour_F1).T, 0.2)
        energy_CC = energy_CC.masked_fill(adjacency_CC <= 0, -9e15)  # only the support of the graph matters here
        return F.elu(self.dropout(energy_CC.softmax(dim=1)) @ nodes_CF)


class GraphConvolution(nn.Module):
    """A^ h W, without bias. Source: Kipf and Welling, ICLR 2017; initialised as in ML-GCN's code."""

    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(in_dim, out_dim).uniform_(-(out_dim**-0.5), out_dim**-0.5))

    def forward(self, nodes_CD: Tensor, adjacency_CC: Tensor) -> Tensor:
        return adjacency_CC @ (nodes_CD @ self.weight)
