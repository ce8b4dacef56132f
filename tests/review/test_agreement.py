"""agreement.py: which picture, which label, whose word: from the verdicts' file to statements."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pyarrow as pa
import pytest
from sklearn.metrics import cohen_kappa_score

from tasks.review.agreement import kappas, latest, match, resolve, vote
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


def said(
    image: str = "a/2", label: str = "cat", verdict: str = "present", who: str = "ann", day: int = 1, **more
) -> Verdict:
    sha256 = more.pop("sha256", {"a/1": "h1", "a/2": "h2"}.get(image, ""))
    return Verdict(image, label, verdict, who, f"2026-01-{day:02}T12:00:00+00:00", sha256=sha256, **more)


def settled(*verdicts: Verdict, taxonomy: Taxonomy = TAXONOMY, today: pa.Table = TODAY):
    found = resolve(verdicts, today, taxonomy)
    books = len(verdicts) + sum(found.added.values()) - sum(found.dropped.values())
    assert books == len(found.standing), "the books do not balance"
    return found


def states(found) -> dict[tuple[str, str], int]:
    return {(r["image_id"], r["label"]): r["state"] for r in found.statements.to_pylist()}


# ---------------------------------------------------------------- which picture


def test_a_verdict_follows_its_picture_to_another_id_and_to_copies():
    found = settled(said("old/77", sha256="h1"))
    assert states(found) == {("a/1", "cat"): 1, ("a/copy", "cat"): 1}
    assert found.added == {"about another image with the same bytes": 1}


def test_a_verdict_without_a_hash_is_matched_by_id():
    assert states(settled(said("a/1", sha256=""))) == {("a/1", "cat"): 1}


@pytest.mark.parametrize(
    ("verdict", "why"),
    [
        (said("a/7", sha256="h7"), "the image has vanished"),
        (said("a/7", sha256=""), "the image has vanished"),
        (said("a/1", sha256="h7"), "the file has changed"),
        (said("a/bad", sha256="h9"), "the image is quarantined"),
        (said("a/gone", sha256=""), "the image is quarantined"),
    ],
)
def test_a_verdict_about_no_image_of_today_is_listed_with_the_reason(verdict, why):
    found = settled(verdict, said())
    assert [u["why"] for u in found.unmatched] == [why]
    assert found.unmatched[0]["image_id"] == verdict.image_id
    assert states(found) == {("a/2", "cat"): 1}
    assert found.dropped == {why: 1}


# ---------------------------------------------------------------- one person


def test_of_one_person_s_verdicts_the_latest_counts_in_whatever_order_the_file_has_them():
    first, second = said(verdict="present", day=1), said(verdict="absent", day=2)
    assert latest([first, second]) == latest([second, first]) == [second]


def test_times_are_compared_across_time_zones():
    early = replace(said(verdict="absent"), when="2026-01-01T12:00:00+02:00")
    late = replace(said(verdict="present"), when="2026-01-01T11:00:00+00:00")
    assert latest([late, early]) == [late]


def test_of_equal_times_the_lower_line_counts():
    first, second = said(verdict="present"), said(verdict="absent")
    assert latest([first, second]) == [second]


def test_a_clock_that_is_wrong_by_years_decides_nothing_between_people():
    wrong_clock = replace(said(verdict="absent", who="bob"), when="2099-01-01T00:00:00+00:00")
    assert states(settled(said(), wrong_clock)) == {("a/2", "cat"): -1}
    assert states(settled(said(), said(who="eve"), wrong_clock)) == {("a/2", "cat"): 1}


def test_a_person_on_two_copies_speaks_once_of_each():
    found = settled(said("a/1", verdict="present", day=1), said("a/copy", verdict="absent", day=2, sha256="h1"))
    assert states(found) == {("a/1", "cat"): 0, ("a/copy", "cat"): 0}
    assert not found.conflicts


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
    assert vote([said(verdict=word[v], who=name) for v, name in zip(votes, "abc", strict=False)]) == (state, who)


def test_a_tie_is_kept_listed_and_asked_again():
    found = settled(said(), said(verdict="absent", who="bob"))
    assert found.conflicts == [
        {"image_id": "a/2", "label": "cat", "state": -1, "said": {"ann": "present", "bob": "absent"}}
    ]
    assert found.reopened == {("a/2", "cat")}
    assert not found.answered
    assert found.statements["origin"].to_pylist() == ["review:ann+bob"]


def test_an_outvoted_dissent_is_listed_but_not_asked_again():
    found = settled(said(), said(who="bob"), said(verdict="absent", who="eve"))
    assert [c["state"] for c in found.conflicts] == [1]
    assert found.statements["origin"].to_pylist() == ["review:ann+bob"]
    assert found.answered == {("a/2", "cat")}


def test_a_third_opinion_settles_a_tie():
    assert not settled(said(), said(verdict="absent", who="bob"), said(who="eve")).reopened


def test_somebody_unsure_is_an_answer_and_makes_the_cell_unknown():
    found = settled(said(verdict="unsure"))
    assert states(found) == {("a/2", "cat"): -1}
    assert found.answered == {("a/2", "cat")}
    assert not found.conflicts


def test_kappa_is_cohen_s():
    rng = random.Random(0)
    words = ["present", "absent"]
    truth = [rng.choice(words) for _ in range(60)]
    ann = [w if rng.random() < 0.8 else rng.choice(words) for w in truth]
    bob = [w if rng.random() < 0.7 else rng.choice(words) for w in truth]
    verdicts = [said(f"i{n}", verdict=w, who="ann") for n, w in enumerate(ann)]
    verdicts += [said(f"i{n}", verdict=w, who="bob") for n, w in enumerate(bob)]
    (found,) = kappas([*verdicts, said("i0", "dog", who="ann"), said("i1", "dog", "unsure", who="bob")])
    assert found["who"] == ["ann", "bob"]
    assert found["cells"] == 60
    assert found["kappa"] == pytest.approx(cohen_kappa_score(ann, bob))


def test_kappa_of_two_people_who_always_say_the_same_word_is_not_defined():
    (found,) = kappas([said(), said(who="bob")])
    assert (found["agree"], found["kappa"]) == (1.0, None)


# ---------------------------------------------------------------- which label


def migrated(*steps: dict) -> Taxonomy:
    return parse_taxonomy({"labels": [{"id": name} for name in NAMES], "migrations": list(steps)})


def test_a_verdict_on_a_renamed_label_follows_and_joins_later_ones():
    taxonomy = migrated({"rename": {"kitty": "cat"}})
    found = settled(said(label="kitty", day=1), said(label="cat", verdict="absent", day=2), taxonomy=taxonomy)
    assert states(found) == {("a/2", "cat"): 0}


SPLIT = migrated({"split": {"tree": ["pine", "oak"]}})
MERGED = migrated({"merge": {"cat": ["kitty", "tom"]}})


def test_a_presence_of_a_split_label_makes_its_parts_unknown_and_is_asked_again():
    found = settled(said(label="tree"), taxonomy=SPLIT)
    assert [(v["image_id"], v["label"], v["now"]) for v in found.ask_again] == [("a/2", "tree", ["pine", "oak"])]
    assert states(found) == {("a/2", "pine"): -1, ("a/2", "oak"): -1}
    assert found.statements["origin"].to_pylist() == ["review:ann"] * 2
    assert found.reopened == {("a/2", "pine"), ("a/2", "oak")}
    assert found.dropped == {"a split or merge has left it without a meaning": 1}


def test_an_absence_of_a_split_label_is_an_absence_of_each_part():
    found = settled(said(label="tree", verdict="absent"), taxonomy=SPLIT)
    assert states(found) == {("a/2", "pine"): 0, ("a/2", "oak"): 0}
    assert not found.ask_again


def test_what_somebody_has_said_since_a_split_is_not_asked_again():
    found = settled(said(label="tree"), said(label="oak", who="bob"), taxonomy=SPLIT)
    assert found.ask_again[0]["now"] == ["pine"]
    assert states(found) == {("a/2", "pine"): -1, ("a/2", "oak"): 1}
    both = settled(said(label="tree"), said(label="oak"), said(label="pine", verdict="absent"), taxonomy=SPLIT)
    assert both.ask_again == []


def test_an_absence_of_one_part_leaves_the_merged_label_unknown_and_is_asked_again():
    found = settled(said(label="kitty", verdict="absent"), taxonomy=MERGED)
    assert states(found) == {("a/2", "cat"): -1}
    assert found.ask_again[0]["now"] == ["cat"]


def test_people_who_differ_on_the_parts_of_a_merge_are_a_conflict():
    denied = [said(label=part, verdict="absent", who="bob") for part in ("kitty", "tom")]
    found = settled(said(label="kitty"), *denied, taxonomy=MERGED)
    assert [c["said"] for c in found.conflicts] == [{"ann": "present", "bob": "absent"}]
    assert states(found) == {("a/2", "cat"): -1}


def test_a_person_s_presence_of_one_part_outweighs_their_later_absence_of_another():
    found = settled(
        said(label="kitty", day=1),
        said(label="tom", verdict="absent", day=2),
        said(label="kitty", verdict="absent", who="bob"),
        taxonomy=MERGED,
    )
    # Bob denies kitty and ann tom, so bob's word is "no cat" by what both have seen; ann's own is that there is one.
    assert [c["said"] for c in found.conflicts] == [{"ann": "present", "bob": "absent"}]
    assert not found.ask_again


def test_a_mind_changed_before_a_merge_counts_as_changed():
    changed = [said(label="kitty", verdict="absent", day=1), said(label="kitty", day=3)]
    found = settled(*changed, said(label="tom", verdict="absent", day=2), taxonomy=MERGED)
    assert states(found) == {("a/2", "cat"): 1}


def test_a_label_that_is_new_needs_no_migration_and_leaves_old_verdicts_alone():
    taxonomy = parse_taxonomy({"labels": [{"id": name} for name in (*NAMES, "elm")]})
    assert settled(said(), taxonomy=taxonomy).statements.equals(settled(said()).statements)


# ---------------------------------------------------------------- the whole


def test_no_verdicts_state_nothing():
    found = settled()
    assert found.statements.num_rows == 0
    assert not found.standing


def test_the_order_of_the_file_does_not_matter_for_different_times():
    rng = random.Random(1)
    people, words = ["ann", "bob", "eve"], ["present", "absent", "unsure"]
    verdicts = [
        said(rng.choice(["a/1", "a/2", "a/copy"]), rng.choice(NAMES), rng.choice(words), rng.choice(people), day)
        for day in range(1, 29)
    ]
    shuffled = rng.sample(verdicts, len(verdicts))
    assert settled(*verdicts).statements.equals(settled(*shuffled).statements)


def test_matching_keeps_every_verdict_or_says_why():
    verdicts = [said("a/1"), said("a/2"), said("x", sha256="nope"), said("a/bad", sha256="h9")]
    matched, unmatched = match(verdicts, TODAY)
    assert Counter(v.image_id for v in matched) == {"a/1": 1, "a/copy": 1, "a/2": 1}
    assert len(unmatched) == 2
