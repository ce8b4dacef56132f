"""What differs between two states of params.yaml: a run, and each of its stages, holds on to the values it began with.

DVC reads params.yaml when a stage has ended, and would record values that the stage never saw.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from tasks.core.errors import ParamsError


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


def refuse_edited(stage: str, item: str, began_with: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise ParamsError where a value that dvc.yaml declares for the stage was edited while it ran.

    item: the source of a stage with `foreach`, else ''.  began_with, now: params.yaml, parsed.
    """
    if not Path("dvc.yaml").is_file():
        return
    block = yaml.safe_load(Path("dvc.yaml").read_text(encoding="utf-8"))["stages"].get(stage, {})
    keys = [key.replace("${key}", item) for key in block.get("do", block).get("params", [])]
    if edited := edits(began_with, now, keys=keys):
        raise ParamsError(
            f"params.yaml: {edited[0]} while {stage} ran, so that its result is not recorded. Set it back and run "
            "again (a training goes on where it was), or run again for the new value."
        )


_ABSENT = "(none)"


def _leaves(values: Mapping[str, Any], at: str = "") -> Iterable[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{at}{key}.")
        else:
            yield f"{at}{key}", value
