"""What makes a stage stale: the code that its result follows from under today's choices, and nothing else."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tasks.core.fingerprint import fingerprints
from tests.imports import ROOT, stage_names

TRAININGS = {"pretrain", "out_of_fold", "finetune"}


class Project:
    """A copy of the sources that a test may edit. stale(): stages whose files changed since it was made -> modules."""

    def __init__(self, folder: Path) -> None:
        self.root = folder
        shutil.copytree(ROOT / "tasks", folder / "tasks", ignore=shutil.ignore_patterns("__pycache__"))
        self.params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
        self.before = fingerprints(folder, self.params)

    def edit(self, file: str, change: Callable[[str], str]) -> None:
        path = self.root / file
        text = path.read_text(encoding="utf-8")
        assert change(text) != text, f"{file}: the edit changes nothing"
        path.write_text(change(text), encoding="utf-8")

    def stale(self) -> dict[str, set[str]]:
        now = fingerprints(self.root, self.params)
        assert now.keys() == self.before.keys()
        unlike = {stage: set(dict(now[stage].items() ^ self.before[stage].items())) for stage in now}
        return {stage: modules for stage, modules in unlike.items() if modules}


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Project:
    return Project(tmp_path_factory.mktemp("project"))


@pytest.fixture
def project(original, tmp_path) -> Project:
    """As it was; edits of one test are gone in the next."""
    copy = Project.__new__(Project)
    copy.__dict__ |= {**vars(original), "root": tmp_path, "params": yaml.safe_load(yaml.safe_dump(original.params))}
    shutil.copytree(original.root / "tasks", tmp_path / "tasks")
    return copy


def test_every_stage_but_the_first_has_a_file(original):
    assert {stage.split("@")[0] for stage in original.before} == set(stage_names()) - {"code"}
    assert {f"ingest@{source}" for source in original.params["sources"]} <= original.before.keys()


def test_the_same_sources_give_the_same_digests(project):
    assert project.stale() == {}


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("tasks/core/errors.py", lambda text: text.replace("class TagwrightError", "# why\nclass TagwrightError")),
        ("tasks/core/errors.py", lambda text: text.replace("Did you mean", "Perhaps you mean")),
        ("tasks/nn/losses/bce.py", lambda text: text.replace('"""', '"""Said otherwise. ', 1)),
        ("tasks/training/loop.py", lambda text: text.replace("\n\n\n", "\n\n\n\n\n# a comment\n\n")),
        ("tasks/params.py", lambda text: text + "\n\nclass Another(Section):\n    number: int\n"),
        ("tasks/core/ledger.py", lambda text: text.replace("self.notes.append(text)", "self.notes += [text]")),
        ("tasks/commands/explain.py", lambda text: text + "\n\nMORE = 1\n"),
        ("tasks/training/progress.py", lambda text: text + "\n\nMORE = 1\n"),
        ("tasks/nn/model.py", lambda text: text.replace("raise ModelError(", "raise ModelError('sorry ' + ")),
    ],
    ids=[
        "comment", "message", "docstring", "formatting", "schema of params", "ledger", "command", "log lines",
        "text of an error",
    ],
)  # fmt: skip
def test_what_changes_no_number_leaves_every_stage_fresh(project, file, change):
    project.edit(file, change)
    assert project.stale() == {}


def test_a_new_loss_that_nobody_chose_leaves_every_stage_fresh(project):
    (project.root / "tasks/nn/losses/new.py").write_text("class New:\n    pass\n")
    project.edit(
        "tasks/nn/losses/__init__.py",
        lambda text: text.replace('    "bce":', '    "new": New,\n    "bce":').replace(
            "from tasks.nn.losses.bce", "from tasks.nn.losses.new import New\nfrom tasks.nn.losses.bce"
        ),
    )
    assert project.stale() == {}


def test_a_maker_of_embedded_data_concerns_the_stage_that_runs_it(project):
    project.edit("tasks/demo/digits.py", lambda text: text.replace("return ", "return 0 or ", 1))
    assert project.stale().keys() == {"make_demo"}


def test_an_augmentation_that_nobody_chose_leaves_every_stage_fresh(project):
    project.edit("tasks/training/augment.py", lambda text: text.replace('    "vflip": vflip,', '    "v": vflip,'))
    assert project.stale() == {}


def test_an_edit_of_a_loss_that_nobody_chose_leaves_every_stage_fresh(project):
    project.edit("tasks/nn/losses/asl.py", lambda text: text + "\n\nMORE = 1\n")
    project.edit("tasks/nn/losses/asl.py", lambda text: text.replace("clip", "shift"))
    assert project.stale() == {}


def test_an_edit_of_the_chosen_loss_makes_the_trainings_stale_and_names_the_module(project):
    project.edit("tasks/nn/losses/bce.py", lambda text: text.replace("return ", "return 2 * ", 1))
    stale = project.stale()
    assert stale.keys() >= TRAININGS
    assert all(stale[stage] == {"tasks.nn.losses.bce"} for stage in TRAININGS)
    assert not {"split", "clean", "evaluate", "report"} & stale.keys()


def test_the_loss_of_one_training_concerns_no_other(project):
    project.params["finetune"]["loss"] = {"name": "asl"}
    project.before = fingerprints(project.root, project.params)
    project.edit("tasks/nn/losses/asl.py", lambda text: text.replace("clip", "shift"))
    assert {"finetune", "out_of_fold"} <= project.stale().keys()
    assert "pretrain" not in project.stale()


def test_the_chosen_head_concerns_whoever_runs_the_network(project):
    project.edit("tasks/nn/heads/linear.py", lambda text: text.replace("class Linear(", "class Linear(object, "))
    assert project.stale().keys() >= TRAININGS | {"predict", "export"}


def test_an_edit_of_the_report_concerns_the_report_alone(project):
    project.edit("tasks/report/page.html.j2", lambda text: text + "\n<!-- more -->\n")
    assert project.stale().keys() == {"report"}


def test_an_edit_of_the_taxonomy_retrains_nothing_by_itself(project):
    project.edit("tasks/taxonomy/taxonomy.py", lambda text: text.replace("def ids(self)", "def ids(self, more=1)"))
    stale = project.stale()
    assert "map_labels" in stale
    assert not TRAININGS & stale.keys()


def test_a_reader_concerns_the_sources_that_use_it(project):
    project.edit(
        "tasks/sources/openimages.py", lambda text: text.replace("return RawSource(", "return 0 or RawSource(")
    )
    assert project.stale() == {"ingest@digits_openimages": {"tasks.sources.openimages"}}


def test_an_edit_of_the_three_state_rule_concerns_whoever_reads_labels(project):
    project.edit("tasks/core/states.py", lambda text: text.replace("states_NC[n, c] = state", "states_NC[n, c] = 1"))
    assert project.stale().keys() >= TRAININGS | {"clean", "resample", "calibrate", "evaluate"}
    assert "make_demo" not in project.stale()
