"""ML-Decoder: a few fixed queries look at the feature map, each answering for a group of labels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tasks.nn.heads.base import Head, full_precision, unit


class MLDecoder(Head):
    """One cross-attention layer without self-attention or positions, then a small linear layer a query.

    Label j is answered by query j // g with g = ceil(C / Q) labels a query and Q = min(num_groups, C) queries; with
    Q = C each label has its own query and its own vector. Queries are random and stay as they are drawn.

    num_groups: Q before it is held to C.  decoder_dim: width, a multiple of num_heads.  ffn_dim: inner width of the
    feed-forward block.  dropout: in attention and feed-forward, [0, 1).
    angular: logits are cosines plus a bias (the bias is the authors', and takes part in margin and scale); the
        activation after the first projection is then LeakyReLU(0.2) instead of ReLU.
    Source: Ridnik et al., WACV 2023, "ML-Decoder"; the angular form after Prokofiev & Sovrasov, 2022.
    """

    def __init__(
        self,
        num_features: int,
        num_labels: int,
        *,
        num_groups: int = 100,
        decoder_dim: int = 768,
        num_heads: int = 8,
        ffn_dim: int = 2048,
        dropout: float = 0.1,
        angular: bool = False,
    ) -> None:
        super().__init__()
        if num_groups < 1:
            raise ValueError(f"num_groups must be at least 1, found {num_groups}")
        if decoder_dim % num_heads:
            raise ValueError(f"decoder_dim {decoder_dim} must be a multiple of num_heads ({num_heads})")
        self.angular = angular
        self.num_labels = num_labels
        self.num_queries = min(num_groups, num_labels)
        self.labels_per_query = math.ceil(num_labels / self.num_queries)
        self.projection = nn.Linear(num_features, decoder_dim)
        self.activation = nn.LeakyReLU(0.2) if angular else nn.ReLU()
        # A buffer, not a frozen parameter: no optimiser, weight decay or "unfreeze all" can reach it.
        self.register_buffer("queries_QD", torch.randn(self.num_queries, decoder_dim))
        self.decoder = CrossAttentionLayer(decoder_dim, num_heads, ffn_dim, dropout)
        self.group_weight_QDG = nn.Parameter(torch.empty(self.num_queries, decoder_dim, self.labels_per_query))
        self.bias_C = nn.Parameter(torch.zeros(num_labels))
        nn.init.xavier_normal_(self.group_weight_QDG)

    def forward(self, features_BFHW: Tensor) -> Tensor:
        memory_BTD = self.activation(self.projection(features_BFHW.flatten(2).transpose(1, 2)))
        queries_BQD = self.queries_QD.to(memory_BTD.dtype).expand(memory_BTD.shape[0], -1, -1)
        hidden_BQD = self.decoder(queries_BQD, memory_BTD)
        if not self.angular:
            return self._group_fc(hidden_BQD, self.group_weight_QDG)
        with full_precision(hidden_BQD):
            return self._group_fc(unit(hidden_BQD, -1), unit(self.group_weight_QDG, 1))

    def _group_fc(self, hidden_BQD: Tensor, weight_QDG: Tensor) -> Tensor:
        logits_BQG = torch.einsum("bqd,qdg->bqg", hidden_BQD, weight_QDG)
        return logits_BQG.flatten(1)[:, : self.num_labels] + self.bias_C

    def carry_over(self, old_state: Mapping[str, Tensor], pairs: Sequence[tuple[int, int]]) -> list[int]:
        """As `Head.carry_over`; a label brings its query along, so it is answered exactly as before.

        A new query can hold one old query only: where it answers for several labels that had different ones, those of
        the first keep their weights and the others start afresh.
        """
        own = self.state_dict()
        shared = [name for name in own if name not in ("queries_QD", "group_weight_QDG", "bias_C")]
        if not all(name in old_state and old_state[name].shape == own[name].shape for name in shared):
            return []
        weight_old, queries_old, bias_old = (old_state[n] for n in ("group_weight_QDG", "queries_QD", "bias_C"))
        group_old, group_new = weight_old.shape[2], self.labels_per_query
        query_kept: dict[int, int] = {}
        carried = []
        with torch.no_grad():
            for name in shared:
                own[name].copy_(old_state[name])
            for old, new in sorted(pairs, key=lambda pair: pair[1]):
                i, i_old = new // group_new, old // group_old
                if query_kept.setdefault(i, i_old) != i_old:
                    continue
                self.queries_QD[i].copy_(queries_old[i_old])
                self.group_weight_QDG[i, :, new % group_new].copy_(weight_old[i_old, :, old % group_old])
                self.bias_C[new].copy_(bias_old[old])
                carried.append(new)
        return carried


class CrossAttentionLayer(nn.Module):
    """Post-norm decoder layer without self-attention: (B, Q, D) looks at (B, T, D)."""

    def __init__(self, dim: int, num_heads: int, ffn_dim: int, dropout: float) -> None:
        super().__init__()
        self.norm1, self.norm2, self.norm3 = nn.LayerNorm(dim), nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = nn.MultiheadAttention(dim, num_heads, dropout=dropout, batch_first=True)
        self.ffn_in, self.ffn_out = nn.Linear(dim, ffn_dim), nn.Linear(ffn_dim, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, queries_BQD: Tensor, memory_BTD: Tensor) -> Tensor:
        # In place of self-attention the authors add a query to its own dropout; kept, so that weights stay compatible.
        t = self.norm1(queries_BQD + self.dropout(queries_BQD))
        t = self.norm2(t + self.dropout(self.attention(t, memory_BTD, memory_BTD, need_weights=False)[0]))
        return self.norm3(t + self.dropout(self.ffn_out(self.dropout(F.relu(self.ffn_in(t))))))
