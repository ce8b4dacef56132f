"""docs/recipes_checklist.md names modules and tests: each is there, so that a renamed test leaves no box ticked."""

from __future__ import annotations

import re

import pytest

from tests.imports import ROOT

TEXT = (ROOT / "docs/recipes_checklist.md").read_text(encoding="utf-8")
ROWS = [line for line in TEXT.splitlines() if line.startswith("| ") and not line.startswith("| component")]
NAMED = r"`([\w./-]+\.(?:py|yaml))(?:::(\w+))?`|`(test_\w+)`"


def found(path: str):
    """The file, looked up from the root and from the packages that the page abbreviates."""
    folders = (ROOT, ROOT / "tasks", ROOT / "tests", ROOT / "tasks/nn", ROOT / "tests/nn")
    return next((folder / path for folder in folders if (folder / path).is_file()), None)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split("|")[1].strip())
def test_every_module_and_test_of_a_row_is_there(row):
    file = None
    for path, test, bare in re.findall(NAMED, row):
        if path:
            file = found(path)
            assert file is not None, path
        if test or bare:
            assert f"def {test or bare}(" in file.read_text(encoding="utf-8"), (file, test or bare)


def test_every_row_says_where_it_lives_and_what_holds_it():
    assert len(ROWS) > 60
    assert not [row for row in ROWS if len([cell for cell in row.strip("| ").split("|") if cell.strip()]) != 3]
