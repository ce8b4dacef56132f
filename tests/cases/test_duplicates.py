"""Cases: near duplicates stand together in the split and keep their own labels; equal bytes must agree."""

from __future__ import annotations

import shutil

import pytest

from tests.cases.project import coco_file, picture

STAGES = ("ingest", "map_labels", "deduplicate")
CAT_AND_DOG = [{"id": name, "from": {"coco": [name]}} for name in ("cat", "dog")]


def test_frames_of_a_fixed_camera_are_one_group_and_keep_what_distinguishes_them(project):
    case = project("fixed_camera")
    case.run(*STAGES, "split")
    groups = case.workspace.read("deduplicated.groups")["group_id"].to_pylist()
    assert len(set(groups)) < len(groups)
    assert case.labels("deduplicated.labels") == case.labels("mapped.labels")
    assert case.workspace.read("deduplicated.unknown").num_rows == 0
    assert case.workspace.read("duplicates_report")["conflicts"] == []


def test_near_images_lose_what_they_disagree_on_where_the_option_says_so(project):
    case = project("fixed_camera", deduplicate={"resolve": "near"})
    case.run(*STAGES)
    assert case.workspace.read("deduplicated.unknown").num_rows > 0


@pytest.mark.parametrize("resolve", ["exact", "near"])
def test_equal_bytes_must_agree_under_both_options(project, tmp_path, resolve):
    picture(tmp_path / "images/a.jpg")
    shutil.copy(tmp_path / "images/a.jpg", tmp_path / "images/b.jpg")
    coco_file(tmp_path / "a.json", {"a.jpg": ["cat"], "b.jpg": ["dog"]})
    source = {"kind": "coco", "path": ".", "annotations": "a.json"}
    case = project(sources={"s": source}, labels=CAT_AND_DOG, deduplicate={"resolve": resolve})
    case.run(*STAGES)
    assert case.labels("deduplicated.labels") == {}
    assert case.workspace.read("deduplicated.unknown").num_rows == 4
