"""Operating points made by hand, and the real detector's scores."""

from __future__ import annotations

import numpy as np
import pytest

from tasks.evaluation.external_scores import AlignedScores
from tasks.metrics.ranking import OperatingPoints, rank, rank_pooled
from tests.benchmarks.thresholds import read_detector


def cuts_of(scores, targets, known=None) -> tuple[OperatingPoints, OperatingPoints]:
    """Operating points of each label and of all together, from columns."""
    scores = np.array(scores, np.float32).reshape(len(scores), -1)
    targets = np.array(targets, np.uint8).reshape(scores.shape)
    known = np.ones(scores.shape, bool) if known is None else np.array(known, bool).reshape(scores.shape)
    return rank(scores, targets, known).points, rank_pooled(scores, targets, known).points


@pytest.fixture(scope="session")
def detector(real_data) -> AlignedScores:
    """4,952 images x 20 labels; objects marked difficult are unknown."""
    return read_detector(real_data / "predictions")
