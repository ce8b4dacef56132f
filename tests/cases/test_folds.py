"""Cases: a picture keeps its fold, whatever an export calls it, and frames of one camera keep their labels."""

from __future__ import annotations

import json

from tests.cases.project import picture

STAGES = ("ingest", "map_labels", "deduplicate", "split")


def sides(case) -> dict[str, tuple[str, int]]:
    """Content -> partition and fold."""
    images, splits = case.workspace.read("mapped.images"), case.workspace.read("splits")
    content_of = dict(zip(images["image_id"].to_pylist(), images["sha256"].to_pylist(), strict=True))
    return {content_of[row["image_id"]]: (row["partition"], row["fold"]) for row in splits.to_pylist()}


def test_the_same_pictures_exported_again_with_one_more_in_front_keep_their_folds(project):
    case = project("export_again_ids_shifted")
    case.run(*STAGES)
    before = sides(case)
    path = case.folder / "raw/a.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    for image in document["images"]:
        image["id"] += 1
    for annotation in document["annotations"]:
        annotation["image_id"] += 1
    document["images"].insert(0, {"id": 1, "file_name": "a000.jpg"})
    path.write_text(json.dumps(document), encoding="utf-8")
    case.run(*STAGES)
    after = sides(case)
    assert len(before) == 60
    assert len(after) == 61
    assert {content: after[content] for content in before} == before


def test_pictures_that_are_away_for_a_run_keep_their_folds_when_they_return(project):
    case = project("export_again_ids_shifted")
    case.run(*STAGES)
    before = sides(case)
    away = sorted((case.folder / "raw/images").glob("b0[0-1]*.jpg"))[:8]
    kept = {path: path.read_bytes() for path in away}
    for path in away:
        path.unlink()
    case.run(*STAGES)
    assert len(sides(case)) == 60 - len(away)
    for path, data in kept.items():
        path.write_bytes(data)
    case.run(*STAGES)
    assert sides(case) == before


def test_a_picture_that_is_saved_anew_under_its_name_keeps_its_fold(project):
    case = project("export_again_ids_shifted")
    case.run(*STAGES)
    before = {row["image_id"]: row["fold"] for row in case.workspace.read("splits").to_pylist()}
    picture(case.folder / "raw/images/b001.jpg", seed=99)
    case.run(*STAGES)
    assert {row["image_id"]: row["fold"] for row in case.workspace.read("splits").to_pylist()} == before
