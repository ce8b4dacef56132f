"""`draft`: a first taxonomy of the classes that occur, written only when it is whole."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from tasks.__main__ import command_line
from tasks.core.errors import ParamsError, TableError
from tasks.core.tables import LABELS
from tasks.core.workspace import Workspace
from tasks.params import Params, load_params
from tasks.sources.openimages_tables import read_class_descriptions
from tasks.taxonomy.drafts import draft_taxonomy
from tests.imports import ROOT

NAMES = ROOT.parent / "shared/data/openimages/oidv6-class-descriptions.csv"


@pytest.fixture
def params(tmp_path, monkeypatch) -> Params:
    """An ingested source that declares three classes: one present, one verified absent, one never named."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    params = load_params()
    rows = [("digits_coco/1", "dog", 1, 1.0, "annotation"), ("digits_coco/1", "cat", 0, 1.0, "verified")]
    write_ingested(params, rows)
    return params


def write_ingested(params: Params, rows: list[tuple]) -> None:
    labels = LABELS.empty_table().from_pylist([dict(zip(LABELS.names, row, strict=True)) for row in rows], LABELS)
    workspace = Workspace(params.paths)
    workspace.write("ingested.vocabulary", {"dog": "dog", "cat": "cat", "yak": "yak"}, source="digits_coco")
    workspace.write("ingested.labels", labels, source="digits_coco")


def drafted(*arguments: str) -> str:
    done = CliRunner().invoke(command_line("draft"), ["draft", "digits_coco", *arguments], catch_exceptions=False)
    return done.output


def ids(text: str) -> list[str]:
    return [label["id"] for label in yaml.safe_load(text)["labels"]]


def test_only_classes_that_are_present_somewhere_are_drafted(params):
    assert ids(drafted()) == ["dog"]


def test_every_declared_class_is_drafted_on_demand(params):
    assert ids(drafted("--all")) == ["cat", "dog", "yak"]


def test_a_draft_goes_to_a_file(params):
    assert drafted("--out", "mine/taxonomy.yaml") == "mine/taxonomy.yaml written\n"
    assert ids(Path("mine/taxonomy.yaml").read_text(encoding="utf-8")) == ["dog"]


def test_a_draft_that_fails_leaves_the_file_as_it_was(params):
    Path("taxonomy.yaml").write_text("labels: []\n", encoding="utf-8")
    write_ingested(params, [])
    with pytest.raises(TableError, match="no class is present on any image"):
        drafted("--out", "taxonomy.yaml")
    assert Path("taxonomy.yaml").read_text(encoding="utf-8") == "labels: []\n"


def test_a_source_that_is_not_there_is_told_with_the_nearest(params):
    with pytest.raises(ParamsError, match="Did you mean 'digits_coco'"):
        CliRunner().invoke(command_line("draft"), ["draft", "digits_coc"], catch_exceptions=False)


def test_what_is_implied_through_a_class_that_is_not_drafted_stays_implied():
    parents = {"/m/puppy": {"/m/dog"}, "/m/dog": {"/m/animal"}, "/m/animal": set()}
    text = draft_taxonomy(parents, {"/m/puppy": "Puppy", "/m/animal": "Animal"}, "openimages")
    assert yaml.safe_load(text)["labels"][1]["implies"] == ["animal"]


@pytest.mark.skipif(not NAMES.exists(), reason="no Open Images kit")
@pytest.mark.timeout(300)
def test_all_names_of_open_images_become_labels_with_ids_of_their_own():
    names = read_class_descriptions(NAMES)
    labels = yaml.load(draft_taxonomy(dict.fromkeys(names, ()), names, "openimages"), yaml.CSafeLoader)["labels"]
    assert len({label["id"] for label in labels}) == len(labels) == len(names) == 19_994
