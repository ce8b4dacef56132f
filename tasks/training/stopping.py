"""When to stop: after each epoch the best validation score of raw and EMA weights goes in, True means stop.

The fields of a rule are plain numbers, all it remembers: `asdict(rule)` goes into a checkpoint, `type(rule)(**numbers)`
comes out of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass
class Never:
    """Train all epochs."""

    patience: int = 0

    def observe(self, score: float, *, rising: bool = False) -> bool:
        return False


@dataclass
class TrailingBar:
    """The rule of Prokofiev & Sovrasov's released engine: the bar trails the accepted scores.

    The score is rounded to 4 decimals. A score within 1e-4 of 1 stops at once. A score above the bar moves it to
    0.8 * score + 0.2 * bar and clears the count; otherwise, unless the learning rate is still rising, the count grows,
    and `patience` of them stop the run. The bar starts at 0 and lies below the true best.
    """

    patience: int = 5
    bar: float = 0.0
    count: int = 0

    def observe(self, score: float, *, rising: bool = False) -> bool:
        """score: validation mAP in [0, 1]; NaN counts as no progress.  rising: the schedule's warm-up is not over."""
        score = round(score, 4)
        if math.isclose(score, 1.0, abs_tol=1e-4):
            return True
        if score > self.bar:
            self.bar = 0.8 * score + 0.2 * self.bar
            self.count = 0
        elif not rising:
            self.count += 1
        return self.count >= self.patience


@dataclass
class LazyPatience:
    """The rule of OTX's lazy early stopping: a new best must beat the old by a share of itself.

    Epochs before the third are not looked at. score * (1 - 0.01) > best makes a new best and clears the count;
    otherwise the count grows, and `patience` of them stop the run. OTX also skips epochs of the linear warm-up, which
    is one iteration there.
    """

    patience: int = 3
    best: float = -math.inf
    count: int = 0
    epoch: int = 0

    start = 3  # epoch, counted from 1
    min_delta_ratio = 0.01

    def observe(self, score: float, *, rising: bool = False) -> bool:
        """score: validation mAP in [0, 1]; NaN counts as no progress.  rising: not used by this rule."""
        self.epoch += 1
        if self.epoch < self.start:
            return False
        if score * (1 - self.min_delta_ratio) > self.best:
            self.best = score
            self.count = 0
        else:
            self.count += 1
        return self.count >= self.patience


StoppingRule = Never | TrailingBar | LazyPatience
