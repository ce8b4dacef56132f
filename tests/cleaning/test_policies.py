"""cleaning.py: what each policy changes, leaves alone and asks about."""

from __future__ import annotations

import numpy as np
import pytest

from tasks.cleaning.policies import (
    KEEP,
    POLICIES,
    TO_ABSENT,
    TO_PRESENT,
    TO_UNKNOWN,
    Album,
    Cleaned,
    Consensus,
    SelfConfidence,
    keep_implied_parents,
    nothing_to_do,
)
from tasks.cleaning.weak_sources import SourceScores
from tests.cleaning.test_noise import planted


def opinions(model_NC, *others_NC) -> SourceScores:
    model_NC = np.asarray(model_NC, float)
    return SourceScores(model_NC, tuple(np.asarray(o, float) for o in others_NC), np.full(model_NC.shape, np.nan))


def decide(policy, given_NC, known_NC, heard):
    """Of the images that it learned from."""
    return policy.fit(heard, given_NC, known_NC)(heard, given_NC, known_NC)


def some_data(num_images: int = 800):
    _, given_NC, (scores_NC, votes_NC) = planted(num_images=num_images)
    known_NC = np.random.default_rng(5).random(given_NC.shape) < 0.8
    return given_NC, known_NC, opinions(scores_NC, votes_NC)


@pytest.mark.parametrize("name", POLICIES)
def test_every_policy_leaves_its_input_alone_and_decides_every_cell(name):
    given_NC, known_NC, heard = some_data()
    before = given_NC.copy(), known_NC.copy(), heard.model_NC.copy()
    decided = decide(POLICIES[name](), given_NC, known_NC, heard)
    for now, then in zip((given_NC, known_NC, heard.model_NC), before, strict=True):
        np.testing.assert_array_equal(now, then)
    assert decided.action_NC.shape == decided.present_NC.shape == decided.doubt_NC.shape == given_NC.shape
    assert ((decided.present_NC >= 0) & (decided.present_NC <= 1)).all()
    assert ((decided.doubt_NC >= 0) & (decided.doubt_NC <= 1)).all()


@pytest.mark.parametrize("name", POLICIES)
def test_no_policy_changes_an_unknown_cell(name):
    given_NC, known_NC, heard = some_data()
    assert (decide(POLICIES[name](), given_NC, known_NC, heard).action_NC[~known_NC] == KEEP).all()


def test_what_stands_under_unknown_cells_does_not_matter():
    given_NC, known_NC, heard = some_data()
    turned = np.where(known_NC, given_NC, 1 - given_NC).astype(np.uint8)
    for name in ("consensus", "self_confidence"):
        first, second = (decide(POLICIES[name](), targets, known_NC, heard) for targets in (given_NC, turned))
        np.testing.assert_array_equal(first.doubt_NC, second.doubt_NC)


def test_consensus_acts_by_the_probability_that_the_annotation_is_wrong():
    present_NC = np.array([[0.99, 0.5, 0.1], [0.01, 0.5, 0.99], [0.99, 0.3, 0.5]])
    given_NC = np.array([[0, 0, 0], [1, 1, 1], [0, 0, 0]], np.uint8)
    known_NC = np.array([[1, 1, 1], [1, 1, 1], [0, 0, 0]], bool)
    decided = Consensus(accept=0.6, doubt=0.4).from_probability(present_NC, given_NC, known_NC)
    assert decided.action_NC.tolist() == [
        [TO_PRESENT, TO_UNKNOWN, KEEP],
        [TO_ABSENT, TO_UNKNOWN, KEEP],
        [KEEP, KEEP, KEEP],
    ]
    # P(the change is wrong) where there was one, P(annotation wrong) elsewhere, P(better guess wrong) if unknown.
    np.testing.assert_allclose(decided.doubt_NC, [[0.01, 0.5, 0.1], [0.01, 0.5, 0.01], [0.01, 0.3, 0.5]])


def test_consensus_decides_a_block_as_it_decides_the_whole():
    given_NC, known_NC, heard = some_data()
    decided = Consensus().fit(heard, given_NC, known_NC)
    whole = decided(heard, given_NC, known_NC)
    part = decided(opinions(*(o[:50] for o in (heard.model_NC, *heard.others_NC))), given_NC[:50], known_NC[:50])
    for name in ("action_NC", "present_NC", "doubt_NC"):
        np.testing.assert_array_equal(getattr(part, name), getattr(whole, name)[:50])


def test_automatic_changes_are_mostly_right_and_find_most_errors():
    true_NC, given_NC, (scores_NC, votes_NC) = planted()
    decided = decide(Consensus(), given_NC, np.ones(given_NC.shape, bool), opinions(scores_NC, votes_NC))
    changed, errors = np.isin(decided.action_NC, (TO_PRESENT, TO_ABSENT)), true_NC != given_NC
    assert errors[changed].mean() >= 0.85
    assert changed[errors].mean() >= 0.5


@pytest.mark.parametrize(("accept", "doubt"), [(0.5, 0.4), (1.1, 0.5), (0.7, 0.0), (0.7, 0.8)])
def test_consensus_refuses_thresholds_that_make_no_sense(accept, doubt):
    with pytest.raises(ValueError, match="accept must lie in"):
        Consensus(accept=accept, doubt=doubt)


def test_the_album_rule_unites_model_and_vendor_and_asks_about_what_is_not_annotated():
    # model top 2 above 0.5: columns 0 and 1; vendor names 2; column 1 is annotated already
    heard = opinions([[0.9, 0.8, 0.1, 0.0]], [[0.0, 0.0, 0.7, 0.0]])
    given_NC, known_NC = np.array([[0, 1, 0, 0]], np.uint8), np.ones((1, 4), bool)
    decided = Album(top_k=2).decide(heard, given_NC, known_NC)
    assert (decided.action_NC == KEEP).all()
    assert decided.doubt_NC.tolist() == [[0.5, 0.0, 0.5, 0.0]]


def test_self_confidence_asks_first_about_the_largest_loss():
    heard = opinions([[0.1, 0.9, 0.4]])
    decided = SelfConfidence().decide(heard, np.array([[1, 0, 0]], np.uint8), np.array([[True, True, False]]))
    np.testing.assert_allclose(decided.doubt_NC, [[0.9, 0.9, 0.0]])


def test_doing_nothing_believes_the_annotations():
    decided = nothing_to_do(opinions([[0.5] * 3]), np.array([[1, 0, 1]], np.uint8), np.array([[True, True, False]]))
    assert decided.present_NC.tolist() == [[1, 0, 0.5]]
    assert not decided.action_NC.any()
    assert not decided.doubt_NC.any()


def test_a_whole_stays_where_a_kind_of_it_is_or_becomes_present():
    targets_NC = np.array([[1, 1], [0, 1], [0, 1], [1, 1]], np.uint8)  # forest, tree
    actions = [[KEEP, TO_ABSENT], [TO_PRESENT, TO_UNKNOWN], [KEEP, TO_ABSENT], [TO_ABSENT, TO_ABSENT]]
    decided = Cleaned(np.array(actions, np.int8), np.full((4, 2), 0.5), np.full((4, 2), 0.5))
    spared = keep_implied_parents(decided, targets_NC, np.ones((4, 2), bool), [[], [0]])
    assert spared.action_NC[:, 1].tolist() == [KEEP, KEEP, TO_ABSENT, TO_ABSENT]
    assert spared.action_NC[:, 0].tolist() == [KEEP, TO_PRESENT, KEEP, TO_ABSENT]
