"""The first stage holds params.yaml against everything, so that DVC removes no output for a mistyped letter."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from flows.plan import plan
from tasks.core import checked
from tasks.core.errors import PipelineError
from tests.homes import merged, new_home, run


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """A project whose params were found valid, with a model of an earlier run."""
    folder = new_home(tmp_path_factory.mktemp("code") / "home", {})
    run(folder, "dvc", "repro", "-q", "code")
    (folder / "data/models/pretrained").mkdir(parents=True)
    return folder


@pytest.fixture
def edited(home):
    """`edited(overlay)` writes it into params.yaml; afterwards the file is as it was."""
    before = (home / "params.yaml").read_text(encoding="utf-8")

    def edit(overlay: dict) -> Path:
        raw = merged(yaml.safe_load(before), overlay)
        (home / "params.yaml").write_text(yaml.safe_dump(raw, sort_keys=False), encoding="utf-8")
        return home

    yield edit
    (home / "params.yaml").write_text(before, encoding="utf-8")


MISTAKES = [
    ({"pretrain": {"epochs": "twelve"}}, "params.yaml: pretrain.epochs: Input should be a valid integer"),
    ({"finetune": {"loss": {"name": "azl"}}}, "params.yaml: finetune.loss: 'azl' is unknown. Did you mean"),
]


@pytest.mark.parametrize(("overlay", "message"), MISTAKES, ids=["a wrong type", "a misspelt loss"])
def test_dvc_alone_starts_no_other_stage_on_params_that_are_not_valid(edited, overlay, message):
    home = edited(overlay)
    done = run(home, "dvc", "repro", "pretrain", check=False)
    assert done.returncode != 0
    assert next(line for line in done.stderr.splitlines() if line.startswith("error: ")).startswith(f"error: {message}")
    assert [line for line in done.stdout.splitlines() if line.startswith("Running stage")] == ["Running stage 'code':"]
    assert (home / "data/models/pretrained").is_dir()


def test_a_flow_says_the_key_when_it_plans_and_so_before_it_starts_anything(edited):
    home = edited({"sources": {"digits_coco": {"annotation": "x.json"}}})
    message = r"^params\.yaml: sources\.digits_coco: coco: unknown option 'annotation'\. Did you mean 'annotations'"
    with pytest.raises(PipelineError, match=message):
        plan(home)


def test_what_is_known_to_be_valid_is_asked_again_only_after_an_edit(edited, home):
    assert checked.is_valid(home)
    assert not checked.is_valid(edited({"seed": 8}))


def test_an_edit_of_the_code_asks_again(home):
    path = home / "tasks/nn/losses/__init__.py"
    before = path.read_bytes()
    path.write_bytes(before + b"\n")
    assert not checked.is_valid(home)
    path.write_bytes(before)
    assert checked.is_valid(home)
