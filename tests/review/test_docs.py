"""The commands of docs/review.md, as a person types them, in a small home: those that need no FiftyOne.

push, open and pull are driven in test_round_trip.py, the flow in tests/flows.
"""

from __future__ import annotations

import json
import re
import shlex
import sys
import zipfile
from pathlib import Path

import pytest

from tasks import __main__ as command_line
from tasks.params import Params
from tasks.review.verdicts import Verdict, read_verdicts
from tests.imports import ROOT
from tests.review.home import new_home

DOCS = (ROOT / "docs/review.md").read_text(encoding="utf-8")
COMMANDS = [
    line.split("  #")[0].strip()
    for block in re.findall(r"```sh\n(.*?)```", DOCS, re.DOTALL)
    for line in block.splitlines()
]
ELSEWHERE = ("python -m flows", *(f"python -m tasks review {step}" for step in ("web", "push", "open", "pull")))
PLACES = {"digits_coco/12": "toy/a", "seven": "cat"}
CSV = "image,label,verdict,who\na.png,cat,absent,eve\ntoy/b,犬,unsure,\n"
LABEL_STUDIO = [
    {
        "id": 1,
        "data": {"image": "/upload/b.png", "label": "cat"},
        "annotations": [{"result": [{"from_name": "x", "value": {"choices": ["present"]}}]}],
    }
]
CVAT = '<annotations><image name="toy/c.png"><tag label="犬"/></image></annotations>'


@pytest.fixture
def params(tmp_path, monkeypatch) -> Params:
    monkeypatch.chdir(tmp_path)
    params = new_home(tmp_path, port=5151)
    Path("answers.csv").write_text(CSV, encoding="utf-8")
    Path("label_studio.json").write_text(json.dumps(LABEL_STUDIO))
    with zipfile.ZipFile("cvat.zip", "w") as archive:
        archive.writestr("annotations.xml", CVAT)
    return params


def typed(command: str, monkeypatch, capsys) -> str:
    """What the command prints; fails when it does not end well."""
    arguments = [PLACES.get(word, word) for word in shlex.split(command)]
    monkeypatch.setattr(sys, "argv", arguments[2:])
    with pytest.raises(SystemExit) as ended:
        command_line.main()
    printed = capsys.readouterr()
    assert ended.value.code in (0, None), printed.err
    return printed.out


def recorded(params: Params) -> list[tuple[str, str, str, str]]:
    return [(v.image_id, v.label, v.verdict, v.who) for v in read_verdicts(params.paths.verdicts)]


@pytest.mark.parametrize("command", [c for c in COMMANDS if not c.startswith(ELSEWHERE)])
def test_commands_of_the_page_run_and_fit_80_columns(params, monkeypatch, capsys, command):
    monkeypatch.setenv("COLUMNS", "80")
    printed = typed(command, monkeypatch, capsys)
    assert printed
    assert max(map(len, printed.splitlines())) <= 80


def test_every_export_becomes_lines_of_the_verdicts_file(params, monkeypatch, capsys):
    for file in ("answers.csv", "label_studio.json", "cvat.zip"):
        typed(f"python -m tasks review import {file} --who ann", monkeypatch, capsys)
    assert recorded(params) == [
        ("toy/a", "cat", "absent", "eve"),
        ("toy/b", "犬", "unsure", "ann"),
        ("toy/b", "cat", "present", "ann"),
        ("toy/c", "犬", "present", "ann"),
    ]


def test_importing_twice_changes_no_byte(params, monkeypatch, capsys):
    command = "python -m tasks review import answers.csv --who ann"
    assert typed(command, monkeypatch, capsys).strip() == "2 verdicts in answers.csv (csv), 2 of them new"
    before = params.paths.verdicts.read_bytes()
    assert typed(command, monkeypatch, capsys).strip() == "2 verdicts in answers.csv (csv), 0 of them new"
    assert params.paths.verdicts.read_bytes() == before


@pytest.mark.parametrize(
    ("text", "expected", "option"),
    [
        ("image,label,verdict\ntoy/a,cat,presnt\n", "export:2: verdict: 'presnt' is none. Did you mean 'present'?", ""),
        ("image,label,verdict\ntoy/a,cat,present\ntoy/z,cat,present\n", "export:3: no image 'toy/z'", ""),
        ("a;b\n", "export: its format cannot be told", ""),
        (CSV, "--format: 'cvs' is unknown. Did you mean 'csv'?", "--format cvs"),
        (CVAT[:-3], "export: not XML", ""),
    ],
)
def test_a_wrong_export_is_one_line_and_nothing_of_it_is_imported(params, monkeypatch, capsys, text, expected, option):
    Path("export").write_text(text, encoding="utf-8")
    monkeypatch.setattr(sys, "argv", f"tasks review import export {option}".split())
    with pytest.raises(SystemExit) as ended:
        command_line.main()
    complaint = capsys.readouterr().err
    assert ended.value.code == 1
    assert expected in complaint
    assert len(complaint.splitlines()) == 1
    assert not params.paths.verdicts.exists()


def test_verdicts_of_the_other_exports_are_complete_lines(params, monkeypatch, capsys):
    typed("python -m tasks review import cvat.zip --who ann", monkeypatch, capsys)
    (verdict,) = read_verdicts(params.paths.verdicts)
    assert verdict == Verdict("toy/c", "犬", "present", "ann", verdict.when, sha256="sha-toy/c")
