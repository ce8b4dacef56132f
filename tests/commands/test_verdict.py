"""What reaches the verdicts' file by import and by pull; the screen that is pulled from is made up."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.core.workspace import Workspace
from tasks.params import Params
from tasks.review import recording
from tasks.review.last_run import LastRun
from tasks.review.screen import dataset as screen
from tasks.review.screen import exchange
from tasks.review.screen.tags import TaggedCard
from tasks.review.verdicts import read_verdicts
from tests.review.home import LABELS, new_home, write_taxonomy

CVAT = '<annotations><meta><dumped>{}</dumped></meta><image name="toy/a"><tag label="{}"/></image></annotations>'
LONG_AGO, EARLIER, FUTURE = (f"{year}-01-01T00:00:00+00:00" for year in (2020, 2021, 2099))


@pytest.fixture
def params(tmp_path, monkeypatch) -> Params:
    monkeypatch.chdir(tmp_path)
    return new_home(tmp_path, port=5151)


def answers(params: Params) -> list[str]:
    return [verdict.verdict for verdict in read_verdicts(params.paths.verdicts)]


def states(params: Params) -> list[int]:
    return LastRun(Workspace(params.paths)).resolved_verdicts().assertions["state"].to_pylist()


# ---------------------------------------------------------------- import


def bring_in(params: Params, name: str, text: str, *, changed: int = 0) -> str:
    """Import a file of this content, last changed at this second since 1970."""
    path = Path(name)
    path.write_text(text, encoding="utf-8")
    os.utime(path, (changed, changed))
    return recording.import_verdicts(Workspace(params.paths), path, None, "Ada")


def test_a_copied_table_does_not_outdate_a_changed_mind(params):
    table = "image,label,verdict\ntoy/a,cat,present\n"
    bring_in(params, "a.csv", table, changed=1_600_000_000)
    recording.record_verdict(Workspace(params.paths), "toy/a", "cat", "absent", "Ada")
    before = params.paths.verdicts.read_bytes()
    assert bring_in(params, "a.csv", table, changed=4_000_000_000).endswith("(csv), 0 of them new")
    assert params.paths.verdicts.read_bytes() == before
    assert states(params) == [0]


def test_a_later_cvat_export_of_the_same_tags_does_not_outdate_a_changed_mind(params):
    bring_in(params, "a.xml", CVAT.format(EARLIER, "cat"))
    recording.record_verdict(Workspace(params.paths), "toy/a", "cat", "absent", "Ada")
    assert bring_in(params, "a.xml", CVAT.format(FUTURE, "cat")).endswith("(cvat), 0 of them new")
    assert states(params) == [0]


def test_an_answer_that_its_author_never_gave_is_new_whatever_others_answers(params):
    bring_in(params, "a.csv", "image,label,verdict,who\ntoy/a,cat,present,Bob\n")
    assert bring_in(params, "a.csv", "image,label,verdict\ntoy/a,cat,present\n").endswith("1 of them new")
    assert bring_in(params, "a.csv", "image,label,verdict\ntoy/a,cat,absent\n").endswith("1 of them new")


def test_who_returns_to_an_earlier_answer_counts_where_the_table_says_when(params):
    table = "image,label,verdict,when\ntoy/a,cat,{},{}\n"
    for verdict, when in (("present", LONG_AGO), ("absent", EARLIER), ("present", FUTURE)):
        bring_in(params, "a.csv", table.format(verdict, when))
    assert answers(params) == ["present", "absent", "present"]
    assert [v.when for v in read_verdicts(params.paths.verdicts)] == [LONG_AGO, EARLIER, FUTURE]
    assert states(params) == [1]


def test_a_field_without_a_time_is_not_dated_by_its_column(params):
    table = f"image,label,verdict,when\ntoy/a,cat,present,\ntoy/b,cat,present,{LONG_AGO}\n"
    bring_in(params, "a.csv", table)
    recording.record_verdict(Workspace(params.paths), "toy/a", "cat", "absent", "Ada")
    bring_in(params, "a.csv", table, changed=4_000_000_000)
    assert answers(params) == ["present", "present", "absent"]


def test_an_answer_under_a_label_s_old_name_is_the_same_answer(params):
    bring_in(params, "a.xml", CVAT.format(EARLIER, "犬"))
    write_taxonomy(params, "labels: [{id: cat}, {id: dog}]\nmigrations: [{rename: {犬: dog}}]")
    assert bring_in(params, "a.xml", CVAT.format(FUTURE, "dog")).endswith("0 of them new")


# ---------------------------------------------------------------- pull


class MadeUp:
    """A screen with one card, which remembers what was pulled from it."""

    def __init__(self, *tags: str) -> None:
        self.card = TaggedCard("toy/a", "sha-toy/a", "cat", "mistaken?", frozenset(tags), LONG_AGO)

    def read_back(self, **_) -> screen.ReadBack:
        return screen.ReadBack([self.card], LABELS, {"model": "m", "queue": "q"}, 0)

    def mark_pulled(self, pulled, **_) -> None:
        self.card = replace(self.card, pulled=pulled[0])


def test_a_reason_given_after_the_pull_is_recorded_once(params, monkeypatch):
    shown = MadeUp("present")
    monkeypatch.setattr(screen, "read_back", shown.read_back)
    monkeypatch.setattr(screen, "mark_pulled", shown.mark_pulled)
    exchange.pull(Workspace(params.paths), "toy", "Ada")
    shown.card = replace(shown.card, tags=frozenset({"present", "why: drawn"}), touched=EARLIER)
    for new, who in ((1, "Ada"), (0, "Ada"), (0, "Bob")):
        assert exchange.pull(Workspace(params.paths), "toy", who)[-1].startswith(f"{new} new verdicts")
    verdicts = read_verdicts(params.paths.verdicts)
    assert [(v.verdict, v.reason, v.who, v.when) for v in verdicts] == [
        ("present", "mistaken?", "Ada", LONG_AGO),
        ("present", "drawn", "Ada", EARLIER),
    ]
