from __future__ import annotations

import pytest

from tasks.review.screen.cards import Card, Question
from tasks.review.screen.tags import (
    Judgement,
    TaggedCard,
    carried_over,
    judgements_of,
    new_judgements,
    pulled_from,
    renamed,
)
from tasks.review.status import progress_of

NAMES = {"cat": "Cat", "犬": "Hund", "time:noon": "Noon"}
NOON, LATER = "2026-01-02T12:00:00Z", "2026-01-03T12:00:00Z"


def card(*tags: str, image_id: str = "a", asked: str = "cat", touched: str = NOON, pulled=None) -> TaggedCard:
    reason = "missing?" if asked else ""
    return TaggedCard(image_id, f"sha-{image_id}", asked, reason, frozenset(tags), touched, pulled or {})


def answers(*cards: TaggedCard, who: str = "Ada") -> list[tuple[str, str, str]]:
    judgements, complaints = judgements_of(cards, NAMES, who)
    assert not complaints
    return [(j.image_id, j.label, j.verdict) for j in judgements]


def complaints(*cards: TaggedCard) -> list[str]:
    judgements, complaints = judgements_of(cards, NAMES, "Ada")
    assert not judgements
    return complaints


@pytest.mark.parametrize("verdict", ["present", "absent", "unsure"])
def test_a_bare_tag_answers_the_card_s_own_question(verdict):
    assert answers(card(verdict)) == [("a", "cat", verdict)]


def test_a_label_before_the_verdict_answers_for_that_label_on_any_card():
    assert answers(card("犬:absent"), card("cat:present", image_id="b", asked="")) == [
        ("a", "犬", "absent"),
        ("b", "cat", "present"),
    ]


def test_the_name_shown_is_as_good_as_the_id():
    assert answers(card("Hund:present")) == [("a", "犬", "present")]


def test_a_name_that_two_labels_share_says_neither():
    names = {"crane/bird": "Crane", "crane/machine": "Crane"}
    judgements, (complaint,) = judgements_of([card("Crane:present")], names, "Ada")
    assert not judgements
    assert "no label 'Crane'" in complaint


def test_an_id_goes_before_another_label_s_name():
    (judgement,), _ = judgements_of([card("cat:present")], {"cat": "Tabby", "felidae": "cat"}, "Ada")
    assert judgement.label == "cat"


def test_a_label_may_hold_a_colon():
    assert answers(card("time:noon:present")) == [("a", "time:noon", "present")]


def test_capitals_and_spaces_do_not_matter_in_a_verdict():
    assert answers(card("cat: Present ")) == [("a", "cat", "present")]


def test_a_judgement_says_who_when_and_why():
    (judgement,), _ = judgements_of([card("present")], NAMES, "Ada")
    assert judgement == Judgement("a", "sha-a", "cat", "present", "Ada", NOON, "missing?")


def test_an_unasked_label_has_no_reason_of_the_queue():
    (judgement,), _ = judgements_of([card("犬:present")], NAMES, "Ada")
    assert judgement.reason == "seen in review"


def test_a_person_may_give_a_reason():
    (judgement,), _ = judgements_of([card("absent", "why: a drawing of one")], NAMES, "Ada")
    assert judgement.reason == "a drawing of one"


def test_two_cards_of_one_image_that_agree_give_one_judgement():
    assert answers(card("present"), card("cat:present", asked="犬")) == [("a", "cat", "present")]


def test_contradicting_tags_give_no_judgement_and_are_named():
    assert complaints(card("present"), card("cat:absent", asked="犬")) == [
        "a: 'cat' is tagged absent and present. Take the wrong tag off and pull again."
    ]


def test_an_unknown_label_is_named_with_the_nearest_known():
    assert complaints(card("catt:present")) == ["a: tag 'catt:present': no label 'catt'. Did you mean 'cat'?"]


def test_a_bare_verdict_on_a_card_without_a_question_is_named():
    assert complaints(card("present", asked="")) == [
        "a: this card asks nothing, so write LABEL:present instead of 'present'."
    ]


def test_tags_that_are_no_verdicts_are_counted_and_left_alone():
    assert complaints(card("presnt", "todo"), card("todo", image_id="b")) == [
        "tags that are no verdicts, left alone: 'presnt' (1), 'todo' (2)"
    ]


# ---------------------------------------------------------------- pulling again


def row(verdict: str, who: str = "Ada", reason: str = "audit") -> dict:
    return {"image_id": "a", "sha256": "sha-a", "label": "cat", "verdict": verdict, "who": who, "reason": reason}


def new(verdicts: list[dict], *cards: TaggedCard, who: str = "Ada") -> list[tuple[str, str]]:
    return [(j.verdict, j.who) for j in new_judgements(judgements_of(cards, NAMES, who)[0], verdicts)]


def test_pulling_twice_changes_nothing():
    cards = [card("present"), card("absent", image_id="b")]
    judgements, _ = judgements_of(cards, NAMES, "Ada")
    written = [vars(j) for j in new_judgements(judgements, [])]
    assert len(written) == 2
    assert new_judgements(judgements, written) == []


def test_a_changed_mind_is_a_new_verdict_and_so_is_changing_it_back():
    assert new([row("present")], card("absent")) == [("absent", "Ada")]
    assert new([row("present"), row("absent")], card("present")) == [("present", "Ada")]


def test_a_second_reviewer_who_agrees_counts():
    assert new([row("present", who="Ada")], card("present"), who="Bob") == [("present", "Bob")]


def test_what_one_reviewer_pulled_does_not_become_the_next_one_s():
    pulled = {"cat": ("present", "Ada", NOON)}
    assert new([row("present")], card("present", pulled=pulled), who="Bob") == []
    assert new([row("present")], card("absent", pulled=pulled), who="Bob") == [("absent", "Bob")]


def test_a_verdict_lost_from_the_file_is_pulled_again_as_it_was():
    left = card("present", touched=LATER, pulled={"cat": ("present", "Ada", NOON)})
    (judgement,) = new_judgements(judgements_of([left], NAMES, "Bob")[0], [])
    assert (judgement.who, judgement.when) == ("Ada", NOON)


def test_a_reason_given_after_the_pull_is_a_new_verdict_of_the_same_person_and_of_its_own_time():
    left = card("present", "why: drawn", touched=LATER, pulled={"cat": ("present", "Ada", NOON)})
    judgements, _ = judgements_of([left], NAMES, "Bob")
    (judgement,) = new_judgements(judgements, [row("present", reason="missing?")])
    assert (judgement.verdict, judgement.reason, judgement.who, judgement.when) == ("present", "drawn", "Ada", LATER)
    assert new_judgements(judgements, [row("present", reason="missing?"), vars(judgement)]) == []


def test_a_changed_reason_is_a_new_verdict_and_so_is_changing_it_back():
    assert new([row("present", reason="drawn")], card("present", "why: far")) == [("present", "Ada")]
    written = [row("present", reason="far"), row("present", reason="drawn")]
    assert new(written, card("present", "why: far")) == [("present", "Ada")]


@pytest.mark.parametrize("tags", [("present",), ("present", "why: ")])
def test_another_reason_of_the_question_is_no_news(tags):
    assert new([row("present", reason="drawn")], card(*tags)) == []


def test_what_was_pulled_is_noted_on_every_card_of_the_image():
    cards = [card("present"), card(asked="犬"), card(image_id="b")]
    judgements, _ = judgements_of(cards, NAMES, "Ada")
    noted = {"cat": ("present", "Ada", NOON)}
    assert pulled_from(cards, judgements) == [noted, noted, {}]


def test_pushing_again_keeps_the_tags_of_cards_that_are_still_shown():
    before = [card("present", "todo"), card("absent", image_id="gone"), card("犬:present", image_id="copy", asked="")]
    shown = [
        Card("a", "sha-a", "", "", Question("cat", 1, 0.5, "audit")),
        Card("a", "sha-a", "", "", Question("犬", 1, 0.5, "audit")),
        Card("copy", "sha-copy", "", ""),
    ]
    assert carried_over(shown, before) == [before[0], None, before[2]]


def test_a_card_keeps_its_tags_when_its_label_is_renamed():
    before = renamed(card("present", pulled={"cat": ("present", "Ada", NOON)}), {"cat": "feline"}.get)
    shown = [Card("a", "sha-a", "", "", Question("feline", 1, 0.5, "audit"))]
    assert carried_over(shown, [before]) == [before]
    (judgement,), _ = judgements_of([before], {"feline": "Feline"}, "Bob")
    assert (judgement.label, judgement.who, judgement.when) == ("feline", "Ada", NOON)


def test_a_tag_with_an_old_name_keeps_its_author():
    before = renamed(
        card("cat:present", asked="", pulled={"cat": ("present", "Ada", NOON)}), {"cat": "feline", "": ""}.get
    )
    (judgement,), _ = judgements_of([before], {"feline": "Feline", "cat": "cat"}, "Bob")
    assert (judgement.label, judgement.who) == ("cat", "Ada")


# ---------------------------------------------------------------- progress


def test_progress_counts_what_is_decided_of_each_label():
    questions = [("a", "cat"), ("b", "cat"), ("c", "cat"), ("a", "犬")]
    decided = {("a", "cat"): "unsure", ("b", "cat"): "absent", ("z", "cat"): "present"}
    cat, dog = progress_of(questions, decided)
    assert (cat.label, cat.asked, cat.left, cat.present, cat.absent, cat.unsure) == ("cat", 3, 1, 0, 1, 1)
    assert (dog.label, dog.asked, dog.left) == ("犬", 1, 1)


def test_the_label_with_the_most_left_comes_first():
    assert [p.label for p in progress_of([("a", "cat"), ("a", "犬"), ("b", "犬")], {})] == ["犬", "cat"]
