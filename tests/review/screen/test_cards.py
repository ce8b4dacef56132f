from __future__ import annotations

import numpy as np
import pytest

from tasks.review.screen.cards import MOST_SCORES, cards_of, duplicate_groups, one_label_at_a_time, queue_id
from tests.review.tables_of import groups_of, images_of, labels_of, predictions_of, queue_of

QUEUE = queue_of(
    ("a", "cat", 1, 0.1, 0.9, "mistaken?"),
    ("b", "dog", 0, 0.8, 0.8, "missing?"),
    ("c", "cat", -1, 0.5, 0.5, "unknown"),
    ("a", "dog", 0, 0.7, 0.7, "missing?"),
)
NO_SCORES = predictions_of(["cat", "dog"], {})


def cards(queue=QUEUE, images=None, labels=None, groups=None, predictions=NO_SCORES):
    images = images_of("a", "b", "c", "d", "e") if images is None else images
    return cards_of(queue, images, labels or labels_of(), groups or groups_of(), predictions)


def questions_of(cards) -> list[tuple[str, str]]:
    return [(card.image_id, card.question.label) for card in cards if card.question]


def test_questions_come_one_label_after_the_other_the_most_valuable_label_first():
    # dog 0.8 + 0.7 = 1.5, cat 0.9 + 0.5 = 1.4
    assert questions_of(cards()) == [("b", "dog"), ("a", "dog"), ("a", "cat"), ("c", "cat")]


def test_an_image_with_two_questions_has_two_cards_of_one_question_each():
    assert [card.question.label for card in cards() if card.image_id == "a"] == ["dog", "cat"]


def test_the_order_does_not_depend_on_the_order_of_the_queue():
    assert one_label_at_a_time(QUEUE) == one_label_at_a_time(QUEUE.take([3, 1, 0, 2]))


def test_a_card_shows_what_the_question_is_about():
    card = cards(labels=labels_of(("a", "pet", 1), ("a", "car", 0)))[1]
    assert (card.sha256, card.uri, card.present) == ("sha-a", "a.png", ("pet",))
    assert card.question.given == 0
    assert card.question.disagreement == pytest.approx(0.7)


def test_nothing_given_disagrees_with_nothing():
    assert cards()[-1].question.disagreement == 0.0


def test_duplicates_stand_side_by_side_after_the_questions():
    shown = cards(groups=groups_of(a="a", b="b", c="c", d="g", e="g"))
    assert [(card.image_id, card.duplicate_group) for card in shown[4:]] == [("d", "g"), ("e", "g")]


def test_an_image_in_question_has_no_second_card_as_a_duplicate():
    shown = cards(groups=groups_of(a="g", b="b", c="c", d="g", e="e"))
    assert [card.image_id for card in shown] == ["b", "a", "a", "c", "d"]
    assert [card.duplicate_group for card in shown] == ["", "g", "g", "", "g"]


def test_quarantined_images_come_last_with_their_reason():
    shown = cards(images=images_of("a", "b", "c", quarantined={"broken": "not an image"}))
    assert (shown[-1].image_id, shown[-1].quarantined, shown[-1].question) == ("broken", "not an image", None)


def test_a_question_about_an_image_that_vanished_has_no_card():
    assert questions_of(cards(images=images_of("b", "c"))) == [("b", "dog"), ("c", "cat")]


def test_scores_are_shown_highest_first_and_not_without_end():
    labels = [f"label {number}" for number in range(MOST_SCORES + 5)]
    scores = [number / 100 for number in range(len(labels))]
    card = cards(predictions=predictions_of(labels, {"b": scores}))[0]
    assert card.scores[0] == (labels[-1], pytest.approx(scores[-1]))
    assert len(card.scores) == MOST_SCORES


def test_embeddings_reach_every_card_of_their_image():
    predictions = predictions_of(["cat", "dog"], {"a": [0.5, 0.5]}, embeddings_ND=np.array([[1.0, 2.0]], np.float32))
    shown = [None if card.embedding is None else card.embedding.tolist() for card in cards(predictions=predictions)]
    assert shown == [None, [1.0, 2.0], [1.0, 2.0], None]


def test_an_empty_queue_gives_no_questions():
    assert cards(queue=QUEUE.slice(0, 0)) == []


def test_only_images_with_a_duplicate_have_a_group():
    assert duplicate_groups(groups_of(a="a", b="g", c="g")) == {"b": "g", "c": "g"}


def test_the_queue_s_name_follows_its_questions_and_not_their_order_or_scores():
    again = queue_of(*[(*row.values(),) for row in QUEUE.take([2, 0, 3, 1]).to_pylist()])
    rescored = queue_of(*[(*list(row.values())[:3], 0.0, 0.0, row["reason"]) for row in QUEUE.to_pylist()])
    assert queue_id(again) == queue_id(rescored) == queue_id(QUEUE)
    assert queue_id(QUEUE.slice(1)) != queue_id(QUEUE)
