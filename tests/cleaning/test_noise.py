"""noise.py: planted errors are measured, ranked and found at the right pairs; unknown pairs never are errors."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from tasks.cleaning.noise import Calibrator, NoiseModel, error_probability, fit_noise, rows_to_fit
from tasks.cleaning.rates import AnnotationRates
from tasks.cleaning.self_confidence import self_confidence

FALSE_NEGATIVE, FALSE_POSITIVE = 0.25, 0.02


def planted(seed: int = 0, num_images: int = 3000, num_labels: int = 6, strength: float = 3.0):
    """True labels, annotations with errors, and two sources that are independent given the truth."""
    rng = np.random.default_rng(seed)
    true_NC = (rng.random((num_images, num_labels)) < 0.15).astype(np.uint8)
    scores_NC = expit(strength * (2.0 * true_NC - 1) + rng.normal(0, 1.5, true_NC.shape))
    votes_NC = np.where(rng.random(true_NC.shape) < 0.9, true_NC, 1 - true_NC).astype(float)
    flip_NC = rng.random(true_NC.shape) < np.where(true_NC == 1, FALSE_NEGATIVE, FALSE_POSITIVE)
    return true_NC, np.where(flip_NC, 1 - true_NC, true_NC).astype(np.uint8), [scores_NC, votes_NC]


def everything_known(targets_NC: np.ndarray) -> np.ndarray:
    return np.ones(targets_NC.shape, bool)


def wrong(source_scores: list[np.ndarray], labels_NC: np.ndarray, known_NC: np.ndarray) -> np.ndarray:
    model = fit_noise(source_scores, labels_NC, known_NC)
    return error_probability(model.p_present(source_scores, labels_NC, known_NC), labels_NC, known_NC)


def test_the_annotators_error_rates_are_measured_without_the_truth():
    _, labels_NC, source_scores = planted()
    rates = fit_noise(source_scores, labels_NC, everything_known(labels_NC)).rates
    np.testing.assert_allclose(rates.false_negative, FALSE_NEGATIVE, atol=0.05)
    np.testing.assert_allclose(rates.false_positive, FALSE_POSITIVE, atol=0.01)


def test_few_images_do_not_stop_the_policy_by_chance():
    """Some fifty anchors: a third of the positives not annotated often looks like half."""
    for seed in range(12):
        rng = np.random.default_rng([seed, 1])
        true_NC, _, source_scores = planted(seed, num_images=600)
        flip_NC = rng.random(true_NC.shape) < np.where(true_NC == 1, 0.35, FALSE_POSITIVE)
        labels_NC = np.where(flip_NC, 1 - true_NC, true_NC).astype(np.uint8)
        model = fit_noise(source_scores, labels_NC, everything_known(labels_NC))
        assert not model.weak
        assert 0.2 < model.rates.false_negative.mean() < 0.5


def test_clean_annotations_are_hardly_accused():
    true_NC, _, source_scores = planted()
    assert (wrong(source_scores, true_NC, everything_known(true_NC)) > 0.5).mean() < 0.002


def test_most_planted_errors_are_found_in_as_many_verdicts_as_there_are_errors():
    true_NC, labels_NC, source_scores = planted()
    errors = (true_NC != labels_NC).ravel()
    first = np.argsort(-wrong(source_scores, labels_NC, everything_known(labels_NC)).ravel(), kind="stable")[
        : errors.sum()
    ]
    assert errors[first].mean() > 0.9


def test_a_source_with_scores_only_where_nothing_is_annotated_changes_nothing():
    _, labels_NC, source_scores = planted(num_images=600)
    known_NC = everything_known(labels_NC)
    known_NC[:100] = False
    keyword_NC = np.full(labels_NC.shape, np.nan)
    keyword_NC[:100, 0] = 1.0
    alone, beside = (
        fit_noise(o, labels_NC, known_NC).p_present(o, labels_NC, known_NC)
        for o in (source_scores, [*source_scores, keyword_NC])
    )
    np.testing.assert_allclose(beside, alone, atol=1e-6)


def test_two_sources_find_more_than_each_alone():
    true_NC, labels_NC, source_scores = planted(strength=1.5)
    errors, known_NC = (true_NC != labels_NC).ravel(), everything_known(labels_NC)

    def recall(used: list[np.ndarray]) -> float:
        first = np.argsort(-wrong(used, labels_NC, known_NC).ravel(), kind="stable")[: errors.sum()]
        return errors[first].mean()

    assert recall(source_scores) > max(recall(source_scores[:1]), recall(source_scores[1:])) + 0.05


def test_probabilities_mean_roughly_what_they_say():
    true_NC, labels_NC, source_scores = planted(num_images=8000)
    wrong_NC = wrong(source_scores, labels_NC, everything_known(labels_NC))
    errors = true_NC != labels_NC
    for low, high in ((0.02, 0.2), (0.2, 0.5), (0.5, 0.8), (0.8, 0.97)):
        inside = (wrong_NC >= low) & (wrong_NC < high)
        assert errors[inside].mean() == pytest.approx(wrong_NC[inside].mean(), abs=0.15), (low, high)


def test_unknown_pairs_are_never_errors_and_teach_nothing():
    _, labels_NC, source_scores = planted()
    known_NC = np.random.default_rng(1).random(labels_NC.shape) < 0.7
    turned = np.where(known_NC, labels_NC, 1 - labels_NC).astype(np.uint8)  # what stands under an unknown pair
    first, second = (wrong(source_scores, targets, known_NC) for targets in (labels_NC, turned))
    assert (first[~known_NC] == 0).all()
    np.testing.assert_array_equal(first, second)


def test_an_annotation_that_no_source_has_a_score_for_is_believed():
    _, labels_NC, source_scores = planted()
    for scores_NC in source_scores:
        scores_NC[:100] = np.nan
    assert (wrong(source_scores, labels_NC, everything_known(labels_NC))[:100] == 0).all()


@pytest.mark.parametrize("source_scores", [[], [np.full((4, 2), np.nan)]])
def test_without_source_scores_nothing_is_accused(source_scores):
    labels_NC = np.array([[1, 0], [0, 1], [1, 1], [0, 0]], np.uint8)
    assert (wrong(source_scores, labels_NC, everything_known(labels_NC)) == 0).all()


def test_a_source_that_abstains_on_half_of_the_images_still_helps():
    true_NC, labels_NC, source_scores = planted(strength=1.0)
    errors, known_NC = (true_NC != labels_NC).ravel(), everything_known(labels_NC)
    half = source_scores[1].copy()
    half[::2] = np.nan
    alone, helped = (wrong(used, labels_NC, known_NC).ravel() for used in (source_scores[:1], [source_scores[0], half]))
    shares = [errors[np.argsort(-rank, kind="stable")[: errors.sum()]].mean() for rank in (alone, helped)]
    assert shares[1] > shares[0]


def test_a_rare_label_that_a_model_scores_low_keeps_its_positives():
    true_NC, labels_NC, (scores_NC, _) = planted()
    scores_NC[:, 0] *= 0.3  # the model has seen few of them: never above 0.3, but in the right order
    wrong_NC = wrong([scores_NC], labels_NC, everything_known(labels_NC))
    right = (labels_NC[:, 0] == 1) & (true_NC[:, 0] == 1)
    assert (wrong_NC[right, 0] > 0.6).mean() < 0.05


@pytest.mark.parametrize("num_images", [300, 3000])
def test_sources_that_know_nothing_change_nothing(num_images):
    labels_NC = (np.random.default_rng(2).random((num_images, 6)) < 0.15).astype(np.uint8)
    noise_NC = np.random.default_rng(3).random(labels_NC.shape)
    assert (wrong([noise_NC], labels_NC, everything_known(labels_NC)) > 0.6).mean() < 0.005
    assert fit_noise([noise_NC], labels_NC, everything_known(labels_NC)).weak


def test_the_model_of_some_images_applies_to_others():
    _, labels_NC, source_scores = planted()
    known_NC = everything_known(labels_NC)
    model = fit_noise(source_scores, labels_NC, known_NC)
    together = model.p_present(source_scores, labels_NC, known_NC)
    part = model.p_present([o[500:900] for o in source_scores], labels_NC[500:900], known_NC[500:900])
    np.testing.assert_array_equal(together[500:900], part)


def test_few_images_are_all_needed():
    assert rows_to_fit(5, 600).tolist() == [0, 1, 2, 3, 4]
    assert rows_to_fit(0, 600).tolist() == []


def test_of_many_images_some_tell_enough(monkeypatch):
    _, labels_NC, source_scores = planted(num_images=6000)
    monkeypatch.setattr("tasks.cleaning.noise.MOST_ENTRIES", 12_000)
    some = rows_to_fit(*labels_NC.shape)
    assert (len(some), some[0], some[-1]) == (2000, 0, 5999)
    rates = fit_noise([o[some] for o in source_scores], labels_NC[some], everything_known(labels_NC[some])).rates
    np.testing.assert_allclose(rates.false_negative, FALSE_NEGATIVE, atol=0.1)


def test_the_annotation_is_weighed_by_its_error_rates():
    # One source without evidence: odds 1 * (1 - .25) / .05 = 15 if annotated, .25 / .95 if not.
    model = NoiseModel(
        (Calibrator(np.zeros(1), np.zeros(1), abstention_informative=False),),
        np.zeros(3),
        np.zeros((2, 3)),
        AnnotationRates(0.25, 0.05),
    )
    known_NC, labels_NC = np.array([[True, True], [False, True]]), np.array([[1, 0], [1, 1]], np.uint8)
    present_NC = model.p_present([np.zeros((2, 2))], labels_NC, known_NC)
    np.testing.assert_allclose(present_NC, [[15 / 16, 0.25 / 1.2], [0.5, 15 / 16]])


def test_self_confidence_is_cleanlab_s_score_of_each_label():
    rank = pytest.importorskip("cleanlab.multilabel_classification.rank")
    scores_NC = np.random.default_rng(0).random((50, 3))
    labels_NC = (np.random.default_rng(1).random((50, 3)) < 0.4).astype(np.uint8)
    lists = [np.flatnonzero(row).tolist() for row in labels_NC]
    theirs = rank.get_label_quality_scores_per_class(lists, scores_NC)
    np.testing.assert_allclose(self_confidence(scores_NC, labels_NC, everything_known(labels_NC)), theirs)


def test_self_confidence_accuses_neither_unknown_pairs_nor_where_the_model_abstains():
    scores_NC, labels_NC = np.array([[0.1, np.nan, 0.2]]), np.array([[1, 1, 1]], np.uint8)
    np.testing.assert_array_equal(
        self_confidence(scores_NC, labels_NC, np.array([[True, True, False]])), [[0.1, 1.0, 1.0]]
    )
