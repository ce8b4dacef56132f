"""Planted errors in real annotations, found through a real detector and a real vision-language model.

Bounds lie a little below what docs/cleaning.md reports for the mean of five seeds.
"""

from __future__ import annotations

import numpy as np
import pytest

from tests.benchmarks import cleaning as bench


@pytest.fixture(scope="module")
def real(real_data) -> bench.RealScores:
    return bench.read_scores(real_data / "predictions")


@pytest.fixture(scope="module")
def given_NC(real) -> np.ndarray:
    return bench.plant(real.true_NC, seed=0)


def recall_by_budget(ranking, real: bench.RealScores, given_NC: np.ndarray) -> dict[float, float]:
    errors_NC = (given_NC != real.true_NC) & real.known_NC
    return dict(zip(bench.BUDGETS, bench.curve(ranking(real, given_NC), errors_NC, real.known_NC), strict=True))


def test_the_protocol_is_the_stated_one(real, given_NC):
    errors_NC = (given_NC != real.true_NC) & real.known_NC
    assert real.true_NC.shape == (2000, 20)
    assert errors_NC[real.true_NC == 1].mean() == pytest.approx(0.3, abs=0.03)
    assert errors_NC[real.true_NC == 0].mean() == pytest.approx(0.02, abs=0.002)
    assert not given_NC[~real.known_NC].any()


def test_consensus_finds_more_than_each_source_and_their_mean(real, given_NC):
    ours = recall_by_budget(bench.by_consensus, real, given_NC)
    assert ours[1.0] > 0.905
    assert ours[1.25] > 0.96
    for other in (
        bench.by_distance("detector_NC"),
        bench.by_distance("vendor_NC"),
        bench.by_distance("detector_NC", "vendor_NC"),
        bench.by_cleanlab,
    ):
        assert ours[0.5] > recall_by_budget(other, real, given_NC)[0.5]
        assert ours[1.25] > recall_by_budget(other, real, given_NC)[1.25]


def test_automatic_changes_are_right_and_many(real, given_NC):
    errors_NC = (given_NC != real.true_NC) & real.known_NC
    changed_NC = bench.by_consensus(real, given_NC) >= 0.6
    assert errors_NC[changed_NC].mean() > 0.93
    assert changed_NC[errors_NC].mean() > 0.8


def test_expected_errors_are_near_the_true_ones(real, given_NC):
    errors_NC = (given_NC != real.true_NC) & real.known_NC
    assert bench.by_consensus(real, given_NC).sum() == pytest.approx(errors_NC.sum(), rel=0.15)


def test_annotations_without_planted_errors_are_left_alone(real):
    clean_NC = real.true_NC.clip(0).astype(np.uint8)
    assert (bench.by_consensus(real, clean_NC) >= 0.6).sum() < 0.01 * clean_NC.sum()


def test_difficult_objects_are_never_accused(real, given_NC):
    assert not bench.by_consensus(real, given_NC)[~real.known_NC].any()
