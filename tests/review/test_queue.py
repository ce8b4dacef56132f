"""queue.py: the best questions of any number of batches, one label after the other, and a fair random share."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from tasks.core.states import States
from tasks.review.queue import (
    AUDIT,
    UNKNOWN_GAIN,
    Candidates,
    QuestionQueue,
    RankedQuestions,
    expected_errors,
    label_weights,
)


def batch(ids: list[str], priority, given=None, present=None, auditable=None) -> Candidates:
    priority_BC = np.asarray(priority, float)
    given_BC = np.zeros(priority_BC.shape, np.int8) if given is None else np.asarray(given, np.int8)
    return Candidates(
        ids,
        given_BC,
        np.full(priority_BC.shape, 0.5) if present is None else np.asarray(present, float),
        priority_BC,
        given_BC >= 0 if auditable is None else np.asarray(auditable, bool),
    )


def pairs(queue) -> list[tuple[str, str]]:
    return list(zip(queue["image_id"].to_pylist(), queue["label"].to_pylist(), strict=True))


def build_queue(batches: list[Candidates], labels: list[str], **options):
    """QUEUE of these batches."""
    questions = RankedQuestions(labels, **options)
    for candidates in batches:
        questions.add(candidates)
    return questions.table()


def random_batches(rng: np.random.Generator, *sizes: int, num_labels: int = 4) -> list[Candidates]:
    first = np.cumsum([0, *sizes])
    made = []
    for start, size in zip(first, sizes, strict=False):
        priority = np.round(rng.random((size, num_labels)), 1)  # many ties
        made.append(
            batch([f"i{n:04}" for n in range(start, start + size)], priority, rng.integers(-1, 2, priority.shape))
        )
    return made


def test_questions_of_one_label_stand_together_and_the_label_with_the_most_to_gain_comes_first():
    queue = build_queue(
        [batch(["a", "b", "c"], [[0.9, 0.5], [0.0, 0.6], [0.1, 0.4]])], ["cat", "dog"], budget=4, audit_share=0, seed=0
    )
    assert pairs(queue) == [("b", "dog"), ("a", "dog"), ("c", "dog"), ("a", "cat")]  # dog 1.5, cat 0.9


def test_the_budget_holds_audits_included():
    queue = build_queue(random_batches(np.random.default_rng(0), 300), list("wxyz"), budget=50, audit_share=0.2, seed=0)
    assert queue.num_rows == 50
    assert queue["reason"].to_pylist().count(AUDIT) == 10


def test_pairs_of_no_priority_are_never_asked_however_large_the_budget():
    queue = build_queue([batch(["a"], [[0.0, 0.3]])], ["cat", "dog"], budget=99, audit_share=0, seed=0)
    assert pairs(queue) == [("a", "dog")]


def test_no_budget_asks_nothing():
    assert (
        build_queue(
            random_batches(np.random.default_rng(0), 9), list("wxyz"), budget=0, audit_share=0.5, seed=0
        ).num_rows
        == 0
    )


@pytest.mark.parametrize("sizes", [(100,), (1, 99), (33, 33, 34), (50, 0, 50)])
def test_cutting_the_images_into_batches_changes_no_question(sizes):
    together = random_batches(np.random.default_rng(3), 100)[0]
    starts = np.cumsum([0, *sizes])
    parts = [
        Candidates(
            together.image_ids[a:b],
            *(m[a:b] for m in (together.given_BC, together.p_present_BC, together.priority_BC, together.auditable_BC)),
        )
        for a, b in pairwise(starts)
    ]
    options = {"budget": 37, "audit_share": 0.3, "seed": 1}
    assert build_queue(parts, list("wxyz"), **options).equals(build_queue([together], list("wxyz"), **options))


def test_the_asked_pairs_are_those_of_a_full_sort():
    batches = random_batches(np.random.default_rng(4), 60, 40)
    ranked = [
        (-priority, n + 60 * k, c, b.image_ids[n])
        for k, b in enumerate(batches)
        for (n, c), priority in np.ndenumerate(b.priority_BC)
    ]
    expected = {(image_id, "wxyz"[c]) for _, _, c, image_id in sorted(ranked)[:80]}
    assert set(pairs(build_queue(batches, list("wxyz"), budget=80, audit_share=0, seed=0))) == expected


def test_every_question_says_why_it_is_asked():
    one = batch(["a"], [[0.4, 0.3, 0.2]], given=[[1, 0, -1]])
    reasons = build_queue([one], ["x", "y", "z"], budget=3, audit_share=0, seed=0)["reason"].to_pylist()
    assert reasons == ["mistaken?", "missing?", "unknown"]


# ---------------------------------------------------------------- the audit


def audited(batches: list[Candidates], seed: int, budget: int = 20) -> set[tuple[str, str]]:
    return set(pairs(build_queue(batches, list("wxyz"), budget=budget, audit_share=1, seed=seed)))


def test_half_of_the_audit_is_annotated_present_and_half_absent():
    given = np.zeros((500, 4), np.int8)
    given[:, 0] = np.arange(500) % 10 == 0  # 2.5 % of the pairs
    queue = build_queue(
        [batch([str(n) for n in range(500)], np.zeros((500, 4)), given)], list("wxyz"), budget=40, audit_share=1, seed=0
    )
    assert queue["given"].to_pylist().count(1) == 20
    assert queue["given"].to_pylist().count(0) == 20


def test_the_audit_looks_at_neither_priority_nor_order():
    one = random_batches(np.random.default_rng(0), 200)[0]
    shuffled = np.random.default_rng(1).permutation(200)
    other = Candidates(
        [one.image_ids[n] for n in shuffled],
        one.given_BC[shuffled],
        one.p_present_BC[shuffled],
        np.zeros((200, 4)),
        one.auditable_BC[shuffled],
    )
    assert audited([one], seed=5) == audited([other], seed=5)
    assert audited([one], seed=5) != audited([one], seed=6)


def test_an_answered_audit_makes_room_for_the_next_and_the_others_stay():
    one = random_batches(np.random.default_rng(0), 200)[0]
    first = audited([one], seed=0)
    answered = sorted(first)[:5]
    for image_id, label in answered:
        one.auditable_BC[one.image_ids.index(image_id), "wxyz".index(label)] = False
    second = audited([one], seed=0)
    assert first - set(answered) < second
    assert len(second) == len(first)


def test_every_known_pair_is_audited_equally_often():
    one = batch([str(n) for n in range(50)], np.zeros((50, 4)), np.tile([0, 0, 0, -1], (50, 1)))
    counts = np.zeros((50, 4))
    for seed in range(400):
        for image_id, label in audited([one], seed):
            counts[int(image_id), "wxyz".index(label)] += 1
    assert not counts[:, 3].any(), "unknown pairs are no annotations"
    # 10 of 150 pairs a draw, 400 draws: 26.7 expected, standard deviation 5
    assert counts[:, :3].min() > 8
    assert counts[:, :3].max() < 50


# ---------------------------------------------------------------- priority


def queue_of(p_wrong, *, known=True, gap=None, **options):
    p_wrong_NC = np.asarray(p_wrong, float)
    targets_NC = np.zeros(p_wrong_NC.shape, np.uint8)
    targets_NC[:, 0] = 1
    states = States.of(
        [f"i{n}" for n in range(len(p_wrong_NC))],
        ["cat", "dog"][: p_wrong_NC.shape[1]],
        targets_NC,
        np.full(p_wrong_NC.shape, known),
    )
    queue = QuestionQueue(states, **{"budget": 10, "audit_share": 0.0, "seed": 0} | options)
    queue.add(np.arange(len(p_wrong_NC)), p_wrong_NC, p_wrong_NC, gap)
    return queue.ranked()


def test_a_pair_with_a_verdict_is_not_asked_again():
    assert pairs(queue_of([[0.5, 0.6]], resolved={("i0", "dog"), ("elsewhere", "dog")})) == [("i0", "cat")]


def test_nothing_is_asked_below_the_least_yield():
    assert pairs(queue_of([[0.5, 0.04]])) == [("i0", "cat")]


def test_a_pair_on_which_people_are_at_odds_is_asked_as_unknown():
    row = queue_of([[0.0, 0.0]], needs_review={("i0", "cat")}).to_pylist()
    assert [(r["label"], r["given"], r["reason"], r["score"]) for r in row] == [("cat", -1, "unknown", 0.5)]


def test_an_annotation_that_may_be_wrong_comes_before_a_pair_as_open_that_nobody_annotated():
    known_NC = np.array([[True, True], [True, False]])
    asked = queue_of([[0.0, 0.2], [0.0, 0.5]], known=known_NC).to_pylist()
    assert [(row["image_id"], row["reason"]) for row in asked] == [("i0", "missing?"), ("i1", "unknown")]
    disputed = queue_of([[0.0, 0.0], [0.0, 0.5]], known=known_NC, needs_review={("i1", "dog")}).to_pylist()
    assert disputed[0]["priority"] == pytest.approx(asked[1]["priority"] / UNKNOWN_GAIN), "that counts whole"


def test_a_rare_label_counts_more():
    np.testing.assert_allclose(label_weights(np.array([100, 25, 400])), [1, 2, 0.5])


def test_weights_stay_in_bounds_and_a_label_without_positives_has_one():
    weights = label_weights(np.array([0, 1000, 10**9]))
    assert weights.tolist() == [4.0, 1.0, 0.25]


def test_what_tells_of_a_whole_gap_of_annotation_counts_as_the_rarest_label_does():
    gap_NC = np.array([[False, False], [True, False]])
    by_image = {row["image_id"]: row for row in queue_of([[0.9, 0.0], [0.3, 0.0]], gap=gap_NC).to_pylist()}
    assert by_image["i1"]["priority"] == pytest.approx(4 * 0.3)
    assert by_image["i1"]["priority"] > by_image["i0"]["priority"]


def test_expected_errors_add_up_over_the_known_pairs():
    given = [[1]] * 6 + [[0]] * 5 + [[-1]]
    one = batch([str(n) for n in range(12)], np.full((12, 1), 0.5), given, np.full((12, 1), 0.25))
    queue = build_queue([one], ["cat"], budget=99, audit_share=0, seed=0)
    # 6 annotated present at 0.25: 0.75 each; 5 absent: 0.25 each; the unknown one is no annotation
    assert expected_errors(queue)["12"] == pytest.approx(6 * 0.75 + 5 * 0.25)
    assert list(expected_errors(queue)) == ["10", "12"]
