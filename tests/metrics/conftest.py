"""The real detector's scores on VOC 2007 test, as matrices."""

from __future__ import annotations

import pytest

from tasks.evaluation.external_scores import AlignedScores, align_scores, read_long_labels, read_long_scores


@pytest.fixture(scope="session")
def detector(real_data) -> AlignedScores:
    """4,952 images x 20 labels; objects marked difficult are unknown."""
    folder = real_data / "predictions"
    return align_scores(
        read_long_scores(folder / "voc2007_test_detector_a.parquet"),
        read_long_labels(folder / "voc2007_test_labels.parquet"),
        absent_if_missing=False,
    )
