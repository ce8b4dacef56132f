"""The policies: what each changes, leaves alone and asks about."""

from __future__ import annotations

import numpy as np
import pytest

from tasks.cleaning import POLICIES
from tasks.cleaning.album import Album
from tasks.cleaning.automatic import LabelBounds
from tasks.cleaning.base import KEEP, TO_ABSENT, TO_PRESENT, TO_UNKNOWN, Decisions, keep_annotations
from tasks.cleaning.consensus import Consensus, act
from tasks.cleaning.decisions import decide_in_gaps, keep_implied_parents
from tasks.cleaning.self_confidence import SelfConfidence
from tasks.cleaning.weak_sources import SourceScores
from tests.cleaning.test_noise import planted


def scores_of(model_NC, *others_NC) -> SourceScores:
    model_NC = np.asarray(model_NC, float)
    return SourceScores(model_NC, tuple(np.asarray(o, float) for o in others_NC), np.full(model_NC.shape, np.nan))


def decide(policy, labels_NC, known_NC, scores):
    """Of the images that it learned from."""
    return policy.fit(scores, labels_NC, known_NC)(scores, labels_NC, known_NC)


def some_data(num_images: int = 800):
    _, labels_NC, (scores_NC, votes_NC) = planted(num_images=num_images)
    known_NC = np.random.default_rng(5).random(labels_NC.shape) < 0.8
    return labels_NC, known_NC, scores_of(scores_NC, votes_NC)


@pytest.mark.parametrize("name", POLICIES)
def test_every_policy_leaves_its_input_alone_and_decides_every_pair(name):
    labels_NC, known_NC, scores = some_data()
    before = labels_NC.copy(), known_NC.copy(), scores.model_NC.copy()
    decided = decide(POLICIES[name](), labels_NC, known_NC, scores)
    for now, then in zip((labels_NC, known_NC, scores.model_NC), before, strict=True):
        np.testing.assert_array_equal(now, then)
    assert decided.action_NC.shape == decided.p_present_NC.shape == decided.p_wrong_NC.shape == labels_NC.shape
    assert ((decided.p_present_NC >= 0) & (decided.p_present_NC <= 1)).all()
    assert ((decided.p_wrong_NC >= 0) & (decided.p_wrong_NC <= 1)).all()


@pytest.mark.parametrize("name", POLICIES)
def test_no_policy_changes_an_unknown_pair(name):
    labels_NC, known_NC, scores = some_data()
    assert (decide(POLICIES[name](), labels_NC, known_NC, scores).action_NC[~known_NC] == KEEP).all()


def test_what_stands_under_unknown_pairs_does_not_matter():
    labels_NC, known_NC, scores = some_data()
    turned = np.where(known_NC, labels_NC, 1 - labels_NC).astype(np.uint8)
    for name in ("consensus", "self_confidence"):
        first, second = (decide(POLICIES[name](), targets, known_NC, scores) for targets in (labels_NC, turned))
        np.testing.assert_array_equal(first.p_wrong_NC, second.p_wrong_NC)


def test_consensus_acts_by_the_probability_that_the_annotation_is_wrong():
    p_present_NC = np.array([[0.99, 0.5, 0.1], [0.01, 0.5, 0.99], [0.99, 0.3, 0.5]])
    labels_NC = np.array([[0, 0, 0], [1, 1, 1], [0, 0, 0]], np.uint8)
    known_NC = np.array([[1, 1, 1], [1, 1, 1], [0, 0, 0]], bool)
    nothing_2C = np.zeros((2, 3))
    bounds = LabelBounds(nothing_2C + 0.6, nothing_2C + 0.4, nothing_2C, nothing_2C, nothing_2C, [""] * 3)
    decided = act(p_present_NC, labels_NC, known_NC, bounds)
    assert decided.action_NC.tolist() == [
        [TO_PRESENT, TO_UNKNOWN, KEEP],
        [TO_ABSENT, TO_UNKNOWN, KEEP],
        [KEEP, KEEP, KEEP],
    ]
    # P(the change is wrong) where there was one, P(annotation wrong) elsewhere, P(better guess wrong) if unknown.
    np.testing.assert_allclose(decided.p_wrong_NC, [[0.01, 0.5, 0.1], [0.01, 0.5, 0.01], [0.01, 0.3, 0.5]])


def test_consensus_decides_a_batch_as_it_decides_all():
    labels_NC, known_NC, scores = some_data()
    decided = Consensus().fit(scores, labels_NC, known_NC)
    together = decided(scores, labels_NC, known_NC)
    part = decided(scores_of(*(o[:50] for o in (scores.model_NC, *scores.others_NC))), labels_NC[:50], known_NC[:50])
    for name in ("action_NC", "p_present_NC", "p_wrong_NC"):
        np.testing.assert_array_equal(getattr(part, name), getattr(together, name)[:50])


def test_automatic_changes_are_mostly_right_and_find_most_errors():
    true_NC, labels_NC, (scores_NC, votes_NC) = planted()
    decided = decide(Consensus(), labels_NC, np.ones(labels_NC.shape, bool), scores_of(scores_NC, votes_NC))
    changed, errors = np.isin(decided.action_NC, (TO_PRESENT, TO_ABSENT)), true_NC != labels_NC
    assert errors[changed].mean() >= 0.85
    assert changed[errors].mean() >= 0.5


@pytest.mark.parametrize(("accept", "unknown_from"), [(0.5, 0.4), (1.1, 0.5), (0.7, 0.0), (0.7, 0.8)])
def test_consensus_refuses_thresholds_that_make_no_sense(accept, unknown_from):
    with pytest.raises(ValueError, match="accept must lie in"):
        Consensus(accept=accept, unknown_from=unknown_from)


def test_the_album_rule_unites_model_and_vendor_and_asks_about_what_is_not_annotated():
    # model top 2 above 0.5: columns 0 and 1; vendor names 2; column 1 is annotated already
    scores = scores_of([[0.9, 0.8, 0.1, 0.0]], [[0.0, 0.0, 0.7, 0.0]])
    labels_NC, known_NC = np.array([[0, 1, 0, 0]], np.uint8), np.ones((1, 4), bool)
    decided = Album(top_k=2).decide(scores, labels_NC, known_NC)
    assert (decided.action_NC == KEEP).all()
    assert decided.p_wrong_NC.tolist() == [[0.5, 0.0, 0.5, 0.0]]


def test_self_confidence_asks_first_about_the_largest_loss():
    scores = scores_of([[0.1, 0.9, 0.4]])
    decided = SelfConfidence().decide(scores, np.array([[1, 0, 0]], np.uint8), np.array([[True, True, False]]))
    np.testing.assert_allclose(decided.p_wrong_NC, [[0.9, 0.9, 0.0]])


def test_doing_nothing_believes_the_annotations():
    decided = keep_annotations(scores_of([[0.5] * 3]), np.array([[1, 0, 1]], np.uint8), np.array([[True, True, False]]))
    assert decided.p_present_NC.tolist() == [[1, 0, 0.5]]
    assert not decided.action_NC.any()
    assert not decided.p_wrong_NC.any()


def test_a_parent_stays_where_a_child_of_it_is_or_becomes_present():
    targets_NC = np.array([[1, 1], [0, 1], [0, 1], [1, 1]], np.uint8)  # forest, tree
    actions = [[KEEP, TO_ABSENT], [TO_PRESENT, TO_UNKNOWN], [KEEP, TO_ABSENT], [TO_ABSENT, TO_ABSENT]]
    decided = Decisions(np.array(actions, np.int8), np.full((4, 2), 0.5), np.full((4, 2), 0.5))
    kept = keep_implied_parents(decided, targets_NC, np.ones((4, 2), bool), [[], [0]])
    assert kept.action_NC[:, 1].tolist() == [KEEP, KEEP, TO_ABSENT, TO_ABSENT]
    assert kept.action_NC[:, 0].tolist() == [KEEP, TO_PRESENT, KEEP, TO_ABSENT]


def test_in_a_gap_of_annotation_the_sources_decide_and_the_rest_stays_as_the_policy_has_it():
    policy = Decisions(
        np.array([[KEEP, TO_ABSENT]] * 3, np.int8),
        np.array([[0.95, 0.1], [0.5, 0.1], [0.1, 0.1]]),
        np.full((3, 2), 0.3),
    )
    gap_NC = np.array([[True, False]] * 3)
    nowhere_NC = np.zeros((3, 2), bool)
    filled = decide_in_gaps(policy, gap_NC, np.array([0.9, 0.9]), nowhere_NC)
    assert filled.action_NC.tolist() == [[TO_PRESENT, TO_ABSENT], [TO_UNKNOWN, TO_ABSENT], [KEEP, TO_ABSENT]]
    np.testing.assert_allclose(filled.p_wrong_NC, [[0.05, 0.3], [0.5, 0.3], [0.1, 0.3]])
    suspected = decide_in_gaps(policy, gap_NC, np.array([0.9, 0.9]), gap_NC)
    assert suspected.action_NC[:, 0].tolist() == [TO_UNKNOWN, TO_UNKNOWN, KEEP]
    np.testing.assert_allclose(suspected.p_wrong_NC[:, 0], [0.95, 0.5, 0.1])
    asked = decide_in_gaps(policy, gap_NC, None, nowhere_NC)
    assert (asked.action_NC[:, 0] == KEEP).all()
    np.testing.assert_allclose(asked.p_wrong_NC[:, 0], [0.95, 0.5, 0.1])
