"""The probability calibration of thresholds.json inside the graph, and in numpy for the proof of parity.

A map is {"slope", "intercept"} on the logit, {"scores", "probabilities"} knots of straight lines, or None: the label's
scores stay. Axes: B images, C labels, K pieces.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

SMALLEST = 1e-6
"""Scores are kept this far from 0 and 1 before their logit is taken; as in
tasks/thresholds/probability_calibration.py."""

Maps = Sequence[Mapping | None]


class Calibrated(nn.Module):
    """float32 scores (B, C) -> probabilities (B, C)."""

    def __init__(self, maps: Maps) -> None:
        super().__init__()
        logistic = [one_map if one_map and "slope" in one_map else None for one_map in maps]
        stepped = [one_map if one_map and "scores" in one_map else None for one_map in maps]
        self.register_buffer("logistic_C", torch.tensor([one_map is not None for one_map in logistic]))
        self.register_buffer("slope_C", torch.tensor([m["slope"] if m else 1.0 for m in logistic]))
        self.register_buffer("intercept_C", torch.tensor([m["intercept"] if m else 0.0 for m in logistic]))
        self.register_buffer("stepped_C", torch.tensor([one_map is not None for one_map in stepped]))
        start_CK, width_CK, rise_CK, lowest_C = _pieces(stepped)
        self.register_buffer("start_CK", torch.from_numpy(start_CK))
        self.register_buffer("width_CK", torch.from_numpy(width_CK))
        self.register_buffer("rise_CK", torch.from_numpy(rise_CK))
        self.register_buffer("lowest_C", torch.from_numpy(lowest_C))
        self.any_logistic, self.any_stepped = any(logistic), any(stepped)

    def forward(self, scores_BC: Tensor) -> Tensor:
        out_BC = scores_BC
        if self.any_logistic:
            clipped_BC = scores_BC.clamp(SMALLEST, 1 - SMALLEST)
            logits_BC = torch.log(clipped_BC) - torch.log1p(-clipped_BC)
            out_BC = torch.where(self.logistic_C, torch.sigmoid(self.slope_C * logits_BC + self.intercept_C), out_BC)
        if self.any_stepped:
            travelled_BCK = ((scores_BC.unsqueeze(2) - self.start_CK) / self.width_CK).clamp(0, 1)
            out_BC = torch.where(self.stepped_C, self.lowest_C + (self.rise_CK * travelled_BCK).sum(2), out_BC)
        return out_BC


def _pieces(maps: Maps) -> tuple[np.ndarray, ...]:
    """Start, width and rise of each straight piece, float32 (C, K), and where the first begins, (C,); padded flat."""
    most = max([len(m["scores"]) - 1 for m in maps if m] + [1])
    start_CK = np.zeros((len(maps), most), np.float32)
    width_CK, rise_CK, lowest_C = np.ones_like(start_CK), np.zeros_like(start_CK), np.zeros(len(maps), np.float32)
    for c, one_map in enumerate(maps):
        if one_map:
            x, y = np.asarray(one_map["scores"], np.float32), np.asarray(one_map["probabilities"])
            num = len(x) - 1
            start_CK[c, :num], rise_CK[c, :num], lowest_C[c] = x[:-1], np.diff(y), y[0]
            width_CK[c, :num] = np.maximum(np.diff(x), np.finfo(np.float32).tiny)
    return start_CK, width_CK, rise_CK, lowest_C


def calibrated(scores_BC: np.ndarray, maps: Maps) -> np.ndarray:
    """What `Calibrated` should give, float64 arithmetic; `maps` may be empty."""
    out_BC = scores_BC.copy()
    for c, one_map in enumerate(maps):
        if one_map and "slope" in one_map:
            p = np.clip(scores_BC[:, c].astype(np.float64), SMALLEST, 1 - SMALLEST)
            out_BC[:, c] = 1 / (1 + np.exp(-(one_map["slope"] * np.log(p / (1 - p)) + one_map["intercept"])))
        elif one_map:
            out_BC[:, c] = np.interp(scores_BC[:, c], one_map["scores"], one_map["probabilities"])
    return out_BC
