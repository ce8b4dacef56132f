"""The real screen: push, open, judge in the App as a person does, pull. One database and one App for all of it."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pytest

from tasks.core import tables
from tasks.params import Params
from tests.imports import ROOT
from tests.review.home import new_home, write_taxonomy
from tests.review.tables_of import images_of

pytestmark = pytest.mark.browser
CHROMIUM = Path("/usr/bin/chromium")
RENAMED = "labels: [{id: cat, name: Cat}, {id: dog, name: Dog}]\nmigrations: [{rename: {犬: dog}}]"
PATIENCE_MS = 180_000
"""For a busy machine; nothing is measured here."""


@dataclass(frozen=True)
class RoundTrip:
    """What was observed on the way."""

    pushed: list[str]  # lines
    views: dict[str, int]  # saved view -> cards
    plotted: int  # cards in the embeddings plot
    similar: int  # cards that can be sorted by similarity
    pulled: list[str]
    verdicts: list[dict]
    written_once: bytes
    pulled_again: list[str]
    written_twice: bytes
    pulled_after_second_push: list[str]
    tags_after_second_push: dict[tuple[str, str], list[str]]
    outside: list[str]  # what appeared in the home directory


@pytest.fixture(scope="module")
def round_trip(tmp_path_factory) -> Iterator[RoundTrip]:
    for package in ("fiftyone", "playwright"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"needs {package}")
    if not CHROMIUM.exists():
        pytest.skip(f"needs {CHROMIUM}")
    from tasks.core.errors import ReviewError

    with elsewhere(tmp_path_factory.mktemp("review")) as folder:
        try:
            yield go_round(folder)
        except ReviewError as error:
            if "another FiftyOne" not in str(error):
                raise
            pytest.skip(str(error))


@contextmanager
def elsewhere(folder: Path) -> Iterator[Path]:
    """`folder` as working directory, with an empty home beside it; afterwards everything is as it was."""
    before, environment = Path.cwd(), dict(os.environ)
    (folder / "home").mkdir()
    os.chdir(folder)
    os.environ["HOME"] = str(folder / "home")
    try:
        yield folder
    finally:
        os.chdir(before)
        os.environ.clear()
        os.environ.update(environment)


def go_round(folder: Path) -> RoundTrip:
    from tasks.core.workspace import Workspace
    from tasks.review.screen import exchange
    from tasks.review.screen.connection import load_dataset
    from tasks.review.verdicts import read_verdicts

    params = new_home(folder, port=free_port())
    quarantine(params, "toy/gone", "memory://bucket/gone")  # remote, and a name that does not say what it is
    workspace = Workspace(params.paths)
    pushed = exchange.push(workspace, "toy", "Ada")
    dataset = load_dataset("toy", exchange.FOLDER)
    views = {name: len(dataset.load_saved_view(name)) for name in dataset.list_saved_views()}
    plotted = len(dataset.load_brain_results("embeddings").points)
    similar = dataset.load_brain_results("similar").total_index_size
    with opened_app() as url:
        judge_in_the_app(url)
    write_taxonomy(params, RENAMED)  # before anybody pulls
    pulled = exchange.pull(workspace, "toy", "Ada")
    verdicts = [vars(verdict) for verdict in read_verdicts(params.paths.verdicts)]
    written_once = params.paths.verdicts.read_bytes()
    pulled_again = exchange.pull(workspace, "toy", "Bob")
    written_twice = params.paths.verdicts.read_bytes()
    exchange.push(workspace, "toy", "Bob")
    after = load_dataset("toy", exchange.FOLDER).values(["image_id", "asked", "tags"])
    return RoundTrip(
        pushed,
        views,
        plotted,
        similar,
        pulled,
        verdicts,
        written_once,
        pulled_again,
        written_twice,
        pulled_after_second_push=exchange.pull(workspace, "toy", "Bob"),
        tags_after_second_push={(image, asked): tags for image, asked, tags in zip(*after, strict=True) if tags},
        outside=[str(path) for path in (folder / "home").rglob("*") if "fiftyone" in str(path).lower()],
    )


def quarantine(params: Params, image_id: str, uri: str) -> None:
    """Add an image that ingest found absent."""
    path = params.paths.mapped / "images.parquet"
    absent = images_of(quarantined={image_id: "absent file"}, uri=uri)
    tables.write_table(path, pa.concat_tables([tables.read_table(path, tables.IMAGES), absent]), tables.IMAGES)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def opened_app() -> Iterator[str]:
    """`review open` in a process of its own, as a person has it in another terminal. Yields the address it says."""
    command = "from tasks.commands.review import app; app()"
    command_line = [sys.executable, "-c", command, "open", "--no-browser"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command_line, stdout=subprocess.PIPE, text=True, bufsize=1, env=environment)
    try:
        line = process.stdout.readline()
        assert line.startswith("http://127.0.0.1:"), line
        url, _, view = line.split()[0].partition("?")
        assert view == "view=01-undecided"
        yield url
    finally:
        process.terminate()
        process.wait(timeout=60)


def judge_in_the_app(url: str) -> None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=flags)
        page = browser.new_page(viewport={"width": 1500, "height": 900})
        page.set_default_timeout(PATIENCE_MS)
        try:
            open_view(page, url, "05-cat")
            page.get_by_text("Dismiss").click()  # what FiftyOne advertises lies over the cards
            tag(page, "犬:present", cards=[1])
            answer_by_keys(page)
            wait_for_cards(page, 1)  # what was answered has left the view that is still open
            open_view(page, url, "06-hund-co")
            answer_ticked(page, "u", card=1, left=1)
            open_view(page, url, "00-queue")
            tag(page, "present", on="label", cards=[2])  # the first of the second label
            open_view(page, url, "03-duplicates")
            tag(page, "todo", cards=[0])
            answer_ticked(page, "d", card=1, left=0)  # of a group of two, so that both cards leave
        finally:
            page.screenshot(path="app.png")
            browser.close()


def open_view(page, url: str, slug: str) -> None:
    page.goto(f"{url}?view={slug}")
    page.locator('[data-cy="looker"]').first.wait_for()


def answer_by_keys(page) -> None:
    """Open the first of two cards: one key answers it and the next card opens; skipping the last one closes it."""
    page.locator('[data-cy="looker"]').first.click()
    modal = page.locator('[data-cy="modal"]')
    modal.wait_for()
    opened = page.url
    page.keyboard.press("a")
    page.wait_for_function("opened => location.href !== opened", arg=opened)
    assert modal.is_visible()
    while modal.is_visible():  # a key that comes while the last one is at work counts for nothing
        page.keyboard.press("s")
        page.wait_for_timeout(1000)


def answer_ticked(page, key: str, *, card: int, left: int) -> None:
    tick(page, card)
    page.keyboard.press(key)
    wait_for_cards(page, left)


def wait_for_cards(page, num: int) -> None:
    from playwright.sync_api import expect

    expect(page.locator('[data-cy="looker"]')).to_have_count(num, timeout=PATIENCE_MS)


def tick(page, card: int) -> None:
    looker = page.locator('[data-cy="looker"]').nth(card)
    looker.hover()
    looker.click(position={"x": 14, "y": 14})


def tag(page, text: str, *, cards: list[int], on: str = "sample") -> None:
    """Select cards by the box in their corner, write the tag, apply it, and wait until the grid shows the result."""
    for card in cards:
        tick(page, card)
    page.locator('[data-cy="action-tag-sample-labels"]').click()
    page.locator(f'[data-cy="tagger-switch-{on}"]').click()
    page.locator(f'[data-cy="{on}-tag-input"]').fill(text)
    page.locator(f'[data-cy="{on}-tag-input"]').press("Enter")
    with page.expect_response(lambda response: response.url.endswith("/tag")) as done:
        page.get_by_text("Apply", exact=True).click()
    assert done.value.ok
    page.locator('[data-cy="tagger-container"]').wait_for(state="detached")
    page.locator('[data-cy="looker"]').first.wait_for()


# ---------------------------------------------------------------- what must hold


def test_pushing_makes_one_view_a_label_and_the_common_ones(round_trip):
    assert round_trip.views == {
        "00 queue": 4,
        "01 undecided": 4,
        "02 disagreement": 3,
        "03 duplicates": 2,
        "04 quarantine": 2,
        "05 Cat?": 2,
        "06 Hund & Co?": 2,
    }
    assert round_trip.pushed[-1].startswith("4 questions in 7 views of 'toy'.")


def test_every_card_with_an_embedding_is_plotted_and_can_be_sorted_by_similarity(round_trip):
    assert round_trip.plotted == round_trip.similar == 5  # four questions and a duplicate


def test_tags_given_in_the_app_become_verdicts_under_the_name_that_a_label_has_by_then(round_trip):
    verdicts = {(v["image_id"], v["label"]): v["verdict"] for v in round_trip.verdicts}
    assert verdicts == {
        ("toy/a", "cat"): "absent",
        ("toy/b", "dog"): "present",
        ("toy/c", "dog"): "unsure",
        ("toy/a", "dog"): "present",
    }


def test_a_verdict_says_who_when_why_and_before_which_model_and_queue(round_trip):
    for verdict in round_trip.verdicts:
        assert verdict["who"] == "Ada"
        assert verdict["when"].endswith("+00:00")
        assert verdict["reason"]
        assert len(verdict["model"]) == len(verdict["queue"]) == 12
    assert {v["reason"] for v in round_trip.verdicts} == {"mistaken?", "seen in review", "unknown", "missing?"}


def test_other_tags_are_named_and_left_alone(round_trip):
    assert round_trip.pulled == [
        "tags that are no verdicts, left alone: 'todo' (1)",
        "4 new verdicts in data/review/verdicts.jsonl, 1 in data/review/duplicates.jsonl",
    ]


def test_pulling_twice_changes_nothing_whoever_pulls(round_trip):
    assert round_trip.pulled_again[-1].startswith("0 new verdicts")
    assert round_trip.written_twice == round_trip.written_once


def test_pushing_again_keeps_what_stands_on_the_cards(round_trip):
    assert round_trip.tags_after_second_push == {
        ("toy/a", "cat"): ["absent"],
        ("toy/b", "cat"): ["犬:present"],
        ("toy/a", "dog"): ["present"],
        ("toy/c", "dog"): ["not a duplicate", "todo", "unsure"],
        ("toy/d", None): ["not a duplicate"],
    }
    assert round_trip.pulled_after_second_push[-1].startswith("0 new verdicts")


def test_nothing_is_written_to_the_home_directory(round_trip):
    assert round_trip.outside == []
