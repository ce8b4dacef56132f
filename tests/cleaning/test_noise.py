"""noise.py: planted flips are measured, ranked and blamed on the right cells; unknown cells never are."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from tasks.cleaning.noise import (
    Curve,
    FlipRates,
    NoiseModel,
    error_probability,
    fit_noise,
    rows_to_fit,
    self_confidence,
)

HIDDEN, INVENTED = 0.25, 0.02


def planted(seed: int = 0, num_images: int = 3000, num_labels: int = 6, strength: float = 3.0):
    """True labels, annotations with flips, and two opinions that are independent given the truth."""
    rng = np.random.default_rng(seed)
    true_NC = (rng.random((num_images, num_labels)) < 0.15).astype(np.uint8)
    scores_NC = expit(strength * (2.0 * true_NC - 1) + rng.normal(0, 1.5, true_NC.shape))
    votes_NC = np.where(rng.random(true_NC.shape) < 0.9, true_NC, 1 - true_NC).astype(float)
    flip_NC = rng.random(true_NC.shape) < np.where(true_NC == 1, HIDDEN, INVENTED)
    return true_NC, np.where(flip_NC, 1 - true_NC, true_NC).astype(np.uint8), [scores_NC, votes_NC]


def everything_known(targets_NC: np.ndarray) -> np.ndarray:
    return np.ones(targets_NC.shape, bool)


def wrong(opinions: list[np.ndarray], given_NC: np.ndarray, known_NC: np.ndarray) -> np.ndarray:
    model = fit_noise(opinions, given_NC, known_NC)
    return error_probability(model.present(opinions, given_NC, known_NC), given_NC, known_NC)


def test_the_annotators_error_rates_are_measured_without_the_truth():
    _, given_NC, opinions = planted()
    rates = fit_noise(opinions, given_NC, everything_known(given_NC)).rates
    assert rates.hidden == pytest.approx(HIDDEN, abs=0.05)
    assert rates.invented == pytest.approx(INVENTED, abs=0.01)


def test_few_images_do_not_silence_the_policy_by_chance():
    """Some fifty anchors: a third of the positives hidden often looks like half."""
    for seed in range(12):
        rng = np.random.default_rng([seed, 1])
        true_NC, _, opinions = planted(seed, num_images=600)
        flip_NC = rng.random(true_NC.shape) < np.where(true_NC == 1, 0.35, INVENTED)
        given_NC = np.where(flip_NC, 1 - true_NC, true_NC).astype(np.uint8)
        assert 0.2 < fit_noise(opinions, given_NC, everything_known(given_NC)).rates.hidden <= 0.4


def test_clean_annotations_are_hardly_accused():
    true_NC, _, opinions = planted()
    assert (wrong(opinions, true_NC, everything_known(true_NC)) > 0.5).mean() < 0.002


def test_most_planted_errors_are_found_in_as_many_verdicts_as_there_are_errors():
    true_NC, given_NC, opinions = planted()
    errors = (true_NC != given_NC).ravel()
    first = np.argsort(-wrong(opinions, given_NC, everything_known(given_NC)).ravel(), kind="stable")[: errors.sum()]
    assert errors[first].mean() > 0.9


def test_an_origin_that_speaks_only_where_nothing_is_annotated_changes_nothing():
    _, given_NC, opinions = planted(num_images=600)
    known_NC = everything_known(given_NC)
    known_NC[:100] = False
    keyword_NC = np.full(given_NC.shape, np.nan)
    keyword_NC[:100, 0] = 1.0
    alone, beside = (
        fit_noise(o, given_NC, known_NC).present(o, given_NC, known_NC) for o in (opinions, [*opinions, keyword_NC])
    )
    np.testing.assert_allclose(beside, alone, atol=1e-6)


def test_two_opinions_find_more_than_each_alone():
    true_NC, given_NC, opinions = planted(strength=1.5)
    errors, known_NC = (true_NC != given_NC).ravel(), everything_known(given_NC)

    def found(used: list[np.ndarray]) -> float:
        first = np.argsort(-wrong(used, given_NC, known_NC).ravel(), kind="stable")[: errors.sum()]
        return errors[first].mean()

    assert found(opinions) > max(found(opinions[:1]), found(opinions[1:])) + 0.05


def test_probabilities_mean_roughly_what_they_say():
    true_NC, given_NC, opinions = planted(num_images=8000)
    wrong_NC = wrong(opinions, given_NC, everything_known(given_NC))
    errors = true_NC != given_NC
    for low, high in ((0.02, 0.2), (0.2, 0.5), (0.5, 0.8), (0.8, 0.97)):
        inside = (wrong_NC >= low) & (wrong_NC < high)
        assert errors[inside].mean() == pytest.approx(wrong_NC[inside].mean(), abs=0.15), (low, high)


def test_unknown_cells_are_never_errors_and_teach_nothing():
    _, given_NC, opinions = planted()
    known_NC = np.random.default_rng(1).random(given_NC.shape) < 0.7
    turned = np.where(known_NC, given_NC, 1 - given_NC).astype(np.uint8)  # what stands under an unknown cell
    first, second = (wrong(opinions, targets, known_NC) for targets in (given_NC, turned))
    assert (first[~known_NC] == 0).all()
    np.testing.assert_array_equal(first, second)


def test_an_annotation_about_which_nobody_has_an_opinion_is_believed():
    _, given_NC, opinions = planted()
    for scores_NC in opinions:
        scores_NC[:100] = np.nan
    assert (wrong(opinions, given_NC, everything_known(given_NC))[:100] == 0).all()


@pytest.mark.parametrize("opinions", [[], [np.full((4, 2), np.nan)]])
def test_without_opinions_nothing_is_accused(opinions):
    given_NC = np.array([[1, 0], [0, 1], [1, 1], [0, 0]], np.uint8)
    assert (wrong(opinions, given_NC, everything_known(given_NC)) == 0).all()


def test_a_source_that_is_silent_on_half_of_the_images_still_helps():
    true_NC, given_NC, opinions = planted(strength=1.0)
    errors, known_NC = (true_NC != given_NC).ravel(), everything_known(given_NC)
    half = opinions[1].copy()
    half[::2] = np.nan
    alone, helped = (wrong(used, given_NC, known_NC).ravel() for used in (opinions[:1], [opinions[0], half]))
    found = [errors[np.argsort(-rank, kind="stable")[: errors.sum()]].mean() for rank in (alone, helped)]
    assert found[1] > found[0]


def test_a_rare_label_that_a_model_scores_low_keeps_its_positives():
    true_NC, given_NC, (scores_NC, _) = planted()
    scores_NC[:, 0] *= 0.3  # the model has seen few of them: never above 0.3, but in the right order
    wrong_NC = wrong([scores_NC], given_NC, everything_known(given_NC))
    right = (given_NC[:, 0] == 1) & (true_NC[:, 0] == 1)
    assert (wrong_NC[right, 0] > 0.6).mean() < 0.05


@pytest.mark.parametrize("num_images", [300, 3000])
def test_opinions_that_know_nothing_change_nothing(num_images):
    given_NC = (np.random.default_rng(2).random((num_images, 6)) < 0.15).astype(np.uint8)
    noise_NC = np.random.default_rng(3).random(given_NC.shape)
    assert (wrong([noise_NC], given_NC, everything_known(given_NC)) > 0.6).mean() < 0.001


def test_the_model_of_some_images_applies_to_others():
    _, given_NC, opinions = planted()
    known_NC = everything_known(given_NC)
    model = fit_noise(opinions, given_NC, known_NC)
    whole = model.present(opinions, given_NC, known_NC)
    part = model.present([o[500:900] for o in opinions], given_NC[500:900], known_NC[500:900])
    np.testing.assert_array_equal(whole[500:900], part)


def test_few_images_are_all_needed():
    assert rows_to_fit(5, 600).tolist() == [0, 1, 2, 3, 4]
    assert rows_to_fit(0, 600).tolist() == []


def test_of_many_images_some_tell_enough(monkeypatch):
    _, given_NC, opinions = planted(num_images=6000)
    monkeypatch.setattr("tasks.cleaning.noise.MOST_CELLS", 12_000)
    some = rows_to_fit(*given_NC.shape)
    assert (len(some), some[0], some[-1]) == (2000, 0, 5999)
    rates = fit_noise([o[some] for o in opinions], given_NC[some], everything_known(given_NC[some])).rates
    assert rates.hidden == pytest.approx(HIDDEN, abs=0.1)


def test_the_annotation_is_weighed_by_its_error_rates():
    # One opinion, silent in effect (evidence 0): odds 1 * (1 - .25) / .05 = 15 if annotated, .25 / .95 if not.
    model = NoiseModel(
        (Curve(np.zeros(1), np.zeros(1), silence_tells=False),), np.zeros(3), np.zeros((2, 3)), FlipRates(0.25, 0.05)
    )
    known_NC, given_NC = np.array([[True, True], [False, True]]), np.array([[1, 0], [1, 1]], np.uint8)
    present_NC = model.present([np.zeros((2, 2))], given_NC, known_NC)
    np.testing.assert_allclose(present_NC, [[15 / 16, 0.25 / 1.2], [0.5, 15 / 16]])


def test_self_confidence_is_cleanlab_s_score_of_each_label():
    rank = pytest.importorskip("cleanlab.multilabel_classification.rank")
    scores_NC = np.random.default_rng(0).random((50, 3))
    given_NC = (np.random.default_rng(1).random((50, 3)) < 0.4).astype(np.uint8)
    lists = [np.flatnonzero(row).tolist() for row in given_NC]
    theirs = rank.get_label_quality_scores_per_class(lists, scores_NC)
    np.testing.assert_allclose(self_confidence(scores_NC, given_NC, everything_known(given_NC)), theirs)


def test_self_confidence_accuses_neither_unknown_cells_nor_where_the_model_is_silent():
    scores_NC, given_NC = np.array([[0.1, np.nan, 0.2]]), np.array([[1, 1, 1]], np.uint8)
    np.testing.assert_array_equal(
        self_confidence(scores_NC, given_NC, np.array([[True, True, False]])), [[0.1, 1.0, 1.0]]
    )
