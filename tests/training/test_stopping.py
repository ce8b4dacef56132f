from dataclasses import asdict

import pytest

from tasks.training import STOPPING_RULES
from tasks.training.stopping import LazyPatience, Never, TrailingBar


def test_never_never_stops():
    assert not any(Never().observe(0.0) for _ in range(100))


def test_the_papers_bar_trails_the_accepted_scores():
    rule = TrailingBar(patience=5)
    rule.observe(0.5)
    assert rule.bar == pytest.approx(0.8 * 0.5)  # 0.8 * 0.5 + 0.2 * 0
    rule.observe(0.6)
    assert rule.bar == pytest.approx(0.8 * 0.6 + 0.2 * 0.4)  # 0.56
    rule.observe(0.57)  # below the best of 0.6, yet above the bar
    assert (rule.bar, rule.count) == (pytest.approx(0.8 * 0.57 + 0.2 * 0.56), 0)


@pytest.mark.parametrize(
    ("scores", "stops_at"),
    [
        ([0.5, 0.1, 0.1, 0.1, 0.1, 0.1], 5),  # five misses in a row
        ([0.5, 0.1, 0.1, 0.6, 0.1, 0.1, 0.1, 0.1, 0.1], 8),  # a hit clears the count
        ([0.5] * 10, None),  # 0.4, 0.48, 0.496, ...: the bar reaches 0.5 from below and stays under it
        ([0.99994], 0),  # rounded to 0.9999, within 1e-4 of 1
        ([0.9998] * 3, None),
        ([float("nan")] * 5, 4),
    ],
)
def test_the_papers_rule(scores, stops_at):
    rule = TrailingBar(patience=5)
    assert next((i for i, score in enumerate(scores) if rule.observe(score)), None) == stops_at


def test_the_papers_count_rests_while_the_learning_rate_rises():
    rule = TrailingBar(patience=2)
    rule.observe(0.5)
    assert not any(rule.observe(0.1, rising=True) for _ in range(10))
    assert [rule.observe(0.1), rule.observe(0.1)] == [False, True]


@pytest.mark.parametrize(
    ("scores", "stops_at"),
    [
        ([0.9, 0.9, 0.5, 0.5, 0.5, 0.5], 5),  # the first two epochs are not looked at; 0.5 is the best; three misses
        ([0, 0, 0.500, 0.505, 0.505, 0.505], 5),  # 0.505 * 0.99 < 0.5: not better by 1 %
        ([0, 0, 0.500, 0.506, 0.506, 0.506], None),  # 0.506 * 0.99 > 0.5
        ([0, 0, 0.5, 0.4, 0.4, 0.6, 0.4, 0.4, 0.4], 8),
    ],
)
def test_the_rule_of_otx(scores, stops_at):
    rule = LazyPatience(patience=3)
    assert next((i for i, score in enumerate(scores) if rule.observe(score)), None) == stops_at


@pytest.mark.parametrize("name", STOPPING_RULES)
def test_every_rule_continues_from_its_own_numbers(name):
    scores = [0.3, 0.5, 0.4, 0.45, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2]
    full = STOPPING_RULES[name](3)
    expected = [full.observe(s) for s in scores]
    resumed, answers = STOPPING_RULES[name](3), []
    for score in scores:
        resumed = type(resumed)(**asdict(resumed))
        answers.append(resumed.observe(score))
    assert answers == expected
