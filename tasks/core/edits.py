"""What differs between two states of params.yaml: a run, and each of its stages, holds on to the values it began with.

DVC reads params.yaml when a stage has ended, and would record values that the stage never saw.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def edits(before: Mapping[str, Any], after: Mapping[str, Any], *, keys: Iterable[str] | None = None) -> list[str]:
    """`finetune.epochs: 8 -> 12` for each value that differs, in order of key.

    before, after: params.yaml, parsed.  keys: those that matter, with what is below them; None: all.
    """
    old, new = dict(_leaves(before)), dict(_leaves(after))
    differing = [key for key in sorted({*old, *new}) if old.get(key, _ABSENT) != new.get(key, _ABSENT)]
    chosen = None if keys is None else tuple(keys)
    return [
        f"{key}: {old.get(key, _ABSENT)} -> {new.get(key, _ABSENT)}"
        for key in differing
        if chosen is None or any(key == part or key.startswith(f"{part}.") for part in chosen)
    ]


_ABSENT = "(none)"


def _leaves(values: Mapping[str, Any], at: str = "") -> Iterable[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{at}{key}.")
        else:
            yield f"{at}{key}", value
