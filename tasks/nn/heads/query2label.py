"""Query2Label: one learned query a label, a transformer with positions."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from tasks.nn.heads.base import Head, full_precision, unit, unit_normal


class Query2Label(Head):
    """1x1 projection, an encoder layer over the positions, two decoder layers without self-attention, a vector a label.

    hidden_dim: width, a multiple of 4 and of num_heads; 0 for that of the backbone.  ffn_dim: inner width of the
    feed-forward blocks; 0 for hidden_dim.  keep_projection: project even where widths agree, as the published costs
    imply.  dropout: [0, 1).
    angular: cosine between each label's output and its vector instead of their dot product plus a bias. (The published
        angular form flattens labels and features and cannot run; this is what it means.)
    Source: Liu et al., 2021, "Query2Label"; widths and PReLU as in the code of Prokofiev & Sovrasov.
    """

    def __init__(
        self,
        num_features: int,
        num_labels: int,
        *,
        hidden_dim: int = 0,
        num_heads: int = 4,
        ffn_dim: int = 0,
        keep_projection: bool = True,
        dropout: float = 0.1,
        angular: bool = False,
    ) -> None:
        super().__init__()
        dim = hidden_dim or num_features
        if dim % 4 or dim % num_heads:
            raise ValueError(f"hidden_dim {dim} must be a multiple of 4 and of num_heads ({num_heads})")
        self.angular = angular
        keep = keep_projection or dim != num_features
        self.projection = nn.Conv2d(num_features, dim, 1) if keep else nn.Identity()
        self.encoder = _Layer(dim, num_heads, ffn_dim or dim, dropout)
        self.decoder = nn.ModuleList(_Layer(dim, num_heads, ffn_dim or dim, dropout) for _ in range(2))
        self.norm = nn.LayerNorm(dim)
        for module in (self.encoder, self.decoder):
            for parameter in module.parameters():
                if parameter.ndim > 1:
                    nn.init.xavier_uniform_(parameter)
        self.queries_CD = nn.Parameter(torch.randn(num_labels, dim))
        if angular:
            self.weight_CD = nn.Parameter(unit_normal(num_labels, dim))
            self.label_axes = {"queries_CD": 0, "weight_CD": 0}
        else:
            bound = dim**-0.5
            self.weight_CD = nn.Parameter(torch.empty(num_labels, dim).uniform_(-bound, bound))
            self.bias_C = nn.Parameter(torch.empty(num_labels).uniform_(-bound, bound))
            self.label_axes = {"queries_CD": 0, "weight_CD": 0, "bias_C": 0}

    def forward(self, features_BFHW: Tensor) -> Tensor:
        projected_BDHW = self.projection(features_BFHW)
        memory_BTD = projected_BDHW.flatten(2).transpose(1, 2)
        position_TD = sine_position(*projected_BDHW.shape[2:], memory_BTD.shape[2], like=memory_BTD)
        placed_BTD = memory_BTD + position_TD
        memory_BTD = self.encoder(memory_BTD, query=placed_BTD, key=placed_BTD, value=memory_BTD)
        placed_BTD = memory_BTD + position_TD
        queries_BCD = self.queries_CD.to(memory_BTD.dtype).expand(memory_BTD.shape[0], -1, -1)
        labels_BCD = torch.zeros_like(queries_BCD)
        for layer in self.decoder:
            labels_BCD = layer(labels_BCD, query=labels_BCD + queries_BCD, key=placed_BTD, value=memory_BTD)
        labels_BCD = self.norm(labels_BCD)
        if not self.angular:
            return (labels_BCD * self.weight_CD).sum(-1) + self.bias_C
        with full_precision(labels_BCD):
            return (unit(labels_BCD, -1) * unit(self.weight_CD, -1)).sum(-1).clamp(-1, 1)


class _Layer(nn.Module):
    """Attention and feed-forward, each added to its input and normalised afterwards."""

    def __init__(self, dim: int, num_heads: int, ffn_dim: int, dropout: float) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(dim, num_heads, dropout=dropout, batch_first=True)
        self.ffn_in, self.ffn_out = nn.Linear(dim, ffn_dim), nn.Linear(ffn_dim, dim)
        self.activation = nn.PReLU()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, t: Tensor, *, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        t = self.norm1(t + self.dropout(self.attention(query, key, value, need_weights=False)[0]))
        return self.norm2(t + self.dropout(self.ffn_out(self.dropout(self.activation(self.ffn_in(t))))))


def sine_position(height: int, width: int, dim: int, *, like: Tensor) -> Tensor:
    """Sine code of each position's row and column, (height * width, dim): dim / 2 entries an axis, temperature 10000.

    Positions run over (0, 2 pi]. like: gives dtype and device. Source: Carion et al., ECCV 2020 (DETR).
    """
    half = dim // 2
    index = torch.arange(half, device=like.device, dtype=torch.float32)
    period = torch.exp(torch.floor(index / 2) * (2 / half) * math.log(10000.0))

    def axis(length: int) -> Tensor:
        angle = torch.arange(1, length + 1, device=like.device, dtype=torch.float32) / length * (2 * math.pi)
        angle_LD = angle[:, None] / period
        return torch.stack([angle_LD[:, 0::2].sin(), angle_LD[:, 1::2].cos()], dim=2).flatten(1)

    rows = axis(height)[:, None].expand(-1, width, -1)
    columns = axis(width)[None].expand(height, -1, -1)
    return torch.cat([rows, columns], dim=2).flatten(0, 1).to(like.dtype)
