"""rates.py, answers.py, skill.py: each label's error rates, drawn towards the others' and moved by people's answers."""

from __future__ import annotations

import numpy as np

from tasks.cleaning.answers import with_answers
from tasks.cleaning.base import Answered
from tasks.cleaning.noise import fit_noise
from tasks.cleaning.rates import count_anchors, pooled_shares
from tasks.cleaning.skill import skill_of
from tasks.cleaning.weak_sources import SourceScores
from tests.cleaning.test_noise import planted

MISSING = 0.4  # of the positives of label 0


def one_label_incomplete(seed: int = 0):
    true_NC, _, source_scores = planted(seed)
    labels_NC = true_NC.copy()
    labels_NC[np.random.default_rng([seed, 7]).random(len(labels_NC)) < MISSING, 0] = 0
    return true_NC, labels_NC, source_scores


def test_labels_that_are_alike_share_a_rate_and_few_anchors_say_little():
    alike = pooled_shares(np.array([6, 3, 5, 4]), np.array([20, 20, 20, 20]))
    assert np.ptp(alike.mean) < 0.1
    assert (alike.low < 0.225).all()
    assert (alike.high > 0.225).all()
    lone = pooled_shares(np.array([1, 0, 0, 0, 0, 0]), np.array([2, 200, 200, 200, 200, 200]))
    assert lone.mean[0] < 0.3 < lone.high[0]


def test_a_label_that_differs_keeps_its_own_rate():
    rates = pooled_shares(np.array([80, 1, 0, 1, 0, 1]), np.array([200, 50, 50, 50, 50, 50]))
    assert abs(rates.mean[0] - 0.4) < 0.05
    assert rates.low[0] > 0.3
    assert (rates.mean[1:] < 0.05).all()


def test_a_systematically_incomplete_label_is_seen_and_the_others_are_left_alone():
    _, labels_NC, source_scores = one_label_incomplete()
    model = fit_noise(source_scores, labels_NC, np.ones(labels_NC.shape, bool))
    assert abs(model.false_negative.mean[0] - MISSING) < 0.1
    assert (model.false_negative.mean[1:] < 0.06).all()
    assert not model.weak


def test_more_anchors_are_taken_only_where_they_are_as_pure():
    annotated_NC = np.ones((1000, 2), bool)
    annotated_NC[300:] = False
    annotated_NC[:300:4, 0] = False  # a quarter forgotten, whatever the support
    annotated_NC[40:, 1] = np.random.default_rng(0).random(960) < 0.25  # beyond 40, the support means little
    support_NC = -np.arange(1000.0)[:, None].repeat(2, 1)
    anchors = count_anchors(support_NC, annotated_NC, np.ones((1000, 2), bool))
    positives = annotated_NC.sum(0)
    assert anchors.present.tolist() == [round(0.3 * positives[0]), round(0.1 * positives[1])]
    assert anchors.missing[1] == 0


def test_skill_is_one_for_a_perfect_order_and_none_for_chance():
    annotated_NC = np.zeros((400, 2), bool)
    annotated_NC[:40] = True
    log_odds_NC = np.stack([-np.arange(400.0), np.random.default_rng(0).normal(size=400)], axis=1)
    skill = skill_of(log_odds_NC, annotated_NC, np.ones((400, 2), bool))
    assert skill.mean[0] > 0.99
    assert skill.low[1] < 0.05
    assert (skill.low <= skill.mean).all()


def answers(source_scores, labels_NC, rows, states_NC) -> Answered:
    scores = SourceScores(source_scores[0][rows], (source_scores[1][rows],), np.full(labels_NC[rows].shape, np.nan))
    return Answered(scores, labels_NC[rows], np.ones(labels_NC[rows].shape, bool), states_NC)


def test_answers_move_the_rates_of_their_label_most():
    _, labels_NC, source_scores = one_label_incomplete()
    sources = [*source_scores, np.full(labels_NC.shape, np.nan)]
    model = fit_noise(sources, labels_NC, np.ones(labels_NC.shape, bool))
    log_odds_NC = model.log_odds(sources, labels_NC.shape)
    rows = np.argsort(-np.where(labels_NC[:, 1] == 0, log_odds_NC[:, 1], -np.inf))[
        :40
    ]  # likely missed, says the policy
    for verdict, higher in ((1, True), (0, False)):
        states_NC = np.full((40, labels_NC.shape[1]), -1, np.int8)
        states_NC[:, 1] = verdict
        moved = with_answers(model, answers(source_scores, labels_NC, rows, states_NC))
        change_C = np.log(moved.rates.false_negative / model.rates.false_negative)
        assert change_C[1] > 0.3 if higher else change_C[1] <= 0
        assert abs(change_C[1]) >= abs(change_C[2]) - 1e-9
    unsure = answers(source_scores, labels_NC, rows, np.full((40, labels_NC.shape[1]), -1, np.int8))
    assert with_answers(model, unsure) is model
