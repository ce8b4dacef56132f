"""slips.py: names given in place of others are seen as pairs, and only where the annotators confuse them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, softmax

from tasks.cleaning.base import TO_ABSENT, TO_PRESENT, TO_UNKNOWN
from tasks.cleaning.consensus import Consensus
from tasks.cleaning.noise import error_probability, fit_noise
from tasks.cleaning.rates import AnnotationRates
from tasks.cleaning.slips import Slips
from tests.cleaning.test_noise import planted
from tests.cleaning.test_policies import scores_of


def slipped(share: float, seed: int = 0):
    """True labels, annotations of which `share` of the positives bear the next label's name, and two sources."""
    true_NC, _, sources = planted(seed, num_labels=6)
    rng, given_NC = np.random.default_rng([seed, 1]), true_NC.copy()
    for c in range(6):
        after = (c + 1) % 6
        moved_N = (true_NC[:, c] == 1) & (true_NC[:, after] == 0) & (rng.random(len(true_NC)) < share)
        given_NC[moved_N, c], given_NC[moved_N, after] = 0, 1
    return true_NC, given_NC, sources


def everything_known(labels_NC: np.ndarray) -> np.ndarray:
    return np.ones(labels_NC.shape, bool)


def test_the_share_of_slips_and_what_is_named_instead_are_measured_without_the_truth():
    _, given_NC, sources = slipped(0.2)
    slips = fit_noise(sources, given_NC, everything_known(given_NC)).slips
    assert 0.6 < slips.least < slips.share
    np.testing.assert_array_equal(slips.named_CC.argmax(axis=1), (np.arange(6) + 1) % 6)
    np.testing.assert_allclose(slips.named_CC.sum(axis=1), 1)


def test_false_annotations_are_found_by_what_is_missed_beside_them():
    true_NC, given_NC, sources = slipped(0.2)
    known_NC, errors_NC = everything_known(given_NC), given_NC != true_NC
    false_NC = errors_NC & (given_NC == 1)
    scores = scores_of(*sources)
    fitted = Consensus().fit(scores, given_NC, known_NC)
    decisions = fitted(scores, given_NC, known_NC)
    removed_NC, changed_NC = decisions.action_NC == TO_ABSENT, np.isin(decisions.action_NC, (TO_PRESENT, TO_ABSENT))
    assert removed_NC[false_NC].mean() > 0.5
    assert "another label's name in their place" in fitted.messages[0]
    assert errors_NC[changed_NC].mean() > 0.9


@pytest.mark.parametrize("seed", range(3))
def test_independent_errors_are_no_slips(seed):
    _, given_NC, sources = planted(seed)
    assert fit_noise(sources, given_NC, everything_known(given_NC)).slips is None


@pytest.mark.parametrize("seed", range(3))
def test_right_annotations_of_labels_that_the_sources_confuse_are_not_changed(seed):
    """One label an image, rightly annotated; a model that names another one on one image in ten."""
    rng = np.random.default_rng(seed)
    labels_NC = np.eye(8, dtype=np.uint8)[rng.integers(0, 8, 2000)]
    logits_NC = 4.0 * labels_NC + rng.normal(0, 1.6, labels_NC.shape)
    assert 0.05 < (logits_NC.argmax(axis=1) != labels_NC.argmax(axis=1)).mean() < 0.3
    scores, known_NC = scores_of(softmax(logits_NC, axis=1)), everything_known(labels_NC)
    decisions = Consensus().fit(scores, labels_NC, known_NC)(scores, labels_NC, known_NC)
    assert not np.isin(decisions.action_NC, (TO_PRESENT, TO_ABSENT)).any()
    assert (decisions.action_NC == TO_UNKNOWN).mean() < 0.02


def test_at_least_a_slip_is_as_sure_as_the_label_that_is_missed():
    """Sources that confuse the labels too: their word against the annotation, once and not twice."""
    slips, rates = Slips(0.9, 0.8, np.array([[0.0, 1.0], [1.0, 0.0]])), AnnotationRates(0.2, 0.01)
    log_odds_NC, given_NC = np.array([[2.0, -3.0], [5.0, -6.0], [-4.0, 1.0]]), np.array([[0, 1]] * 3)
    known_NC, if_not = np.ones((3, 2), bool), np.log(0.2 / 0.99)
    least_NC = slips.least_evidence(log_odds_NC, given_NC == 1, known_NC, rates)
    assert (least_NC[:, 0] <= 0).all(), "the missed one gains nothing"
    p_present_NC = expit(log_odds_NC + least_NC + np.where(given_NC == 1, np.log(0.8 / 0.01), if_not))
    p_error_NC = error_probability(p_present_NC, given_NC, known_NC)
    assert (p_error_NC[:2, 1] <= expit(log_odds_NC[:2, 0] + if_not) + 1e-9).all()
    assert (p_error_NC[:2, 1] > 0.3).all()
    full_NC = slips.evidence(log_odds_NC, given_NC == 1, known_NC, rates)
    assert (full_NC[:2, 0] > 1).all()
    assert (full_NC[:2, 1] < least_NC[:2, 1] + 1e-9).all()


@pytest.mark.parametrize("seed", range(3))
def test_a_label_that_is_lost_wherever_another_one_is_annotated_is_no_slip(seed):
    """That other one is right, though the sources overlook it now and then: they overlook it as often elsewhere."""
    true_NC, _, sources = planted(seed, num_labels=6)
    overlooked_N = (true_NC[:, 1] == 1) & (np.random.default_rng(seed).random(len(true_NC)) < 0.3)
    for scores_NC in sources:
        scores_NC[overlooked_N, 1] = scores_NC[true_NC[:, 1] == 0, 1][: overlooked_N.sum()]
    given_NC = true_NC.copy()
    given_NC[true_NC[:, 1] == 1, 0] = 0
    assert fit_noise(sources, given_NC, everything_known(given_NC)).slips is None
