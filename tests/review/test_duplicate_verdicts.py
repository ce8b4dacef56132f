"""Whether pictures that look alike are duplicates: what people say, kept a line a verdict, or in tags on cards."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest

from tasks.core import tables
from tasks.core.errors import VerdictError
from tasks.core.workspace import Workspace
from tasks.params import load_params
from tasks.review.duplicate_verdicts import (
    DuplicateVerdict,
    append_duplicate_verdicts,
    distinct_pairs,
    read_duplicate_verdicts,
    verdict_of_pairs,
)
from tasks.review.recording import import_verdicts
from tasks.review.screen.tags import TaggedCard, duplicate_verdicts_of
from tasks.stages import deduplicate
from tests.review.home import new_home
from tests.review.tables_of import images_of, labels_of

NOON = "2026-01-02T12:00:00+00:00"


def says(who: str, verdict: str, *others: str, sha256: str = "b") -> DuplicateVerdict:
    return DuplicateVerdict(sha256, f"toy/{sha256}", others or ("a",), verdict, who, NOON)


def test_a_verdict_is_about_every_pair_of_the_picture_and_those_beside_it():
    assert distinct_pairs([says("ann", "not a duplicate", "a", "c")]) == {("a", "b"), ("b", "c")}


@pytest.mark.parametrize(
    ("verdicts", "together"),
    [
        ([says("ann", "not a duplicate")], "not a duplicate"),
        ([says("ann", "not a duplicate"), says("ann", "duplicate")], "duplicate"),  # a changed mind
        ([says("ann", "not a duplicate"), says("bob", "duplicate")], "duplicate"),  # even: together is safe
        ([says("ann", "not a duplicate"), says("bob", "unsure")], "not a duplicate"),
        ([says("ann", "unsure")], "unsure"),
    ],
)
def test_the_latest_word_of_each_person_counts_once(verdicts, together):
    assert verdict_of_pairs(verdicts) == {("a", "b"): together}


def test_what_is_said_again_from_the_other_side_is_no_new_line(tmp_path):
    path = tmp_path / "duplicates.jsonl"
    assert read_duplicate_verdicts(path) == []
    first, mirrored = says("ann", "not a duplicate"), says("ann", "not a duplicate", "b", sha256="a")
    assert append_duplicate_verdicts(path, [first, mirrored]) == 1
    assert append_duplicate_verdicts(path, [first]) == 0
    assert append_duplicate_verdicts(path, [says("bob", "not a duplicate")]) == 1
    assert [v.who for v in read_duplicate_verdicts(path)] == ["ann", "bob"]


@pytest.mark.parametrize("line", ["{", '{"sha256": "a"}', '{"others": 1}', "[]"])
def test_a_broken_line_is_named(tmp_path, line):
    path = tmp_path / "duplicates.jsonl"
    path.write_text(f"\n{line}\n", encoding="utf-8")
    with pytest.raises(VerdictError, match=r"duplicates\.jsonl:2: not a verdict about duplicates"):
        read_duplicate_verdicts(path)


def test_an_unknown_verdict_is_named(tmp_path):
    path = tmp_path / "duplicates.jsonl"
    append_duplicate_verdicts(path, [says("ann", "not a dupe")])
    with pytest.raises(VerdictError, match="Did you mean 'not a duplicate'"):
        read_duplicate_verdicts(path)


# ---------------------------------------------------------------- tags of the screen


def card(image: str, *tags: str, group: str = "g") -> TaggedCard:
    return TaggedCard(f"toy/{image}", image, "", "", frozenset(tags), NOON, duplicate_group=group)


def test_a_tag_is_about_the_other_pictures_of_the_card_s_group():
    cards = [card("a"), card("b", "not a duplicate"), card("c"), card("d", group="h"), card("e", group="")]
    verdicts, complaints = duplicate_verdicts_of(cards, "ann")
    assert (verdicts, complaints) == ([says("ann", "not a duplicate", "a", "c")], [])


def test_two_cards_of_one_picture_are_one_verdict():
    verdicts, _ = duplicate_verdicts_of([card("a"), card("b", "duplicate"), card("b", "duplicate")], "ann")
    assert verdicts == [says("ann", "duplicate")]


@pytest.mark.parametrize(
    ("cards", "complaint"),
    [
        ([card("b", "duplicate", group="")], "toy/b: 'duplicate': no other picture is in a group with it."),
        ([card("b", "duplicate"), card("b")], "toy/b: 'duplicate': no other picture is in a group with it."),
        (
            [card("b", "duplicate", "not a duplicate"), card("a")],
            "toy/b: is tagged not a duplicate and duplicate. Take the wrong tag off.",
        ),
    ],
)
def test_a_tag_that_says_nothing_is_named(cards, complaint):
    assert duplicate_verdicts_of(cards, "ann") == ([], [complaint])


# ---------------------------------------------------------------- to the groups


@pytest.fixture
def workspace(tmp_path, monkeypatch) -> Workspace:
    """Two pictures whose hashes differ in one bit."""
    monkeypatch.chdir(tmp_path)
    workspace = Workspace(new_home(tmp_path, port=5999).paths)
    images = images_of("toy/c", "toy/d").to_pylist()
    alike = [{**image, "phash": 0x0123456789ABCDEF ^ bit} for bit, image in enumerate(images)]
    workspace.write("mapped.images", pa.Table.from_pylist(alike, schema=tables.IMAGES))
    workspace.write("mapped.labels", labels_of(("toy/c", "cat", 1)))
    workspace.write("mapped.unknown", tables.empty(tables.UNKNOWN))
    return workspace


def groups(workspace: Workspace) -> list[str]:
    deduplicate.run(load_params())
    return workspace.read("deduplicated.groups")["group_id"].to_pylist()


def test_an_imported_answer_is_recorded_once_and_the_next_run_tells_the_pictures_apart(workspace):
    assert groups(workspace) == ["toy/c", "toy/c"]
    path = Path("answers.csv")
    path.write_text("image,label,verdict\ntoy/d,,not a duplicate\ntoy/c,cat,absent\n", encoding="utf-8")
    said = [import_verdicts(workspace, path, None, "ann") for _ in range(2)]
    assert [line.rpartition(", ")[2] for line in said] == ["2 of them new", "0 of them new"]
    assert groups(workspace) == ["toy/c", "toy/d"]
    (booked,) = json.loads((workspace.paths.ledger / "deduplicate.json").read_text())["notes"]
    assert booked == "1 pairs of pictures are no duplicates, as people say"
