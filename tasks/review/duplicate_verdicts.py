"""data/review/duplicates.jsonl: whether pictures that look alike are duplicates, as people judged, a line a verdict.

    {"sha256": "9f…", "image_id": "coco/140", "others": ["ab…"], "verdict": "not a duplicate", "who": "ann",
     "when": "2026-05-01T09:30:00+00:00"}

others: sha256 of the pictures beside which this one was judged, so that one that comes later is compared anew.
Lines are only ever appended, and `deduplicate` alone reads them. A pair whose latest verdicts, one a person, say more
often "not a duplicate" than "duplicate" is told apart; where they are even it stays together, since a duplicate on
both sides of a split flatters every figure and a needless group costs nothing.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tasks.core.atomic_files import append_lines, locked
from tasks.core.errors import VerdictError, did_you_mean

DUPLICATE, DISTINCT, UNSURE = "duplicate", "not a duplicate", "unsure"
VERDICTS = (DISTINCT, DUPLICATE, UNSURE)
Pair = tuple[str, str]
"""sha256 of two pictures, the smaller first."""


@dataclass(frozen=True)
class DuplicateVerdict:
    """One line of the file."""

    sha256: str
    image_id: str
    others: tuple[str, ...]
    verdict: str  # one of VERDICTS
    who: str
    when: str  # ISO 8601 with a time zone

    @property
    def pairs(self) -> list[Pair]:
        return [(min(self.sha256, other), max(self.sha256, other)) for other in self.others if other != self.sha256]


def read_duplicate_verdicts(path: Path) -> list[DuplicateVerdict]:
    """All lines in the file's order; none when there is no file. Raises VerdictError naming line and field."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8-sig").split("\n")
    return [_parse_line(line, f"{path}:{number}") for number, line in enumerate(lines, start=1) if line.strip()]


def _parse_line(line: str, where: str) -> DuplicateVerdict:
    try:
        raw = json.loads(line)
        verdict = DuplicateVerdict(**{**raw, "others": tuple(raw["others"])})
    except (ValueError, TypeError, KeyError) as error:
        raise VerdictError(f"{where}: not a verdict about duplicates ({error}). Mend the line or delete it.") from error
    if verdict.verdict not in VERDICTS:
        raise VerdictError(f"{where}: verdict: '{verdict.verdict}' is none. {did_you_mean(verdict.verdict, VERDICTS)}")
    return verdict


def append_duplicate_verdicts(path: Path, verdicts: Iterable[DuplicateVerdict]) -> int:
    """Add those that say something new of some pair; returns how many. Several processes may append at once."""
    with locked(path):
        last = {(v.who, pair): v.verdict for v in read_duplicate_verdicts(path) for pair in v.pairs}
        lines = []
        for verdict in verdicts:
            if any(last.get((verdict.who, pair)) != verdict.verdict for pair in verdict.pairs):
                last |= {(verdict.who, pair): verdict.verdict for pair in verdict.pairs}
                lines.append(json.dumps(asdict(verdict), ensure_ascii=False))
        if lines:
            append_lines(path, lines)
    return len(lines)


def verdict_of_pairs(verdicts: Iterable[DuplicateVerdict]) -> dict[Pair, str]:
    """What people say of each pair together: one of VERDICTS."""
    of_pair: dict[Pair, dict[str, str]] = defaultdict(dict)
    for verdict in verdicts:
        for pair in verdict.pairs:
            of_pair[pair][verdict.who] = verdict.verdict

    def together(by_person: Sequence[str]) -> str:
        lead = by_person.count(DISTINCT) - by_person.count(DUPLICATE)
        return DISTINCT if lead > 0 else DUPLICATE if DUPLICATE in by_person else UNSURE

    return {pair: together(list(by_person.values())) for pair, by_person in of_pair.items()}


def distinct_pairs(verdicts: Iterable[DuplicateVerdict]) -> set[Pair]:
    """The pairs that are told apart."""
    return {pair for pair, verdict in verdict_of_pairs(verdicts).items() if verdict == DISTINCT}
