"""queue.py: the best questions of any number of blocks, one label after the other, and a fair random share."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from tasks.cleaning.policies import Cleaned
from tasks.core.states import States
from tasks.review.queue import AUDIT, Block, build_queue, expected_errors, label_weights, questions


def block(ids: list[str], worth, given=None, present=None, auditable=None) -> Block:
    worth_BC = np.asarray(worth, float)
    given_BC = np.zeros(worth_BC.shape, np.int8) if given is None else np.asarray(given, np.int8)
    return Block(
        ids,
        given_BC,
        np.full(worth_BC.shape, 0.5) if present is None else np.asarray(present, float),
        worth_BC,
        given_BC >= 0 if auditable is None else np.asarray(auditable, bool),
    )


def cells(queue) -> list[tuple[str, str]]:
    return list(zip(queue["image_id"].to_pylist(), queue["label"].to_pylist(), strict=True))


def random_blocks(rng: np.random.Generator, *sizes: int, num_labels: int = 4) -> list[Block]:
    first = np.cumsum([0, *sizes])
    made = []
    for start, size in zip(first, sizes, strict=False):
        worth = np.round(rng.random((size, num_labels)), 1)  # many ties
        made.append(block([f"i{n:04}" for n in range(start, start + size)], worth, rng.integers(-1, 2, worth.shape)))
    return made


def test_questions_of_one_label_stand_together_and_the_label_with_the_most_to_gain_comes_first():
    queue = build_queue(
        [block(["a", "b", "c"], [[0.9, 0.5], [0.0, 0.6], [0.1, 0.4]])], ["cat", "dog"], budget=4, audit_share=0, seed=0
    )
    assert cells(queue) == [("b", "dog"), ("a", "dog"), ("c", "dog"), ("a", "cat")]  # dog 1.5, cat 0.9


def test_the_budget_holds_audits_included():
    queue = build_queue(random_blocks(np.random.default_rng(0), 300), list("wxyz"), budget=50, audit_share=0.2, seed=0)
    assert queue.num_rows == 50
    assert queue["reason"].to_pylist().count(AUDIT) == 10


def test_cells_of_no_worth_are_never_asked_however_large_the_budget():
    queue = build_queue([block(["a"], [[0.0, 0.3]])], ["cat", "dog"], budget=99, audit_share=0, seed=0)
    assert cells(queue) == [("a", "dog")]


def test_no_budget_asks_nothing():
    assert (
        build_queue(
            random_blocks(np.random.default_rng(0), 9), list("wxyz"), budget=0, audit_share=0.5, seed=0
        ).num_rows
        == 0
    )


@pytest.mark.parametrize("sizes", [(100,), (1, 99), (33, 33, 34), (50, 0, 50)])
def test_cutting_the_images_into_blocks_changes_no_question(sizes):
    whole = random_blocks(np.random.default_rng(3), 100)[0]
    starts = np.cumsum([0, *sizes])
    parts = [
        Block(
            whole.image_ids[a:b],
            *(m[a:b] for m in (whole.given_BC, whole.present_BC, whole.worth_BC, whole.auditable_BC)),
        )
        for a, b in pairwise(starts)
    ]
    options = {"budget": 37, "audit_share": 0.3, "seed": 1}
    assert build_queue(parts, list("wxyz"), **options).equals(build_queue([whole], list("wxyz"), **options))


def test_the_asked_cells_are_those_of_a_full_sort():
    blocks = random_blocks(np.random.default_rng(4), 60, 40)
    ranked = [
        (-worth, n + 60 * k, c, b.image_ids[n])
        for k, b in enumerate(blocks)
        for (n, c), worth in np.ndenumerate(b.worth_BC)
    ]
    expected = {(image_id, "wxyz"[c]) for _, _, c, image_id in sorted(ranked)[:80]}
    assert set(cells(build_queue(blocks, list("wxyz"), budget=80, audit_share=0, seed=0))) == expected


def test_every_question_says_why_it_is_asked():
    one = block(["a"], [[0.4, 0.3, 0.2]], given=[[1, 0, -1]])
    reasons = build_queue([one], ["x", "y", "z"], budget=3, audit_share=0, seed=0)["reason"].to_pylist()
    assert reasons == ["mistaken?", "missing?", "unknown"]


# ---------------------------------------------------------------- the audit


def audited(blocks: list[Block], seed: int, budget: int = 20) -> set[tuple[str, str]]:
    return set(cells(build_queue(blocks, list("wxyz"), budget=budget, audit_share=1, seed=seed)))


def test_half_of_the_audit_is_annotated_present_and_half_absent():
    given = np.zeros((500, 4), np.int8)
    given[:, 0] = np.arange(500) % 10 == 0  # 2.5 % of the cells
    queue = build_queue(
        [block([str(n) for n in range(500)], np.zeros((500, 4)), given)], list("wxyz"), budget=40, audit_share=1, seed=0
    )
    assert queue["given"].to_pylist().count(1) == 20
    assert queue["given"].to_pylist().count(0) == 20


def test_the_audit_looks_at_neither_worth_nor_order():
    one = random_blocks(np.random.default_rng(0), 200)[0]
    shuffled = np.random.default_rng(1).permutation(200)
    other = Block(
        [one.image_ids[n] for n in shuffled],
        one.given_BC[shuffled],
        one.present_BC[shuffled],
        np.zeros((200, 4)),
        one.auditable_BC[shuffled],
    )
    assert audited([one], seed=5) == audited([other], seed=5)
    assert audited([one], seed=5) != audited([one], seed=6)


def test_an_answered_audit_makes_room_for_the_next_and_the_others_stay():
    one = random_blocks(np.random.default_rng(0), 200)[0]
    first = audited([one], seed=0)
    answered = sorted(first)[:5]
    for image_id, label in answered:
        one.auditable_BC[one.image_ids.index(image_id), "wxyz".index(label)] = False
    second = audited([one], seed=0)
    assert first - set(answered) < second
    assert len(second) == len(first)


def test_every_known_cell_is_audited_equally_often():
    one = block([str(n) for n in range(50)], np.zeros((50, 4)), np.tile([0, 0, 0, -1], (50, 1)))
    counts = np.zeros((50, 4))
    for seed in range(400):
        for image_id, label in audited([one], seed):
            counts[int(image_id), "wxyz".index(label)] += 1
    assert not counts[:, 3].any(), "unknown cells are no annotations"
    # 10 of 150 cells a draw, 400 draws: 26.7 expected, standard deviation 5
    assert counts[:, :3].min() > 8
    assert counts[:, :3].max() < 50


# ---------------------------------------------------------------- worth


def asked(doubt, *, known=True, reopened=(), closed=(), **options):
    doubt_NC = np.asarray(doubt, float)
    targets_NC = np.zeros(doubt_NC.shape, np.uint8)
    targets_NC[:, 0] = 1
    dense = States.of(
        [f"i{n}" for n in range(len(doubt_NC))],
        ["cat", "dog"][: doubt_NC.shape[1]],
        targets_NC,
        np.full(doubt_NC.shape, known),
    )
    decided = Cleaned(np.zeros(doubt_NC.shape, np.int8), doubt_NC, doubt_NC)
    options = {"budget": 10, "audit_share": 0.0, "seed": 0} | options
    return questions(dense, [(np.arange(len(doubt_NC)), decided)], answered=closed, reopened=reopened, **options)


def test_a_cell_with_a_verdict_is_not_asked_again():
    assert cells(asked([[0.5, 0.6]], closed={("i0", "dog"), ("elsewhere", "dog")})) == [("i0", "cat")]


def test_nothing_is_asked_below_the_least_yield():
    assert cells(asked([[0.5, 0.04]])) == [("i0", "cat")]


def test_a_cell_on_which_people_are_at_odds_is_asked_as_unknown():
    row = asked([[0.0, 0.0]], reopened={("i0", "cat")}).to_pylist()
    assert [(r["label"], r["given"], r["reason"], r["score"]) for r in row] == [("cat", -1, "unknown", 0.5)]


def test_a_rare_label_counts_more():
    np.testing.assert_allclose(label_weights(np.array([100, 25, 400])), [1, 2, 0.5])


def test_weights_stay_in_bounds_and_a_label_without_positives_has_one():
    weights = label_weights(np.array([0, 1000, 10**9]))
    assert weights.tolist() == [4.0, 1.0, 0.25]


def test_expected_errors_add_up_over_the_known_cells():
    given = [[1]] * 6 + [[0]] * 5 + [[-1]]
    one = block([str(n) for n in range(12)], np.full((12, 1), 0.5), given, np.full((12, 1), 0.25))
    queue = build_queue([one], ["cat"], budget=99, audit_share=0, seed=0)
    # 6 annotated present at 0.25: 0.75 each; 5 absent: 0.25 each; the unknown one is no annotation
    assert expected_errors(queue)["12"] == pytest.approx(6 * 0.75 + 5 * 0.25)
    assert list(expected_errors(queue)) == ["10", "12"]
