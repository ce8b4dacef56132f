"""What came into a stage, what went out, and why the rest did not.

    ledger = Ledger("map_labels")
    ledger.num_in("labels", 1200)
    ledger.dropped("labels", 30, "no mapping for 'person/shadow'")
    ledger.added("labels", 55, "implied by the taxonomy")
    ledger.num_out("labels", 1225)
    ledger.write(path)          # raises LedgerError unless in + added - dropped == out for every unit

A unit is whatever the stage counts: "images", "labels", "proposals". A stage without a drop still writes its entry:
the report shows one line a stage.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from tasks.core.errors import LedgerError
from tasks.core.tables import write_json


class Ledger:
    """Counts of one stage, balanced when written."""

    def __init__(self, stage: str) -> None:
        self.stage = stage
        self._in: Counter[str] = Counter()
        self._out: Counter[str] = Counter()
        self._added: dict[str, Counter[str]] = {}
        self._dropped: dict[str, Counter[str]] = {}
        self._examples: dict[tuple[str, str], str] = {}
        self.notes: list[str] = []
        self.warnings: list[str] = []

    def num_in(self, unit: str, count: int) -> None:
        """`count` more of `unit` entered the stage."""
        self._in[unit] += int(count)

    def num_out(self, unit: str, count: int) -> None:
        """`count` more of `unit` left the stage."""
        self._out[unit] += int(count)

    def added(self, unit: str, count: int, reason: str) -> None:
        """The stage made `count` of `unit` itself, because of `reason`. Zero is not recorded."""
        if count:
            self._added.setdefault(unit, Counter())[reason] += int(count)

    def dropped(self, unit: str, count: int, reason: str, *, example: str = "") -> None:
        """The stage left out `count` of `unit`, because of `reason`. Zero is not recorded.

        example: the worst of them, for the terminal.
        """
        if count:
            self._dropped.setdefault(unit, Counter())[reason] += int(count)
            self._examples.setdefault((unit, reason), example)

    def book(
        self,
        unit: str,
        *,
        num_in: int,
        added: Mapping[str, int],
        dropped: Mapping[str, int],
        num_out: int,
        examples: Mapping[str, str] | None = None,
    ) -> None:
        """All of one unit at once. added, dropped: reason -> count.  examples: reason -> the worst that was dropped."""
        self.num_in(unit, num_in)
        for reason, count in added.items():
            self.added(unit, count, reason)
        for reason, count in dropped.items():
            self.dropped(unit, count, reason, example=(examples or {}).get(reason, ""))
        self.num_out(unit, num_out)

    def note(self, text: str) -> None:
        """A sentence for the report, e.g. that a recipe turned the stage off."""
        self.notes.append(text)

    def warn(self, text: str) -> None:
        """A note that a person should see at the terminal as well; "" is none."""
        if text:
            self.notes.append(text)
            self.warnings.append(text)

    def losses(self) -> list[str]:
        """What was left out, a line each reason, with how many of how many and the worst example that is known."""
        return [
            f"{count:,} of {self._in[unit]:,} {unit} left out: {reason}"
            + (f", e.g. {example}" if (example := self._examples[unit, reason]) else "")
            for unit, reasons in sorted(self._dropped.items())
            for reason, count in reasons.most_common()
        ]

    def unexplained(self) -> dict[str, int]:
        """Units whose books do not balance: in + added - dropped - out, where it is not 0."""
        units = {*self._in, *self._out, *self._added, *self._dropped}
        gaps = {
            unit: self._in[unit]
            + sum(self._added.get(unit, Counter()).values())
            - sum(self._dropped.get(unit, Counter()).values())
            - self._out[unit]
            for unit in units
        }
        return {unit: gap for unit, gap in sorted(gaps.items()) if gap}

    def as_dict(self) -> dict:
        """JSON-ready counts with sorted keys."""
        units = sorted({*self._in, *self._out, *self._added, *self._dropped})
        return {
            "stage": self.stage,
            "units": {
                unit: {
                    "in": self._in[unit],
                    "added": dict(sorted(self._added.get(unit, Counter()).items())),
                    "dropped": dict(sorted(self._dropped.get(unit, Counter()).items())),
                    "out": self._out[unit],
                }
                for unit in units
            },
            "notes": self.notes,
        }

    def write(self, path: Path) -> None:
        """Write the entry as JSON. Raises LedgerError when a unit does not balance."""
        if gaps := self.unexplained():
            text = "; ".join(
                f"{abs(gap)} {unit} {'disappeared' if gap > 0 else 'appeared'} without a reason"
                for unit, gap in gaps.items()
            )
            raise LedgerError(
                f"{self.stage}: {text}. This is a bug in the stage, not in your data: "
                f"please report it with {json.dumps(self.as_dict()['units'])}"
            )
        write_json(path, self.as_dict())
