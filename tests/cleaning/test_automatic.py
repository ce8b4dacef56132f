"""automatic.py: what the default policy may change without a person, and what it says when it may not."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.special import expit

from tasks.cleaning.base import KEEP, TO_ABSENT, TO_PRESENT, TO_UNKNOWN
from tasks.cleaning.consensus import Consensus
from tasks.cleaning.decisions import without_actions
from tasks.cleaning.noise import error_probability
from tasks.cleaning.weak_sources import SourceScores
from tests.benchmarks import noise_shapes as bench
from tests.benchmarks.systematic_errors import read_official, without_lost
from tests.cleaning.test_noise import planted
from tests.cleaning.test_policies import decide, scores_of


@pytest.fixture(scope="module")
def real(real_data):
    return bench.read_scores(real_data / "predictions")


def run(real, name: str, seed: int = 0):
    """(noisy, errors_NC, decisions, fitted policy) of a shape of noise."""
    noisy = bench.SHAPES[name](real, seed)
    errors_NC = (noisy.given_NC != real.true_NC) & real.known_NC
    scores = scores_of(*noisy.sources)
    fitted = Consensus().fit(scores, noisy.given_NC, real.known_NC)
    return noisy, errors_NC, fitted(scores, noisy.given_NC, real.known_NC), fitted


def changed(decisions) -> np.ndarray:
    return np.isin(decisions.action_NC, (TO_PRESENT, TO_ABSENT))


def test_without_noise_next_to_nothing_is_changed_or_made_unknown(real):
    _, _, decisions, _ = run(real, "none")
    assert (decisions.action_NC != KEEP).mean() < 0.002


@pytest.mark.parametrize(
    ("shape", "least"),
    [
        ("person, 16 % missing", 50),
        ("dog, 40 % missing", 30),
        ("one source: a third of the images, 40 % / 2 %", 100),
        ("confusions of similar labels, 20 %", 50),
        ("vendor copies all errors", 0),
    ],
)
def test_in_every_shape_consensus_finds_what_its_peers_find_and_its_changes_are_right(real, shape, least):
    noisy, errors_NC, decisions, _ = run(real, shape)
    changed_NC = changed(decisions)
    assert changed_NC.sum() >= least
    assert errors_NC[changed_NC].sum() >= 0.9 * changed_NC.sum()
    ours_NC = error_probability(decisions.p_present_NC, noisy.given_NC, real.known_NC)
    ours = bench.found(ours_NC, errors_NC, real.known_NC)
    for peer in bench.PEERS.values():
        theirs = bench.found(peer(real, noisy), errors_NC, real.known_NC)
        assert ours[0] >= theirs[0] - 0.01
        assert ours[1] >= theirs[1] - 0.01


@pytest.mark.parametrize(("label", "least"), [("car", 35), ("person", 90), ("tvmonitor", 15)])
def test_small_things_left_out_are_asked_about_though_the_sources_see_them_less_clearly(real, real_data, label, least):
    """Of 200 verdicts. To a label's own weights, what looks as those do is absent, since it is never annotated."""
    named = json.loads((real_data / "predictions/voc2007_test_vendor.json").read_bytes())
    official = read_official("test").take(list(named))
    given_NC = without_lost(official, [(label, official.largest_NC[:, bench.LABELS.index(label)] < 0.05)])
    errors_NC = (given_NC != real.true_NC) & real.known_NC
    scores = scores_of(real.detector_NC, real.vendor_NC)
    decisions = Consensus().fit(scores, given_NC, real.known_NC)(scores, given_NC, real.known_NC)
    first = np.argsort(-np.where(real.known_NC, decisions.p_wrong_NC, 0).ravel(), kind="stable")[:200]
    assert errors_NC.ravel()[first].sum() >= least
    assert not changed(decisions).any(), "whether it is they or the sources, nobody knows"


def test_at_the_cliff_it_changes_nothing_says_why_with_the_rates_and_still_ranks(real):
    _, errors_NC, decisions, fitted = run(real, "uniform, 40 % / 4 %")
    assert not decisions.action_NC.any()
    assert "cannot tell" in fitted.messages[0]
    assert "% of the annotations false" in fitted.messages[0]
    assert 0.3 < fitted.labels[0]["false_negative"][0] < 0.5, "the rates that it saw, not those that it fell back on"
    first = np.argsort(-np.where(real.known_NC, decisions.p_wrong_NC, 0).ravel(), kind="stable")[:200]
    assert errors_NC.ravel()[first].mean() > 0.9
    assert (decisions.p_wrong_NC.ravel()[first] > 0.5).all(), "worth asking"


def test_a_source_that_repeats_the_annotators_errors_does_not_count_and_that_is_told(real):
    fitted = run(real, "vendor copies all errors")[3]
    assert any("1 of 3 sources repeat" in message for message in fitted.messages)
    assert run(real, "uniform, 30 % / 2 %")[3].messages == []


def test_few_images_are_proposed_and_not_changed():
    _, labels_NC, (scores_NC, votes_NC) = planted(num_images=150)
    known_NC, scores = np.ones(labels_NC.shape, bool), scores_of(scores_NC, votes_NC)
    decided = decide(Consensus(), labels_NC, known_NC, scores)
    assert not decided.action_NC.any()
    assert (decided.p_wrong_NC > 0.5).any()
    fitted = Consensus().fit(scores, labels_NC, known_NC)
    assert "fewer than 200 images" in fitted.messages[0]
    assert changed(decide(Consensus(min_images=100), labels_NC, known_NC, scores)).any()


@pytest.mark.parametrize("seed", range(3))
def test_weak_scores_on_many_labels_invent_nothing_and_take_no_label_away(seed):
    """Some 80 labels, most of them rare, scores of an average precision of about 0.1."""
    rng = np.random.default_rng(seed)
    frequency_C = np.r_[0.5, np.geomspace(0.15, 0.01, 79)]
    labels_NC = (rng.random((400, 80)) < frequency_C).astype(np.uint8)
    scores_NC = np.clip(0.1 + 0.06 * labels_NC + rng.normal(0, 0.1, labels_NC.shape), 0, 1)
    decided = decide(Consensus(), labels_NC, np.ones(labels_NC.shape, bool), scores_of(scores_NC))
    assert not changed(decided).any()
    lost_C = ((labels_NC == 1) & (decided.action_NC == TO_UNKNOWN)).sum(0)
    assert (lost_C <= 0.25 * labels_NC.sum(0)).all()


@pytest.mark.parametrize("max_loss", [0.0, 0.1, 0.25, 0.5])
def test_no_label_loses_more_than_the_stated_share_of_its_positives(real, max_loss):
    noisy = bench.SHAPES["uniform, 30 % / 2 %"](real, 0)
    policy = Consensus(max_loss=max_loss)
    decided = decide(policy, noisy.given_NC, real.known_NC, scores_of(*noisy.sources))
    positive_NC = (noisy.given_NC == 1) & real.known_NC
    lost_C = (np.isin(decided.action_NC, (TO_ABSENT, TO_UNKNOWN)) & positive_NC).sum(0)
    assert (lost_C <= max_loss * positive_NC.sum(0)).all()
    assert lost_C.any() == (max_loss > 0)


def test_more_than_a_quarter_is_lost_only_where_the_rates_say_that_more_is_false(real):
    def largest_loss(shape, *, learned=False):
        noisy = bench.SHAPES[shape](real, 0)
        scores = scores_of(np.mean(noisy.sources, axis=0)) if learned else scores_of(*noisy.sources)
        decided = decide(Consensus(), noisy.given_NC, real.known_NC, scores)
        positive_NC = (noisy.given_NC == 1) & real.known_NC
        lost_NC = np.isin(decided.action_NC, (TO_ABSENT, TO_UNKNOWN)) & positive_NC
        return (lost_NC.sum(0) / positive_NC.sum(0)).max()

    assert largest_loss("uniform, 30 % / 2 %") > 0.25
    assert largest_loss("person, 40 % missing") <= 0.25
    assert largest_loss("uniform, 30 % / 2 %", learned=True) <= 0.25, "what learned from them is no measure of that"


def test_a_label_on_which_the_sources_show_no_skill_is_not_changed_and_says_so():
    _, labels_NC, (scores_NC, votes_NC) = planted()
    rng = np.random.default_rng(9)
    scores_NC[:, 0], votes_NC[:, 0] = rng.random(len(scores_NC)), rng.random(len(scores_NC)) < 0.15
    scores, known_NC = scores_of(scores_NC, votes_NC), np.ones(labels_NC.shape, bool)
    fitted = Consensus().fit(scores, labels_NC, known_NC)
    decided = fitted(scores, labels_NC, known_NC)
    assert not decided.action_NC[:, 0].any()
    assert decided.action_NC[:, 1:].any()
    assert "too little skill" in fitted.labels[0]["why"]


def test_more_is_asked_of_sources_that_have_learned_from_the_annotations():
    """The same middling scores, once as a detector's and once as the model's own."""
    _, labels_NC, (scores_NC, _) = planted(strength=1.6)
    known_NC, nothing_NC = np.ones(labels_NC.shape, bool), np.full(labels_NC.shape, np.nan)
    for scores, may in ((scores_of(nothing_NC, scores_NC), True), (scores_of(scores_NC), False)):
        fitted = Consensus().fit(scores, labels_NC, known_NC)
        assert [not row["why"] for row in fitted.labels] == [may] * labels_NC.shape[1]


def test_images_that_are_only_asked_about_keep_their_labels_and_ask_what_was_kept():
    _, labels_NC, (scores_NC, votes_NC) = planted()
    known_NC = np.ones(labels_NC.shape, bool)
    decided = decide(Consensus(), labels_NC, known_NC, scores_of(scores_NC, votes_NC))
    asked_N = np.arange(len(labels_NC)) < 1000
    kept = without_actions(decided, asked_N, labels_NC, known_NC)
    assert not kept.action_NC[asked_N].any()
    np.testing.assert_array_equal(kept.action_NC[~asked_N], decided.action_NC[~asked_N])
    was_changed_NC = changed(decided) & asked_N[:, None]
    assert (kept.p_wrong_NC[was_changed_NC] >= 0.6).all()


@pytest.mark.parametrize("options", [{"precision": 1.5}, {"max_loss": -0.1}, {"skill": 2.0}])
def test_shares_outside_of_0_to_1_are_refused(options):
    with pytest.raises(ValueError, match="precision, max_loss and skill must lie in"):
        Consensus(**options)


def test_what_a_model_overlooks_is_not_deleted_on_its_word_alone():
    """Annotations are right; a model that has learned from them cannot see a tenth of what is there."""
    rng = np.random.default_rng(0)
    present_NC = (rng.random((2500, 6)) < np.array([0.1] * 5 + [0.3])).astype(np.uint8)
    seen_NC = (present_NC == 1) & (rng.random(present_NC.shape) > 0.1)
    scores_NC = expit(np.where(seen_NC, 2.5, -4.0) + rng.normal(scale=1.2, size=present_NC.shape))
    known_NC = np.ones(present_NC.shape, bool)
    scores = SourceScores(scores_NC, (), np.full(present_NC.shape, np.nan))
    decided = Consensus().fit(scores, present_NC, known_NC)(scores, present_NC, known_NC)
    assert not np.isin(decided.action_NC, (TO_PRESENT, TO_ABSENT)).any()
    assert (decided.action_NC == TO_UNKNOWN).any(), "they look wrong to it, and are asked"
