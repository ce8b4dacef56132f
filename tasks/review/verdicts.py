"""data/review/verdicts.jsonl: what people said about labels, one JSON object a line, under version control.

    {"sha256": "9f…", "image_id": "coco/139", "label": "forest", "verdict": "present", "who": "ann",
     "when": "2026-05-01T09:30:00+00:00", "reason": "missing?", "model": "3 folds", "queue": "4be1f…"}

sha256, of the image file, says which picture was judged; image_id is for people and for old files without a hash.
verdict: present | absent | unsure.  when: ISO 8601 with a time zone.  reason, model, queue: free text, may be empty.
Lines are only ever appended. A person who changes their mind adds a line.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from tasks.core.atomic_files import append_lines, locked
from tasks.core.errors import VerdictError, did_you_mean
from tasks.core.names import unfit
from tasks.taxonomy.taxonomy import Taxonomy

VERDICTS = ("present", "absent", "unsure")
FIELDS = ("sha256", "image_id", "label", "verdict", "who", "when", "reason", "model", "queue")  # in the file's order
REQUIRED = ("image_id", "label", "verdict", "who", "when")


@dataclass(frozen=True)
class Verdict:
    """One line of the file."""

    image_id: str
    label: str
    verdict: str  # one of VERDICTS
    who: str
    when: str  # ISO 8601 with a time zone
    sha256: str = ""
    reason: str = ""
    model: str = ""
    queue: str = ""

    @property
    def moment(self) -> datetime:
        return datetime.fromisoformat(self.when)


def read_verdicts(path: Path, taxonomy: Taxonomy | None = None) -> list[Verdict]:
    """All verdicts in the file's order; none when there is no file. Raises VerdictError naming line and field."""
    if not path.exists():
        return []
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise VerdictError(f"{path}: not UTF-8 (byte {error.start}). Save it as UTF-8.") from error
    return parse_verdicts(text, taxonomy, where=str(path))


def parse_verdicts(text: str, taxonomy: Taxonomy | None = None, *, where: str = "verdicts") -> list[Verdict]:
    """Verdicts of JSON lines; empty lines are skipped.

    taxonomy: if given, every label must be one of its ids, or one that its migrations retired.
    """
    known = known_labels(taxonomy) if taxonomy is not None else None
    verdicts = []
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            verdicts.append(_parse_line(line, known, f"{where}:{number}"))
    return verdicts


def known_labels(taxonomy: Taxonomy) -> dict[str, str]:
    """Composed form of each label that a verdict may name -> the id as the taxonomy writes it.

    Keyboards of some systems type é as two characters; nobody sees the difference.
    """
    retired = {label for step in taxonomy.migrations for label in step.retired}
    return {unicodedata.normalize("NFC", label): label for label in (*sorted(retired), *taxonomy.ids)}


def _parse_line(line: str, known: dict[str, str] | None, where: str) -> Verdict:
    try:
        raw = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise VerdictError(f"{where}: not JSON ({error}). Mend the line or delete it.") from error
    if not isinstance(raw, dict):
        raise VerdictError(f"{where}: expected an object {{…}}, found {type(raw).__name__}.")
    return check_verdict(raw, known, where=where)


def check_verdict(raw: Mapping[str, object], known: Mapping[str, str] | None, *, where: str) -> Verdict:
    """A verdict of plain fields. known: of `known_labels`; None accepts any label.

    Raises VerdictError: where, the field, what was found, what is expected.
    """
    for name in raw.keys() - set(FIELDS):
        raise VerdictError(f"{where}: unknown field '{name}'. {did_you_mean(name, FIELDS)}")
    for name in REQUIRED:
        if name not in raw:
            raise VerdictError(f"{where}: field '{name}' is missing.")
    for name, value in raw.items():
        if not isinstance(value, str):
            raise VerdictError(f"{where}: {name}: expected text, found {json.dumps(value)}.")
        if any("\ud800" <= char <= "\udfff" for char in value):
            raise VerdictError(f"{where}: {name}: {value!a} holds half a character (lone surrogate). Type it anew.")
        if name in REQUIRED and not value.strip():
            raise VerdictError(f"{where}: {name}: must not be empty.")
    if wrong := unfit(str(raw["who"])):
        raise VerdictError(f"{where}: who: {raw['who']!a} {wrong}. Write the person's name.")
    verdict = Verdict(**raw)
    if verdict.verdict not in VERDICTS:
        raise VerdictError(f"{where}: verdict: '{verdict.verdict}' is none. {did_you_mean(verdict.verdict, VERDICTS)}")
    _check_time(verdict.when, where)
    if known is None:
        return verdict
    label = known.get(unicodedata.normalize("NFC", verdict.label))
    if label is None:
        raise VerdictError(f"{where}: label: no label '{verdict.label}'. {did_you_mean(verdict.label, known.values())}")
    return verdict if label == verdict.label else replace(verdict, label=label)


def _check_time(when: str, where: str) -> None:
    try:
        zone = datetime.fromisoformat(when).tzinfo
    except ValueError:
        zone = None
    if zone is None:
        example = "2026-05-01T09:30:00+00:00"
        raise VerdictError(f"{where}: when: '{when}' is no time with a time zone. Write it like {example}.")


# ---------------------------------------------------------------- writing


def append_verdicts(path: Path, verdicts: Iterable[Verdict]) -> int:
    """Add the verdicts that say something new at the end of the file; returns how many.

    One that differs from the same person's last verdict on the same label of the same image only in its time says
    nothing new, and neither does one that stands in the file word for word, so that pulling or importing twice leaves
    every byte as it was, also after a changed mind. Several processes may append at once: each waits for the other.
    """
    with locked(path):
        return _append_new(path, verdicts)


def _append_new(path: Path, verdicts: Iterable[Verdict]) -> int:
    before = read_verdicts(path)
    last = {_who_on_what(v): _content(v) for v in before}
    recorded = {(_who_on_what(v), v.when, _content(v)) for v in before}
    lines = []
    for verdict in verdicts:
        check_verdict(vars(verdict), None, where="new verdict")
        who_on_what, content = _who_on_what(verdict), _content(verdict)
        if last.get(who_on_what) != content and (who_on_what, verdict.when, content) not in recorded:
            last[who_on_what] = content
            lines.append(json.dumps({name: getattr(verdict, name) for name in FIELDS}, ensure_ascii=False))
    if lines:
        append_lines(path, lines)
    return len(lines)


def _who_on_what(verdict: Verdict) -> tuple[str, str, str]:
    return verdict.who, verdict.sha256 or verdict.image_id, verdict.label


def _content(verdict: Verdict) -> tuple[str, ...]:
    return verdict.verdict, verdict.reason, verdict.model, verdict.queue
