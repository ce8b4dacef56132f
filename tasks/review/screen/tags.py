"""What tags on cards mean.

    present | absent | unsure       about the label that the card asks about
    LABEL:present (or absent, …)    about LABEL, by its id or the name shown, on any card
    not a duplicate | duplicate     about the card's picture and the others of its group
    why: TEXT                       the reason of this card's judgements, also when it is given later

It is the same whether the card is tagged or the question shown on it. Other tags are the person's own and left alone.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from tasks.core.errors import did_you_mean
from tasks.review.duplicate_verdicts import DISTINCT, DUPLICATE, DuplicateVerdict
from tasks.review.screen.cards import Card

VERDICTS = ("present", "absent", "unsure")
DUPLICATE_VERDICTS = (DISTINCT, DUPLICATE)
WHY = "why:"
UNASKED = "seen in review"
"""Reason of a judgement about a label that nobody asked about."""


@dataclass(frozen=True)
class Judgement:
    """One person's answer about one (image, label)."""

    image_id: str
    sha256: str
    label: str
    verdict: str  # one of VERDICTS
    who: str
    when: str  # ISO 8601, UTC
    reason: str
    explained: str = ""  # when the person was last seen to give the reason, "" for one that nobody gave


@dataclass(frozen=True)
class TaggedCard:
    """A card as the person left it."""

    image_id: str
    sha256: str
    asked: str  # label of its question, "" for a card without one
    reason: str  # why it was asked
    tags: frozenset[str]  # on the card and on its question
    touched: str  # when it was last changed, ISO 8601, UTC
    pulled: Mapping[str, tuple[str, str, str]] = field(default_factory=dict)
    """label -> (verdict, who, when) of what was pulled from this card before: a tag itself bears no name."""
    duplicate_group: str = ""


def judgements_of(cards: Iterable[TaggedCard], names: Mapping[str, str], who: str) -> tuple[list[Judgement], list[str]]:
    """Judgements sorted by image, then label; and one line about each tag that cannot be taken as one.

    names: label id -> name shown.  who: the author of every tag that was not pulled before.
    Tags that contradict each other about one (image, label) give no judgement.
    """
    bearers = Counter(names.values())  # a name that two labels share says neither
    label_of = {name: label for label, name in names.items() if bearers[name] == 1} | {label: label for label in names}
    answers: dict[tuple[str, str], dict[str, Judgement]] = defaultdict(dict)
    complaints: list[str] = []
    strangers: Counter[str] = Counter()
    for card in cards:
        for written, verdict, tag in _answers(card):
            label = label_of.get(written)
            if verdict not in VERDICTS:
                strangers[tag] += 1
            elif not written:
                complaints.append(f"{card.image_id}: this card asks nothing, so write LABEL:{tag} instead of '{tag}'.")
            elif label is None:
                complaints.append(f"{card.image_id}: tag '{tag}': no label '{written}'. {did_you_mean(written, names)}")
            else:
                answers[card.image_id, label].setdefault(verdict, _judgement(card, label, verdict, who))
    judgements = []
    for (image_id, label), by_verdict in sorted(answers.items()):
        if len(by_verdict) > 1:
            tags = " and ".join(sorted(by_verdict))
            complaints.append(f"{image_id}: '{label}' is tagged {tags}. Take the wrong tag off and pull again.")
        else:
            judgements.extend(by_verdict.values())
    if strangers:
        listed = ", ".join(f"'{tag}' ({count})" for tag, count in sorted(strangers.items()))
        complaints.append(f"tags that are no verdicts, left alone: {listed}")
    return judgements, complaints


def duplicate_verdicts_of(cards: Iterable[TaggedCard], who: str) -> tuple[list[DuplicateVerdict], list[str]]:
    """What tags say of the pictures of a group, one verdict a picture; and a line about each tag that says nothing.

    who: the author; a tag itself bears no name.
    """
    groups: dict[str, list[TaggedCard]] = defaultdict(list)
    for card in cards:
        groups[card.duplicate_group].append(card)
    verdicts, complaints = {}, []
    for group, members in groups.items():
        for card in members:
            tags = [tag for tag in DUPLICATE_VERDICTS if tag in card.tags]
            others = tuple(sorted({m.sha256 for m in members} - {card.sha256, ""})) if group and card.sha256 else ()
            if tags and not others:
                complaints.append(f"{card.image_id}: '{tags[0]}': no other picture is in a group with it.")
            elif len(tags) > 1:
                complaints.append(f"{card.image_id}: is tagged {' and '.join(tags)}. Take the wrong tag off.")
            elif tags:
                verdict = DuplicateVerdict(card.sha256, card.image_id, others, tags[0], who, card.touched)
                verdicts[card.sha256] = verdict
    return list(verdicts.values()), complaints


def _answers(card: TaggedCard) -> Iterator[tuple[str, str, str]]:
    """(label as written, verdict, tag) of every tag except a reason; label and verdict may be anything."""
    for tag in sorted(card.tags):
        if not tag.startswith(WHY) and tag not in DUPLICATE_VERDICTS:
            label, colon, verdict = tag.rpartition(":")
            yield (label.strip() if colon else card.asked), verdict.strip().lower(), tag


def _judgement(card: TaggedCard, label: str, verdict: str, who: str) -> Judgement:
    before = card.pulled.get(label, ("", "", ""))
    author, when = before[1:] if before[0] == verdict else (who, card.touched)
    why = next((tag[len(WHY) :].strip() for tag in sorted(card.tags) if tag.startswith(WHY)), "")
    reason = why or (card.reason if label == card.asked else UNASKED)
    return Judgement(card.image_id, card.sha256, label, verdict, author, when, reason, card.touched if why else "")


def new_judgements(judgements: Iterable[Judgement], verdicts: Iterable[Mapping]) -> list[Judgement]:
    """Judgements that differ from what the same person last said about the same label of the same image.

    A reason counts only where a person gave it, for that of the question changes by itself; one that was given after
    the verdict bears its own time.
    verdicts: rows of the verdicts' file in its order, with sha256, image_id, label, verdict, who and reason.
    """
    last = {(v["sha256"] or v["image_id"], v["label"], v["who"]): (v["verdict"], v["reason"]) for v in verdicts}
    new = []
    for j in judgements:
        verdict, reason = last.get((j.sha256 or j.image_id, j.label, j.who), ("", ""))
        if verdict != j.verdict:
            new.append(j)
        elif j.explained and reason != j.reason:
            new.append(replace(j, when=j.explained))
    return new


def pulled_from(cards: Sequence[TaggedCard], judgements: Iterable[Judgement]) -> list[dict[str, tuple[str, str, str]]]:
    """Of each card, what is pulled from it now: label -> (verdict, who, when)."""
    by_image: dict[str, dict[str, tuple[str, str, str]]] = defaultdict(dict)
    for j in judgements:
        by_image[j.image_id][j.label] = (j.verdict, j.who, j.when)
    return [by_image.get(card.image_id, {}) for card in cards]


def renamed(card: TaggedCard, today: Callable[[str], str]) -> TaggedCard:
    """The card with its question under today's name; what was pulled from it under both, since its tags stay."""
    pulled = {today(label): verdict for label, verdict in card.pulled.items()}
    return replace(card, asked=today(card.asked), pulled={**card.pulled, **pulled})


def carried_over(cards: Sequence[Card], before: Iterable[TaggedCard]) -> list[TaggedCard | None]:
    """What stood on each card when it was last shown, None for a new card: pushing again takes nothing off."""
    known = {(card.image_id, card.asked): card for card in before}
    return [known.get((card.image_id, card.question.label if card.question else "")) for card in cards]
