"""README and tutorial say what is so today: their commands run, their files exist, the extension points are true."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys

import pytest

from tests.homes import run
from tests.imports import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
TUTORIAL = (ROOT / "docs/tutorial.md").read_text(encoding="utf-8")
COMMANDS = list(
    dict.fromkeys(
        line.split("  #")[0].strip()
        for block in re.findall(r"```sh\n(.*?)```", README + TUTORIAL, re.DOTALL)
        for line in block.splitlines()
        if line.strip() and not line.startswith("#")
    )
)
LASTING = (
    "make test",
    "make bench",
    "python -m flows serve",
    "python -m flows review",
    "python -m tasks serve",
    "python -m tasks review web",  # until Ctrl-C
    "python -m tasks accept",  # tests/test_end_to_end.py
    "dvc exp run",
)
PLACES = {
    "PATH": "data/raw/embedded/digits/coco",
    "WEIGHTS.safetensors": "data/models/finetuned/model.safetensors",
    "YOUR.onnx": "data/models/model.onnx",
    "IMAGES": "data/raw/embedded/digits/pool",
    "ID": "digits_coco/12",
}


def test_the_readme_shows_commands():
    assert len(COMMANDS) >= 12


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("make ")])
def test_make_targets_of_the_readme_exist(command):
    subprocess.run(["make", "-n", *command.split()[1:]], cwd=ROOT, check=True, capture_output=True)


@pytest.mark.e2e
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    "command", [c for c in COMMANDS if not c.startswith(("make ", "git ", "cd ")) and not c.startswith(LASTING)]
)
def test_commands_of_the_readme_run(home, command):
    words = [PLACES.get(word, word) for word in shlex.split(command)]
    module = words[2:] if words[:2] == ["python", "-m"] else words
    params = (home / "params.yaml").read_bytes()
    try:
        run(home, *module)
    finally:
        (home / "params.yaml").write_bytes(params)


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith(LASTING[2:5])])
def test_commands_that_keep_running_know_their_arguments(command):
    words = shlex.split(command)
    subprocess.run([sys.executable, *words[1:4], "--help"], cwd=ROOT, check=True, capture_output=True)


@pytest.mark.parametrize(
    "path", sorted(set(re.findall(r"`((?:tasks|flows|tests|docs|recipes|data)/[\w./-]+)`", README)))
)
def test_paths_of_the_readme_exist(path):
    if "NAME" in path:
        path = path.rpartition("/")[0]
    produced = path.startswith(("data/raw", "data/interim", "data/models", "data/predictions", "data/reports"))
    assert produced or (ROOT / path).exists(), path
