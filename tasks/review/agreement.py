"""What all verdicts together say about today's images in today's vocabulary.

In this order: a verdict follows its picture to every image with the same bytes; of one person's verdicts about a label
on an image the latest counts; labels go through the taxonomy's migrations; then people vote.

    all who are sure agree           that is the state
    more say one thing than another  that is the state, and the dissent is listed
    a tie, or everybody is unsure    unknown, and a tie is listed

What a split or merge leaves without a meaning (a bat is there, but which one?) makes unknown what became of the label,
and is listed and asked again, unless somebody has given a verdict about it since.

Only one person's own times are ever compared with each other, so a wrong clock cannot decide between people.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc

from tasks.core.tables import ABSENT, ASSERTIONS, PAIR, PRESENT, UNKNOWN_STATE
from tasks.review.verdicts import Verdict
from tasks.taxonomy.migrations import migrate_verdicts, todays_labels
from tasks.taxonomy.taxonomy import Taxonomy

STATE_OF = {"present": PRESENT, "absent": ABSENT, "unsure": UNKNOWN_STATE}
P_PRESENT = {PRESENT: 1.0, ABSENT: 0.0, UNKNOWN_STATE: 0.5}
Pair = tuple[str, str]  # image_id, label

COPIES = "about another image with the same bytes"
PARTS = "absent as a whole, so absent in each part"
SUPERSEDED = "the same person said something later"
NO_MEANING = "a split or merge has left it without a meaning"


@dataclass(frozen=True)
class ResolvedVerdicts:
    """What the verdicts come to.

    active: each person's latest verdict about each pair, in today's ids and labels.
    assertions: ASSERTIONS with origin `review:<who>+<who>`, one row a pair.
    conflicts: pairs on which people are at odds.  unmatched: verdicts about no image of today, with the reason.
    ask_again: verdicts that a split or merge has left without a meaning, with the labels `now` to ask about.
    added, dropped: why there are more or fewer active verdicts than lines in the file.
    """

    active: list[Verdict]
    assertions: pa.Table
    conflicts: list[dict]
    unmatched: list[dict]
    ask_again: list[dict]
    added: Counter[str]
    dropped: Counter[str]

    @property
    def needs_review(self) -> set[Pair]:
        """Pairs that somebody should look at again: people tie, or a split or merge left no meaning."""
        tied = {(c["image_id"], c["label"]) for c in self.conflicts if c["state"] == UNKNOWN_STATE}
        return tied | {(v["image_id"], label) for v in self.ask_again for label in v["now"]}

    @property
    def resolved(self) -> set[Pair]:
        """Pairs about which nobody need be asked again."""
        return {(v.image_id, v.label) for v in self.active} - self.needs_review

    def disputed(self) -> dict[str, list[dict]]:
        """JSON-ready: what a person may want to look into."""
        return {"conflicts": self.conflicts, "unmatched": self.unmatched, "ask_again": self.ask_again}


def resolve(verdicts: Sequence[Verdict], images: pa.Table, taxonomy: Taxonomy) -> ResolvedVerdicts:
    """Verdicts of any age on today's images and labels. images: IMAGES; of quarantined ones nothing is asserted."""
    matched, unmatched = match(verdicts, images)
    active = migrated = own = latest(matched)
    stopped: list[dict] = []
    if taxonomy.migrations:
        records, stopped = migrate_verdicts(map(vars, own), taxonomy.migrations)
        migrated = [Verdict(**record) for record in records]
        active = latest(migrated)
    ask_again = _to_ask_again(stopped, active, taxonomy)
    by_vote, conflicts = count_votes(active)
    assertions = pa.concat_tables([by_vote, _left_unknown(ask_again)])

    added = Counter(
        {
            COPIES: len(matched) + len(unmatched) - len(verdicts),
            PARTS: len(migrated) + len(stopped) - len(own),
        }
    )
    dropped = Counter(verdict["why"] for verdict in unmatched)
    dropped[SUPERSEDED] = (len(matched) - len(own)) + (len(migrated) - len(active))
    dropped[NO_MEANING] = len(stopped)
    return ResolvedVerdicts(
        active=active,
        assertions=assertions.sort_by([(name, "ascending") for name in PAIR]),
        conflicts=conflicts,
        unmatched=unmatched,
        ask_again=ask_again,
        added=+added,
        dropped=+dropped,
    )


def _to_ask_again(stopped: Iterable[dict], active: Iterable[Verdict], taxonomy: Taxonomy) -> list[dict]:
    """Verdicts whose label has become something that has no verdict yet, with those labels as `now`."""
    with_verdict = {(v.image_id, v.label) for v in active}
    ask_again = []
    for verdict in stopped:
        labels = todays_labels(verdict["label"], taxonomy.migrations)
        now = [label for label in labels if (verdict["image_id"], label) not in with_verdict]
        if now:
            ask_again.append({**verdict, "now": now})
    return ask_again


def _left_unknown(ask_again: Iterable[dict]) -> pa.Table:
    """ASSERTIONS that what is to be asked again is unknown."""
    who_of: dict[Pair, set[str]] = defaultdict(set)
    for verdict in ask_again:
        for label in verdict["now"]:
            who_of[verdict["image_id"], label].add(verdict["who"])
    return _assertions([(*pair, UNKNOWN_STATE, 0.5, _origin(sorted(who))) for pair, who in sorted(who_of.items())])


def count_votes(active: Iterable[Verdict]) -> tuple[pa.Table, list[dict]]:
    """ASSERTIONS, one row a pair, and the pairs on which people are at odds. active: of `latest`."""
    votes_on: dict[Pair, list[Verdict]] = defaultdict(list)
    for verdict in active:
        votes_on[verdict.image_id, verdict.label].append(verdict)
    rows, conflicts = [], []
    for image_id, label in sorted(votes_on):
        votes = votes_on[image_id, label]
        state, who = vote(votes)
        rows.append((image_id, label, state, P_PRESENT[state], _origin(who)))
        if len({v.verdict for v in votes} - {"unsure"}) > 1:
            by_person = {v.who: v.verdict for v in sorted(votes, key=lambda v: v.who)}
            conflicts.append({"image_id": image_id, "label": label, "state": state, "verdicts": by_person})
    return _assertions(rows), conflicts


def _origin(who: Sequence[str]) -> str:
    return f"review:{'+'.join(who)}"


def _assertions(rows: Sequence[tuple]) -> pa.Table:
    columns = zip(*rows, strict=True) if rows else [[] for _ in ASSERTIONS.names]
    return pa.table([list(column) for column in columns], schema=ASSERTIONS)


def match(verdicts: Sequence[Verdict], images: pa.Table) -> tuple[list[Verdict], list[dict]]:
    """Verdicts with today's image ids, and those without an image, each with `why`.

    By the hash of the file, on every image that has it: a new id or a copy changes nothing. By id only where the
    verdict has no hash, for other bytes under the same id may be another picture.
    """
    hashes = pa.array({v.sha256 for v in verdicts if v.sha256}, pa.string())
    ids = pa.array({v.image_id for v in verdicts}, pa.string())
    wanted = pc.or_(pc.is_in(images["sha256"], hashes), pc.is_in(images["image_id"], ids))
    images_of: dict[str, list[str]] = defaultdict(list)
    status_of: dict[str, str] = {}
    for row in images.select(["image_id", "sha256", "status"]).filter(wanted).to_pylist():
        status_of[row["image_id"]] = row["status"]
        if row["sha256"]:
            images_of[row["sha256"]].append(row["image_id"])
    matched: list[Verdict] = []
    unmatched: list[dict] = []
    for verdict in verdicts:
        by_id = [verdict.image_id] if verdict.image_id in status_of else []
        same_picture = images_of.get(verdict.sha256, []) if verdict.sha256 else by_id
        usable = [image_id for image_id in same_picture if status_of[image_id] == "ok"]
        matched += [verdict if verdict.image_id == i else replace(verdict, image_id=i) for i in usable]
        if not usable:
            reasons = ("the image is quarantined", same_picture), ("the file has changed", by_id)
            why = next((why for why, holds in reasons if holds), "the image has vanished")
            unmatched.append({**vars(verdict), "why": why})
    return matched, unmatched


def latest(verdicts: Iterable[Verdict]) -> list[Verdict]:
    """Of each person's verdicts about a pair the latest; of equal times the one further down in the file."""
    kept: dict[tuple[str, str, str], Verdict] = {}
    for verdict in verdicts:
        key = verdict.image_id, verdict.label, verdict.who
        if key not in kept or verdict.moment >= kept[key].moment:
            kept[key] = verdict
    return list(kept.values())


def vote(verdicts: Sequence[Verdict]) -> tuple[int, list[str]]:
    """State of one pair, and who stands behind it, by name. verdicts: one a person, about the same pair."""
    answers = [v.verdict for v in verdicts]
    lead = answers.count("present") - answers.count("absent")
    state = PRESENT if lead > 0 else ABSENT if lead < 0 else UNKNOWN_STATE
    return state, sorted(v.who for v in verdicts if lead == 0 or STATE_OF[v.verdict] == state)
