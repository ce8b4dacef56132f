"""One module a question that a person asks: `python -m tasks NAME`.

To add one: `tasks/commands/NAME.py`, whose docstring's first line is what the list says of it, with a typer-annotated
function `command` (or an `app` of several). It is imported only when it is asked for.
"""

from __future__ import annotations

import json
from pathlib import Path

from tasks.core.errors import TableError


def read_lines(path: Path) -> list[str]:
    """Lines that are not empty. Raises TableError when the file cannot be read."""
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except OSError as error:
        raise TableError(
            f"{path}: cannot be read ({error.strerror}). Give a text file, one image id a line."
        ) from error


def print_json(value: dict) -> None:
    """One JSON object on stdout, keys sorted."""
    print(json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False))
