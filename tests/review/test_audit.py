"""audit.py: the true error rate from a stratified sample, and when to stop."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from tasks.core import tables
from tasks.core.states import States
from tasks.review.agreement import resolve
from tasks.review.audit import (
    RECENT,
    error_rate,
    recent_yield,
    review_summary,
    rows_with_verdicts,
    should_stop,
    surprise,
    wilson,
)
from tasks.review.queue import LEAST_YIELD, QuestionQueue, audit_keys
from tasks.review.verdicts import Verdict
from tasks.taxonomy.reading import parse_taxonomy


@pytest.mark.parametrize(("successes", "trials"), [(0, 10), (3, 10), (10, 10), (47, 200)])
def test_the_interval_is_wilson_s(successes, trials):
    z, share = 1.959963984540054, successes / trials
    centre = (share + z**2 / (2 * trials)) / (1 + z**2 / trials)
    half = z / (1 + z**2 / trials) * np.sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2))
    assert wilson(successes, trials) == pytest.approx((centre - half, centre + half), abs=1e-12)


def test_strata_are_weighed_by_their_true_sizes():
    # 2 of 4 present labels wrong, 1 of 10 absent ones; 100 present and 900 absent in all: 0.1 * 0.5 + 0.9 * 0.1 = 0.14
    rate = error_rate({1: [True, True, False, False], 0: [True] + [False] * 9}, {1: 100, 0: 900})
    assert rate.share == pytest.approx(0.14)
    assert (rate.wrong, rate.asked) == (3, 14)
    assert 0 <= rate.low < 0.14 < rate.high <= 1


def test_one_stratum_alone_has_wilson_s_interval():
    rate = error_rate({1: [True, False, False, False], 0: []}, {1: 50, 0: 0})
    assert (rate.low, rate.high) == pytest.approx(wilson(1, 4))


def test_a_stratum_without_an_answer_widens_the_interval():
    rate = error_rate({1: [False] * 50, 0: []}, {1: 100, 0: 900})
    assert rate.share == 0
    assert rate.high > 0.85


def test_no_answer_no_rate():
    assert error_rate({1: [], 0: []}, {1: 5, 0: 5}) is None
    assert recent_yield([]) is None


def test_the_interval_covers_the_true_rate_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    population, wrong = {1: 2_000, 0: 18_000}, {1: 0.2, 0: 0.03}
    truth = 0.1 * 0.2 + 0.9 * 0.03
    covered = 0
    for _ in range(500):
        rate = error_rate({g: list(rng.random(50) < wrong[g]) for g in (1, 0)}, population)
        covered += rate.low <= truth <= rate.high
    assert covered / 500 > 0.92


def test_only_the_last_answers_tell_whether_to_stop():
    answers = [True] * 100 + [False] * 100
    assert recent_yield(answers).wrong == 0
    assert should_stop(recent_yield(answers), least_yield=0.05)
    assert not should_stop(recent_yield(answers, most=150), least_yield=0.05)


def test_few_answers_never_stop_the_review():
    assert not should_stop(recent_yield([False] * 10), least_yield=0.05)
    assert not should_stop(None, least_yield=0.05)


def test_more_errors_than_expected_raise_the_forecast_slowly():
    assert surprise(0, 0.0) == 1
    assert surprise(30, 10.0) == 2


# ---------------------------------------------------------------- from verdicts

TAXONOMY = parse_taxonomy({"labels": [{"id": "cat"}]})
IDS = [f"i{n}" for n in range(10)]


def summary(*verdicts: tuple[int, str, str]) -> dict:
    """Five images annotated present, four absent, the last unknown; verdicts: (image, verdict, reason)."""
    targets_NC = np.array([[1]] * 5 + [[0]] * 5, np.uint8)
    known_NC = np.array([[True]] * 9 + [[False]])
    states = States.of(IDS, ["cat"], targets_NC, known_NC)
    images = pa.table({"image_id": IDS, "sha256": IDS, "status": ["ok"] * 10})
    lines = [
        Verdict(IDS[n], "cat", v, "ann", f"2026-01-01T00:00:{t:02}+00:00", reason=reason)
        for t, (n, v, reason) in enumerate(verdicts)
    ]
    queue = pa.Table.from_pylist(
        [{"image_id": "i0", "label": "cat", "given": 1, "score": 0.25, "priority": 1.0, "reason": "mistaken?"}],
        schema=tables.QUEUE,
    )
    resolved = resolve(lines, images, TAXONOMY)
    p_present_VC = np.full((len(rows_with_verdicts(states, resolved.active)), 1), 0.5)
    return review_summary(states, p_present_VC, resolved, queue, resolved=resolved.resolved, seed=0)


def test_answers_measure_the_annotations_down_to_the_first_audit_key_that_nobody_answered():
    by_key = sorted(range(5), key=lambda n: -audit_keys(IDS, ["cat"], seed=0)[n, 0])  # those annotated present
    result = summary(
        (by_key[0], "absent", "audit"), (by_key[1], "present", "mistaken?"), (by_key[3], "absent", "audit")
    )
    assert (result["error_rate"]["wrong"], result["error_rate"]["asked"]) == (1, 2)


def test_answers_beside_the_audit_measure_the_queue():
    result = summary((0, "absent", "audit"), (5, "present", "missing?"), (6, "absent", "missing?"))
    assert (result["recent_yield"]["wrong"], result["recent_yield"]["asked"]) == (1, 2)


def test_the_error_rate_stays_right_when_the_queue_has_taken_the_errors_out_round_after_round():
    rng = np.random.default_rng(0)
    covered, estimates, everything = 0, [], np.arange(2000)
    for repetition in range(10):
        ids = [f"{repetition}/{n}" for n in range(2000)]
        targets_NC = (rng.random((2000, 1)) < 0.5).astype(np.uint8)
        wrong_NC = rng.random((2000, 1)) < 0.1
        p_wrong_NC = np.where(wrong_NC, rng.uniform(0.3, 0.6, (2000, 1)), rng.uniform(0, 0.35, (2000, 1)))
        states = States.of(ids, ["cat"], targets_NC, np.ones((2000, 1), bool))
        p_present_NC = np.where(targets_NC == 1, 1 - p_wrong_NC, p_wrong_NC)
        images = pa.table({"image_id": ids, "sha256": ids, "status": ["ok"] * 2000})
        truth = dict(zip(ids, (targets_NC ^ wrong_NC)[:, 0], strict=True))
        lines: list[Verdict] = []
        for day in range(1, 5):
            answered = {(v.image_id, "cat") for v in lines}
            asking = QuestionQueue(states, resolved=answered, budget=200, audit_share=0.3, seed=7)
            asking.add(everything, p_present_NC, p_wrong_NC)
            queue = asking.ranked()
            when = f"2026-01-0{day}T00:00:00+00:00"
            for row in queue.to_pylist():
                verdict = "present" if truth[row["image_id"]] else "absent"
                lines.append(Verdict(row["image_id"], "cat", verdict, "ann", when, reason=row["reason"]))
        resolved = resolve(lines, images, TAXONOMY)
        p_present_VC = p_present_NC[rows_with_verdicts(states, resolved.active)]
        summed = review_summary(states, p_present_VC, resolved, queue, resolved=resolved.resolved, seed=7)
        rate = summed["error_rate"]
        estimates.append(rate["share"])
        covered += rate["low"] <= wrong_NC.mean() <= rate["high"]
    assert np.mean(estimates) == pytest.approx(0.1, abs=0.015)
    assert covered >= 9


def test_a_hundred_answers_that_changed_nothing_say_stop_and_fifty_do_not():
    assert should_stop(recent_yield([False] * RECENT), least_yield=LEAST_YIELD)
    assert not should_stop(recent_yield([False] * 50), least_yield=LEAST_YIELD)


def test_unsure_answers_and_unknown_pairs_tell_nothing():
    result = summary((0, "unsure", "audit"), (9, "present", "unknown"))
    assert result["error_rate"] is None
    assert result["recent_yield"] is None
    assert result["pairs"] == 2


def test_the_forecast_is_corrected_by_what_was_found():
    assert summary()["expected_errors"] == {"1": 0.75}
    # 4 of 4 answers mended an annotation where 2 were expected: (4 + 10) / (2 + 10)
    result = summary(*((n, "absent", "mistaken?") for n in range(4)))
    assert result["expected_errors"]["1"] == pytest.approx(0.75 * 14 / 12)
