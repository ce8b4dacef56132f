"""`init`: from files as they lie to a project that runs."""

from __future__ import annotations

import json
import shutil
import tarfile
from collections import Counter
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from tasks.__main__ import command_line
from tasks.commands.draft import present_classes
from tasks.commands.init import folds_to_test_on
from tasks.core.errors import SourceError
from tasks.core.workspace import Workspace
from tasks.params import load_params
from tasks.sources import SOURCES
from tasks.sources.layouts import find_layout, split_word
from tests.commands.layouts_of_tools import LAYOUTS, a_folder_a_label, voc_with_pictures
from tests.homes import run_stages
from tests.imports import ROOT
from tests.sources.deliveries import DELIVERIES, check_source, coco_document, touch, write_csv, write_json

KITS = ROOT.parent / "shared/data"
needs_kits = pytest.mark.skipif(not (KITS / "coco").exists(), reason="no kits of real data")


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """A folder with the repository's params and recipes, as the current one."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    shutil.copytree(ROOT / "recipes", tmp_path / "recipes")
    return tmp_path


def init(*arguments: str) -> str:
    return CliRunner().invoke(command_line("init"), ["init", *arguments], catch_exceptions=False).output


def split_counts() -> dict[str, int]:
    """Partition -> images, after `ingest`, `map_labels`, `deduplicate` and `split` on what init wrote."""
    params = load_params()
    run_stages(params, "ingest", "map_labels", "deduplicate", "split")
    partitions = Workspace(params.paths).read("splits")["partition"].to_pylist()
    return {name: partitions.count(name) for name in sorted(set(partitions))}


# ---------------------------------------------------------------- the kits


@needs_kits
def test_the_coco_kit_runs_until_the_split_without_an_edit(project):
    output = init(str(KITS / "coco"))
    assert "137 images (103 train, 34 val)" in output
    assert "80 classes declared, 73 present on an image, 73 labels drafted" in output
    params = load_params()
    assert params.make_demo.sets == {}
    assert params.model.backbone.options == {}  # no output stride of the digits
    assert params.model.image_px == [224, 224]
    assert sum(split_counts().values()) == 137


@needs_kits
def test_the_open_images_kit_has_its_250_images_and_five_classes(project):
    output = init(str(KITS / "openimages"))
    assert "250 images, no official split" in output
    assert "5 present on an image, 5 labels drafted" in output
    assert "288 label rows; a class that an image does not name is unknown" in output


@needs_kits
@pytest.mark.parametrize("count", ["508 images (371 train, 105 val, 32 test)", "5 classes declared, 5 present"])
def test_a_roboflow_export_with_xml_beside_pictures_keeps_its_splits(project, count):
    with tarfile.open(KITS / "aerial_maritime/aerial_maritime_tiled.tar") as archive:
        archive.extractall(project / "maritime", filter="data")
    assert count in init("maritime", "--dry-run")


# ---------------------------------------------------------------- what it writes


def test_a_dry_run_shows_the_difference_and_writes_nothing(project):
    DELIVERIES["coco"](project / "pets")
    before = (project / "params.yaml").read_bytes()
    output = init("pets", "--dry-run")
    assert "+  pets:" in output
    assert "data/taxonomy/pets.yaml would be written" in output
    assert (project / "params.yaml").read_bytes() == before
    assert not (project / "data").exists()


def test_comments_of_params_yaml_stay(project):
    DELIVERIES["coco"](project / "pets")
    init("pets", "--name", "mine")
    after = (project / "params.yaml").read_text(encoding="utf-8")
    assert "# 9/1, as in the album pipeline" in after
    assert list(yaml.safe_load(after)["sources"]) == ["mine"]


def test_classes_that_are_not_present_are_drafted_on_demand_only(project):
    DELIVERIES["coco"](project / "pets")
    init("pets")
    drafted = yaml.safe_load(Path("data/taxonomy/pets.yaml").read_text(encoding="utf-8"))["labels"]
    assert [label["id"] for label in drafted] == ["cat", "dog"]
    init("pets", "--all-classes")
    drafted = yaml.safe_load(Path("data/taxonomy/pets.yaml").read_text(encoding="utf-8"))["labels"]
    assert [label["id"] for label in drafted] == ["cat", "dog", "toothbrush"]


@pytest.mark.parametrize(
    ("positives", "folds"),
    [
        ([50, 60], [0]),  # a tenth of 55 is 5
        ([30], [0, 2]),  # a tenth of 30 is 3; fold 1 is for calibration
        ([1, 2, 90], [0, 2, 3]),  # no more than three tenths, whatever the labels
    ],
)
def test_as_many_folds_are_test_folds_as_the_median_label_needs(positives, folds):
    assert folds_to_test_on(positives, 10) == folds


def test_the_test_folds_are_written_where_the_source_has_no_split_of_its_own(project):
    a_folder_a_label(project / "pets")
    assert "3 of 10 folds are the test set" in init("pets")
    assert load_params().split.test_folds == [0, 2, 3]


def test_voc_s_lists_are_the_official_splits_and_no_fold_is_drawn_for_a_test(project):
    voc_with_pictures(project / "pets")
    output = init("pets/VOCdevkit/VOC2007")
    assert "3 images (2 train, 1 test)" in output
    assert "are the test set" not in output
    assert "images a class: dog 1, cat 1" in output
    source = load_params().sources["voc2007"]
    assert (source.kind, source.options) == ("voc", {"classes": ["cat", "dog"]})


def test_where_nothing_is_said_to_be_absent_what_is_not_named_is_and_that_is_said(project):
    a_folder_a_label(project / "pets")
    assert "does not name is absent (exhaustive: true, since" in init("pets")
    assert load_params().sources["pets"].options["exhaustive"] is True
    init("pets", "--option", "exhaustive=false")
    assert load_params().sources["pets"].options["exhaustive"] is False


def test_an_option_of_the_reader_is_taken_along_and_asked_for_by_name(project):
    write_csv(project / "pets/list.csv", ("image", "label", "site"), ("1.jpg", "cat", "5"))
    with pytest.raises(SourceError, match=r"`ignore_columns: \[site\]`\. Here: `--option NAME=VALUE`\."):
        init("pets")
    output = init("pets", "--option", "ignore_columns=[site]")
    assert "1 of them are not there, e.g. pets/1.jpg" in output
    assert load_params().sources["pets"].options["ignore_columns"] == ["site"]


def test_another_recipe_and_weights_from_a_file_are_written_where_no_connection_is(project):
    DELIVERIES["coco"](project / "pets")
    touch(project / "net.safetensors")
    init("pets", "--recipe", "photos_fast", "--weights", "net.safetensors")
    backbone = load_params().model.backbone
    assert (load_params().model.image_px, backbone.weights) == ([160, 160], "net.safetensors")
    assert backbone.freeze_batchnorm  # the rest of the recipe stays
    with pytest.raises(SourceError, match=r"other\.safetensors: no such file"):
        init("pets", "--weights", "other.safetensors")


def test_files_without_a_present_class_are_refused_and_change_nothing(project):
    write_json(project / "pets/instances.json", {**coco_document(), "annotations": []})
    touch(project / "pets/a.jpg")
    before = (project / "params.yaml").read_bytes()
    with pytest.raises(SourceError, match="COCO JSON with 3 images, but no class is present on any"):
        init("pets")
    assert (project / "params.yaml").read_bytes() == before


def test_what_nobody_knows_is_told_with_the_layouts_that_are_known(project):
    (project / "notes.txt").write_text("cat", encoding="utf-8")
    with pytest.raises(SourceError, match=r"notes\.txt: no layout that is known\. Known: COCO JSON.*; Pascal VOC"):
        init("notes.txt")


# ---------------------------------------------------------------- layouts


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_is_recognised_and_its_reader_reads_all_of_it(tmp_path, layout):
    write, kind, images = LAYOUTS[layout]
    write(tmp_path)
    found = find_layout(tmp_path)
    raw = SOURCES[kind]("pets", found.root, **found.options)
    assert (found.kind, Counter(raw.images["official_split"].to_pylist())) == (kind, images)
    assert present_classes(raw.labels)
    missing = [uri for uri in raw.images["uri"].to_pylist() if not Path(uri).is_file()]
    assert not missing or write is DELIVERIES["otx"]
    check_source(raw, "pets")


def test_an_annotation_file_alone_finds_the_pictures_beside_its_folder(tmp_path):
    DELIVERIES["coco"](tmp_path)
    layout = find_layout(tmp_path / "annotations/instances.json")
    assert layout.root == tmp_path
    assert layout.options == {"annotations": "annotations/instances.json", "images": "images"}


def test_two_files_of_which_none_names_a_split_are_refused(tmp_path):
    for name in ("one.json", "two.json"):
        write_json(tmp_path / name, coco_document())
    with pytest.raises(SourceError, match=r"2 annotation files that name no split each: one\.json, two\.json"):
        find_layout(tmp_path)


@pytest.mark.parametrize(
    ("name", "split"),
    [("instances_val2017", "val"), ("valid", "val"), ("TEST", "test"), ("train-annotations", "train"), ("all", None)],
)
def test_the_split_is_read_from_a_name(name, split):
    assert split_word(name) == split


def test_json_that_is_cut_off_is_no_layout(tmp_path):
    (tmp_path / "instances.json").write_text(json.dumps(coco_document())[:100], encoding="utf-8")
    with pytest.raises(SourceError, match="no layout that is known"):
        find_layout(tmp_path)


def test_files_of_another_kind_beside_are_passed_by(tmp_path):
    """An empty JSON, one of another encoding, settings, a packed table."""
    a_folder_a_label(tmp_path)
    (tmp_path / "empty.json").touch()
    (tmp_path / "other.json").write_bytes("[1]".encode("utf-16"))
    (tmp_path / "settings.yaml").write_text("threads: 4\n", encoding="utf-8")
    (tmp_path / "old.csv").write_bytes(b"\x1f\x8b\x08\x00")
    assert find_layout(tmp_path).options == {"labels": "folders"}
