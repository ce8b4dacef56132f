"""The field's words: none of the words that docs/glossary.md replaced is a name in the code, or stands in the docs."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.imports import ROOT

RETIRED_NAMES = {
    "cell", "cells", "wholes", "natives", "feeds", "witness", "witnesses", "opinion", "opinions", "heard",
    "spoken", "silent", "silence", "invented", "doubt", "restate", "lots", "settle", "settled", "standing",
    "reopened", "crossfit", "judged", "cuts", "promises", "rung", "rungs", "ladder", "climb", "luck",
    "manners", "twins", "said", "told", "found",
}  # fmt: skip
"""No part of an identifier. Plain words stay: a whole batch, a hidden layer, how many were asked."""

RETIRED_IDENTIFIERS = {
    "came_in", "went_out", "own_weight", "spare_wholes", "lots_to_beat", "native_names", "calibration_images", "Judged",
    "Outcome", "Wanted", "Turns", "DenseLabels", "kinds_C",
}  # fmt: skip

RETIRED_IN_PROSE = re.compile(
    r"\b(cells?|witness(es)?|crossfit|rungs?|ladders?|in force|natives|spare_wholes|audit lots?|lots_to_beat|restated?|"
    r"own_weight|came_in|went_out|opinions?|calibration_images|invented|judged_part)\b",
    re.IGNORECASE,
)
ALLOWED = {
    "BarlowTwins",  # the method's name
    "ladder",  # the option --ladder of `ablate`, refused with its new name
}
QUOTATIONS = (
    "tests.benchmarks ladder",
    "--ladder",
    "benchmarks ladder",
    "ladder: Annotated",
    "if ladder is",
    "rows[0].cells",
    '"rung"',
    "`rung`",
    "row.cells",
    ".cells[",
    "cell phone",
)
"""Old names that a message gives the new one for, a benchmark's, the browser's own words, and a class of COCO."""


def tracked(*patterns: str) -> list[Path]:
    listed = subprocess.run(["git", "ls-files", *patterns], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [ROOT / name for name in listed.split("\n") if name and (ROOT / name).exists()]


def identifiers(path: Path) -> Iterator[tuple[str, int]]:
    """What the module names: functions, classes, arguments, variables, keyword arguments."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name, node.lineno
        elif isinstance(node, ast.arg):
            yield node.arg, node.lineno
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id, node.lineno
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr, node.lineno
        elif isinstance(node, ast.keyword) and node.arg:
            yield node.arg, node.value.lineno


def parts(name: str) -> set[str]:
    """{'barlow', 'twins'} of BarlowTwins and of barlow_twins."""
    return set(re.findall(r"[a-z]+", re.sub(r"([A-Z])", r"_\1", name).lower()))


@pytest.mark.parametrize("package", ["tasks", "flows"])
def test_no_name_of_the_code_is_a_retired_word(package):
    retired = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in tracked(f"{package}/*.py")
        for name, line in identifiers(path)
        if name not in ALLOWED and (parts(name) & RETIRED_NAMES or name in RETIRED_IDENTIFIERS)
    ]
    assert not retired, "\n".join(retired)


def test_no_page_param_table_or_message_uses_a_retired_word():
    pages = tracked("docs/*.md", "README.md", "*.yaml", "recipes/*.yaml", "data/taxonomy/*.yaml")
    files = [*pages, *tracked("tasks/*.py", "tasks/*.j2", "flows/*.py")]
    lines = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in files
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if RETIRED_IN_PROSE.search(line) and not any(quoted in line for quoted in QUOTATIONS)
    ]
    assert not lines, "\n".join(lines)


def test_the_glossary_explains_words_in_alphabetical_order():
    rows = re.findall(r"^\| ([^|]+?) \|", (ROOT / "docs/glossary.md").read_text(encoding="utf-8"), re.M)[2:]
    assert rows == sorted(rows, key=str.lower)
