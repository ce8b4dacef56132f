"""What all verdicts together say about today's images in today's vocabulary.

In this order: a verdict follows its picture to every image with the same bytes; of one person's verdicts about a label
on an image the latest counts; labels go through the taxonomy's migrations; then people vote.

    all who are sure agree           that is the state
    more say one thing than another  that is the state, and the dissent is listed
    a tie, or everybody is unsure    unknown, and a tie is listed

What a split or merge leaves without a meaning (a bat is there, but which kind?) makes unknown what became of the label,
and is listed and asked again, unless somebody has spoken about it since.

Only one person's own times are ever compared with each other, so a wrong clock cannot decide between people.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import pyarrow as pa
import pyarrow.compute as pc

from tasks.cleaning.changes import ASSERTIONS, CELL
from tasks.core.tables import ABSENT, PRESENT, UNKNOWN_STATE
from tasks.review.verdicts import Verdict
from tasks.taxonomy.migrations import migrate_verdicts, todays_labels
from tasks.taxonomy.taxonomy import Taxonomy

STATE_OF = {"present": PRESENT, "absent": ABSENT, "unsure": UNKNOWN_STATE}
Cell = tuple[str, str]  # image_id, label

COPIES = "about another image with the same bytes"
PARTS = "absent as a whole, so absent in each part"
SUPERSEDED = "the same person said something later"
NO_MEANING = "a split or merge has left it without a meaning"


@dataclass(frozen=True)
class ResolvedVerdicts:
    """What the verdicts come to.

    standing: each person's latest verdict about each cell, in today's ids and labels.
    statements: ASSERTIONS with origin `review:<who>+<who>`, one row a cell.
    conflicts: cells on which people are at odds.  unmatched: verdicts about no image of today, with the reason.
    ask_again: verdicts that a split or merge has left without a meaning, with the labels `now` to ask about.
    added, dropped: why there are more or fewer standing verdicts than lines in the file.
    """

    standing: list[Verdict]
    statements: pa.Table
    conflicts: list[dict]
    unmatched: list[dict]
    ask_again: list[dict]
    added: Counter[str]
    dropped: Counter[str]

    @property
    def reopened(self) -> set[Cell]:
        """Cells that somebody should look at again: people tie, or a split or merge has taken their word's meaning."""
        tied = {(c["image_id"], c["label"]) for c in self.conflicts if c["state"] == UNKNOWN_STATE}
        return tied | {(v["image_id"], label) for v in self.ask_again for label in v["now"]}

    @property
    def answered(self) -> set[Cell]:
        """Cells about which nobody need be asked again."""
        return {(v.image_id, v.label) for v in self.standing} - self.reopened


def resolve(verdicts: Sequence[Verdict], images: pa.Table, taxonomy: Taxonomy) -> ResolvedVerdicts:
    """Verdicts of any age on today's images and labels. images: IMAGES; of quarantined ones nothing is stated."""
    matched, unmatched = match(verdicts, images)
    standing = own = latest(matched)
    num_migrated, stopped = len(own), []
    if taxonomy.migrations:
        migrated, stopped = migrate_verdicts(map(vars, own), taxonomy.migrations)
        num_migrated, standing = len(migrated), latest(Verdict(**row) for row in migrated)
    ask_again = _to_ask_again(stopped, standing, taxonomy)
    statements, conflicts = count_votes(standing)
    added = {
        COPIES: len(matched) + len(unmatched) - len(verdicts),
        PARTS: num_migrated + len(stopped) - len(own),
    }
    superseded = len(matched) - len(own) + num_migrated - len(standing)
    dropped = Counter(v["why"] for v in unmatched) + Counter({SUPERSEDED: superseded, NO_MEANING: len(stopped)})
    statements = pa.concat_tables([statements, _left_open(ask_again)]).sort_by([(name, "ascending") for name in CELL])
    return ResolvedVerdicts(standing, statements, conflicts, unmatched, ask_again, +Counter(added), dropped)


def _to_ask_again(stopped: Iterable[dict], standing: Iterable[Verdict], taxonomy: Taxonomy) -> list[dict]:
    """Verdicts whose label has become something that nobody has judged yet, with those labels as `now`."""
    answered = {(v.image_id, v.label) for v in standing}
    found = []
    for verdict in stopped:
        labels = todays_labels(verdict["label"], taxonomy.migrations)
        now = [label for label in labels if (verdict["image_id"], label) not in answered]
        if now:
            found.append({**verdict, "now": now})
    return found


def _left_open(ask_again: Iterable[dict]) -> pa.Table:
    """ASSERTIONS that what is to be asked again is unknown."""
    who: dict[Cell, set[str]] = defaultdict(set)
    for verdict in ask_again:
        for label in verdict["now"]:
            who[verdict["image_id"], label].add(verdict["who"])
    rows = [(*cell, UNKNOWN_STATE, 0.5, f"review:{'+'.join(sorted(names))}") for cell, names in sorted(who.items())]
    return _statements(rows)


def count_votes(standing: Iterable[Verdict]) -> tuple[pa.Table, list[dict]]:
    """ASSERTIONS, one row a cell, and the cells on which people are at odds. standing: of `latest`."""
    votes_on: dict[Cell, list[Verdict]] = defaultdict(list)
    for verdict in standing:
        votes_on[verdict.image_id, verdict.label].append(verdict)
    rows, conflicts = [], []
    for image_id, label in sorted(votes_on):
        votes = votes_on[image_id, label]
        state, who = vote(votes)
        present = {PRESENT: 1.0, ABSENT: 0.0, UNKNOWN_STATE: 0.5}[state]
        rows.append((image_id, label, state, present, f"review:{'+'.join(who)}"))
        if len({v.verdict for v in votes} - {"unsure"}) > 1:
            said = {v.who: v.verdict for v in sorted(votes, key=lambda v: v.who)}
            conflicts.append({"image_id": image_id, "label": label, "state": state, "said": said})
    return _statements(rows), conflicts


def _statements(rows: Sequence[tuple]) -> pa.Table:
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
        found = images_of.get(verdict.sha256, []) if verdict.sha256 else by_id
        usable = [image_id for image_id in found if status_of[image_id] == "ok"]
        matched += [verdict if verdict.image_id == i else replace(verdict, image_id=i) for i in usable]
        if not usable:
            why = "the image is quarantined" if found else "the file has changed" if by_id else "the image has vanished"
            unmatched.append({**vars(verdict), "why": why})
    return matched, unmatched


def latest(verdicts: Iterable[Verdict]) -> list[Verdict]:
    """Of each person's verdicts about a cell the latest; of equal times the one further down in the file."""
    kept: dict[tuple[str, str, str], Verdict] = {}
    for verdict in verdicts:
        key = verdict.image_id, verdict.label, verdict.who
        if key not in kept or verdict.moment >= kept[key].moment:
            kept[key] = verdict
    return list(kept.values())


def vote(verdicts: Sequence[Verdict]) -> tuple[int, list[str]]:
    """State of one cell, and who stands behind it, by name. verdicts: one a person, about the same cell."""
    said = [v.verdict for v in verdicts]
    lead = said.count("present") - said.count("absent")
    state = PRESENT if lead > 0 else ABSENT if lead < 0 else UNKNOWN_STATE
    return state, sorted(v.who for v in verdicts if lead == 0 or STATE_OF[v.verdict] == state)


def kappas(standing: Iterable[Verdict]) -> list[dict]:
    """Agreement of every two people on the cells of which both are sure: {"who", "cells", "agree", "kappa"}.

    kappa is None where chance alone would make them agree. Source: Cohen, Educ. Psychol. Meas. 1960.
    """
    said: dict[Cell, dict[str, int]] = defaultdict(dict)
    for verdict in standing:
        if verdict.verdict != "unsure":
            said[verdict.image_id, verdict.label][verdict.who] = STATE_OF[verdict.verdict]
    pairs: dict[tuple[str, str], Counter[tuple[int, int]]] = defaultdict(Counter)
    for by_person in said.values():
        for a, b in combinations(sorted(by_person), 2):
            pairs[a, b][by_person[a], by_person[b]] += 1
    found = []
    for (a, b), counts in sorted(pairs.items()):
        total = counts.total()
        agree = (counts[0, 0] + counts[1, 1]) / total
        yes_a, yes_b = (counts[1, 0] + counts[1, 1]) / total, (counts[0, 1] + counts[1, 1]) / total
        by_chance = yes_a * yes_b + (1 - yes_a) * (1 - yes_b)
        kappa = (agree - by_chance) / (1 - by_chance) if by_chance < 1 else None
        found.append({"who": [a, b], "cells": total, "agree": agree, "kappa": kappa})
    return found
