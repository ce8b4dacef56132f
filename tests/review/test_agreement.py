"""agreement.py: which picture, which label, whose verdict: from the verdicts' file to assertions."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pyarrow as pa
import pytest

from tasks.review.agreement import latest, match, resolve, vote
from tasks.review.audit import kappas
from tasks.review.verdicts import Verdict
from tasks.taxonomy.reading import parse_taxonomy
from tasks.taxonomy.taxonomy import Taxonomy

NAMES = ("cat", "dog", "pine", "oak")
TAXONOMY = parse_taxonomy({"labels": [{"id": name} for name in NAMES]})


def images(*rows: tuple) -> pa.Table:
    """(image_id, sha256[, status])"""
    full = [(*row, "ok")[:3] for row in rows]
    return pa.table(
        {
            name: pa.array([row[n] for row in full], pa.string())
            for n, name in enumerate(("image_id", "sha256", "status"))
        }
    )


TODAY = images(
    ("a/1", "h1"), ("a/2", "h2"), ("a/copy", "h1"), ("a/bad", "h9", "quarantined"), ("a/gone", None, "quarantined")
)


def line(
    image: str = "a/2", label: str = "cat", verdict: str = "present", who: str = "ann", day: int = 1, **more
) -> Verdict:
    sha256 = more.pop("sha256", {"a/1": "h1", "a/2": "h2"}.get(image, ""))
    return Verdict(image, label, verdict, who, f"2026-01-{day:02}T12:00:00+00:00", sha256=sha256, **more)


def resolved(*verdicts: Verdict, taxonomy: Taxonomy = TAXONOMY, today: pa.Table = TODAY):
    result = resolve(verdicts, today, taxonomy)
    books = len(verdicts) + sum(result.added.values()) - sum(result.dropped.values())
    assert books == len(result.active), "the books do not balance"
    return result


def states(result) -> dict[tuple[str, str], int]:
    return {(r["image_id"], r["label"]): r["state"] for r in result.assertions.to_pylist()}


# ---------------------------------------------------------------- which picture


def test_a_verdict_follows_its_picture_to_another_id_and_to_copies():
    result = resolved(line("old/77", sha256="h1"))
    assert states(result) == {("a/1", "cat"): 1, ("a/copy", "cat"): 1}
    assert result.added == {"about another image with the same bytes": 1}


def test_a_verdict_without_a_hash_is_matched_by_id():
    assert states(resolved(line("a/1", sha256=""))) == {("a/1", "cat"): 1}


@pytest.mark.parametrize(
    ("verdict", "why"),
    [
        (line("a/7", sha256="h7"), "the image has vanished"),
        (line("a/7", sha256=""), "the image has vanished"),
        (line("a/1", sha256="h7"), "the file has changed"),
        (line("a/bad", sha256="h9"), "the image is quarantined"),
        (line("a/gone", sha256=""), "the image is quarantined"),
    ],
)
def test_a_verdict_about_no_image_of_today_is_listed_with_the_reason(verdict, why):
    result = resolved(verdict, line())
    assert [u["why"] for u in result.unmatched] == [why]
    assert result.unmatched[0]["image_id"] == verdict.image_id
    assert states(result) == {("a/2", "cat"): 1}
    assert result.dropped == {why: 1}


# ---------------------------------------------------------------- one person


def test_of_one_person_s_verdicts_the_latest_counts_in_whatever_order_the_file_has_them():
    first, second = line(verdict="present", day=1), line(verdict="absent", day=2)
    assert latest([first, second]) == latest([second, first]) == [second]


def test_times_are_compared_across_time_zones():
    early = replace(line(verdict="absent"), when="2026-01-01T12:00:00+02:00")
    late = replace(line(verdict="present"), when="2026-01-01T11:00:00+00:00")
    assert latest([late, early]) == [late]


def test_of_equal_times_the_lower_line_counts():
    first, second = line(verdict="present"), line(verdict="absent")
    assert latest([first, second]) == [second]


def test_a_clock_that_is_wrong_by_years_decides_nothing_between_people():
    wrong_clock = replace(line(verdict="absent", who="bob"), when="2099-01-01T00:00:00+00:00")
    assert states(resolved(line(), wrong_clock)) == {("a/2", "cat"): -1}
    assert states(resolved(line(), line(who="eve"), wrong_clock)) == {("a/2", "cat"): 1}


def test_a_person_on_two_copies_speaks_once_of_each():
    result = resolved(line("a/1", verdict="present", day=1), line("a/copy", verdict="absent", day=2, sha256="h1"))
    assert states(result) == {("a/1", "cat"): 0, ("a/copy", "cat"): 0}
    assert not result.conflicts


# ---------------------------------------------------------------- several people


@pytest.mark.parametrize(
    ("votes", "state", "who"),
    [
        ("p", 1, ["a"]),
        ("n", 0, ["a"]),
        ("u", -1, ["a"]),
        ("pp", 1, ["a", "b"]),
        ("pn", -1, ["a", "b"]),
        ("pu", 1, ["a"]),
        ("ppn", 1, ["a", "b"]),
        ("pnn", 0, ["b", "c"]),
        ("pnu", -1, ["a", "b", "c"]),
    ],
)
def test_people_vote_and_a_tie_is_unknown(votes, state, who):
    word = {"p": "present", "n": "absent", "u": "unsure"}
    assert vote([line(verdict=word[v], who=name) for v, name in zip(votes, "abc", strict=False)]) == (state, who)


def test_a_tie_is_kept_listed_and_asked_again():
    result = resolved(line(), line(verdict="absent", who="bob"))
    assert result.conflicts == [
        {"image_id": "a/2", "label": "cat", "state": -1, "verdicts": {"ann": "present", "bob": "absent"}}
    ]
    assert result.needs_review == {("a/2", "cat")}
    assert not result.resolved
    assert result.assertions["origin"].to_pylist() == ["review:ann+bob"]


def test_an_outvoted_dissent_is_listed_but_not_asked_again():
    result = resolved(line(), line(who="bob"), line(verdict="absent", who="eve"))
    assert [c["state"] for c in result.conflicts] == [1]
    assert result.assertions["origin"].to_pylist() == ["review:ann+bob"]
    assert result.resolved == {("a/2", "cat")}


def test_a_third_verdict_resolves_a_tie():
    assert not resolved(line(), line(verdict="absent", who="bob"), line(who="eve")).needs_review


def test_somebody_unsure_is_an_answer_and_makes_the_pair_unknown():
    result = resolved(line(verdict="unsure"))
    assert states(result) == {("a/2", "cat"): -1}
    assert result.resolved == {("a/2", "cat")}
    assert not result.conflicts


def test_kappa_is_cohen_s():
    rng = random.Random(0)
    answers = ["present", "absent"]
    truth = [rng.choice(answers) for _ in range(60)]
    ann = [w if rng.random() < 0.8 else rng.choice(answers) for w in truth]
    bob = [w if rng.random() < 0.7 else rng.choice(answers) for w in truth]
    verdicts = [line(f"i{n}", verdict=w, who="ann") for n, w in enumerate(ann)]
    verdicts += [line(f"i{n}", verdict=w, who="bob") for n, w in enumerate(bob)]
    (result,) = kappas([*verdicts, line("i0", "dog", who="ann"), line("i1", "dog", "unsure", who="bob")])
    agree = sum(a == b for a, b in zip(ann, bob, strict=True)) / 60
    by_chance = sum(ann.count(w) * bob.count(w) for w in answers) / 60**2
    assert result["who"] == ["ann", "bob"]
    assert result["pairs"] == 60
    assert result["kappa"] == pytest.approx((agree - by_chance) / (1 - by_chance), abs=1e-12)


def test_kappa_of_two_people_who_always_give_the_same_answer_is_not_defined():
    (result,) = kappas([line(), line(who="bob")])
    assert (result["agree"], result["kappa"]) == (1.0, None)


# ---------------------------------------------------------------- which label


def migrated(*steps: dict) -> Taxonomy:
    return parse_taxonomy({"labels": [{"id": name} for name in NAMES], "migrations": list(steps)})


def test_a_verdict_on_a_renamed_label_follows_and_joins_later_ones():
    taxonomy = migrated({"rename": {"kitty": "cat"}})
    result = resolved(line(label="kitty", day=1), line(label="cat", verdict="absent", day=2), taxonomy=taxonomy)
    assert states(result) == {("a/2", "cat"): 0}


SPLIT = migrated({"split": {"tree": ["pine", "oak"]}})
MERGED = migrated({"merge": {"cat": ["kitty", "tom"]}})


def test_a_presence_of_a_split_label_makes_its_parts_unknown_and_is_asked_again():
    result = resolved(line(label="tree"), taxonomy=SPLIT)
    assert [(v["image_id"], v["label"], v["now"]) for v in result.ask_again] == [("a/2", "tree", ["pine", "oak"])]
    assert states(result) == {("a/2", "pine"): -1, ("a/2", "oak"): -1}
    assert result.assertions["origin"].to_pylist() == ["review:ann"] * 2
    assert result.needs_review == {("a/2", "pine"), ("a/2", "oak")}
    assert result.dropped == {"a split or merge has left it without a meaning": 1}


def test_an_absence_of_a_split_label_is_an_absence_of_each_part():
    result = resolved(line(label="tree", verdict="absent"), taxonomy=SPLIT)
    assert states(result) == {("a/2", "pine"): 0, ("a/2", "oak"): 0}
    assert not result.ask_again


def test_what_somebody_has_said_since_a_split_is_not_asked_again():
    result = resolved(line(label="tree"), line(label="oak", who="bob"), taxonomy=SPLIT)
    assert result.ask_again[0]["now"] == ["pine"]
    assert states(result) == {("a/2", "pine"): -1, ("a/2", "oak"): 1}
    both = resolved(line(label="tree"), line(label="oak"), line(label="pine", verdict="absent"), taxonomy=SPLIT)
    assert both.ask_again == []


def test_an_absence_of_one_part_leaves_the_merged_label_unknown_and_is_asked_again():
    result = resolved(line(label="kitty", verdict="absent"), taxonomy=MERGED)
    assert states(result) == {("a/2", "cat"): -1}
    assert result.ask_again[0]["now"] == ["cat"]


def test_people_who_differ_on_the_parts_of_a_merge_are_a_conflict():
    denied = [line(label=part, verdict="absent", who="bob") for part in ("kitty", "tom")]
    result = resolved(line(label="kitty"), *denied, taxonomy=MERGED)
    assert [c["verdicts"] for c in result.conflicts] == [{"ann": "present", "bob": "absent"}]
    assert states(result) == {("a/2", "cat"): -1}


def test_a_person_s_presence_of_one_part_outweighs_their_later_absence_of_another():
    result = resolved(
        line(label="kitty", day=1),
        line(label="tom", verdict="absent", day=2),
        line(label="kitty", verdict="absent", who="bob"),
        taxonomy=MERGED,
    )
    # Bob denies kitty and ann tom, so bob's verdict is "no cat" by what both have seen; ann's own is that there is one.
    assert [c["verdicts"] for c in result.conflicts] == [{"ann": "present", "bob": "absent"}]
    assert not result.ask_again


def test_a_mind_changed_before_a_merge_counts_as_changed():
    changed = [line(label="kitty", verdict="absent", day=1), line(label="kitty", day=3)]
    result = resolved(*changed, line(label="tom", verdict="absent", day=2), taxonomy=MERGED)
    assert states(result) == {("a/2", "cat"): 1}


def test_a_label_that_is_new_needs_no_migration_and_leaves_old_verdicts_alone():
    taxonomy = parse_taxonomy({"labels": [{"id": name} for name in (*NAMES, "elm")]})
    assert resolved(line(), taxonomy=taxonomy).assertions.equals(resolved(line()).assertions)


# ---------------------------------------------------------------- the whole


def test_no_verdicts_assert_nothing():
    result = resolved()
    assert result.assertions.num_rows == 0
    assert not result.active


def test_the_order_of_the_file_does_not_matter_for_different_times():
    rng = random.Random(1)
    people, answers = ["ann", "bob", "eve"], ["present", "absent", "unsure"]
    verdicts = [
        line(rng.choice(["a/1", "a/2", "a/copy"]), rng.choice(NAMES), rng.choice(answers), rng.choice(people), day)
        for day in range(1, 29)
    ]
    shuffled = rng.sample(verdicts, len(verdicts))
    assert resolved(*verdicts).assertions.equals(resolved(*shuffled).assertions)


def test_matching_keeps_every_verdict_or_says_why():
    verdicts = [line("a/1"), line("a/2"), line("x", sha256="nope"), line("a/bad", sha256="h9")]
    matched, unmatched = match(verdicts, TODAY)
    assert Counter(v.image_id for v in matched) == {"a/1": 1, "a/copy": 1, "a/2": 1}
    assert len(unmatched) == 2
