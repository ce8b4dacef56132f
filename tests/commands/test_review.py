"""Status, mining and guidelines in a small home: nothing here starts FiftyOne."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from tasks.core import tables
from tasks.core.errors import TableError, TaxonomyError
from tasks.core.workspace import Workspace
from tasks.images.decode import open_rgb
from tasks.params import Params
from tasks.report.pictures import data_uri
from tasks.review.guidelines import write_guidelines
from tasks.review.last_run import LastRun
from tasks.review.mining import mine_label
from tasks.review.recording import default_reviewer
from tasks.review.status import review_status
from tasks.review.verdicts import Verdict, append_verdicts
from tests.review.home import new_home, write_taxonomy
from tests.review.tables_of import images_of


@pytest.fixture
def params(tmp_path, monkeypatch) -> Params:
    monkeypatch.chdir(tmp_path)
    return new_home(tmp_path, port=5151)


def judge(params: Params, image_id: str, label: str, answer: str, who: str = "Ada") -> None:
    verdict = Verdict(
        image_id=image_id,
        sha256=f"sha-{image_id}",
        label=label,
        verdict=answer,
        who=who,
        when="2026-01-02T12:00:00Z",
        reason="audit",
        model="m",
        queue="q",
    )
    append_verdicts(params.paths.verdicts, [verdict])


def printed(params: Params) -> list[str]:
    console = Console(file=io.StringIO(), width=80)
    console.print(review_status(Workspace(params.paths)))
    return console.file.getvalue().splitlines()


def status(params: Params) -> dict[str, list[str]]:
    return {" ".join(columns[:-5]): columns[-5:] for columns in map(str.split, printed(params)[1:])}


def test_status_counts_what_is_decided_by_label(params):
    judge(params, "toy/a", "cat", "absent")
    judge(params, "toy/c", "犬", "unsure")
    assert status(params) == {  # asked, left, present, absent, unsure
        "Cat": ["2", "1", "0", "1", "0"],
        "Hund & Co": ["2", "1", "0", "0", "1"],
        "all": ["4", "2", "0", "1", "1"],
    }


def test_status_says_how_far_reviewers_agree_and_where_they_do_not(params):
    for image_id, ours, theirs in (
        ("toy/a", "absent", "absent"),
        ("toy/b", "present", "present"),
        ("toy/d", "present", "absent"),
    ):
        judge(params, image_id, "cat", ours, who="Ada")
        judge(params, image_id, "cat", theirs, who="Bob")
    # They agree on 2/3; by chance on 2/3 x 1/3 + 1/3 x 2/3 = 4/9; kappa = (6/9 - 4/9) / (5/9) = 0.4.
    assert printed(params)[-2:] == [
        "Ada and Bob agree on 2 of 3 questions, kappa 0.40",
        "at odds: toy/d cat",
    ]


def test_status_says_what_the_last_run_expected_and_learnt(params):
    rate = {"wrong": 2, "asked": 20, "share": 0.031, "low": 0.012, "high": 0.0684}
    review = {"expected_errors": {"2": 1.4, "10": 4.2}, "error_rate": rate, "stop": True}
    tables.write_json(params.paths.cleaning_report, {"review": review})
    assert printed(params)[-3:] == [
        "errors to expect in this queue: 1 among the first 2, 4 among the first 10",
        "annotations that are wrong: 3.1% (1.2% to 6.8%), by 20 audited",
        "the last answers changed next to nothing: it does not pay to go on",
    ]


def test_names_and_ids_are_shown_as_they_are_and_lines_fit_80_columns(params):
    odd = "toy/[red]" + "x" * 100
    for who, verdict in (("Ada [x]", "present"), ("Bob", "absent")):
        append_verdicts(
            params.paths.verdicts, [Verdict("toy/a", "cat", verdict, who, "2026-01-02T12:00:00Z", sha256="sha-toy/a")]
        )
    write_taxonomy(params, f'labels: [{{id: cat, name: "{odd}"}}, {{id: 犬, name: "[b]Hund"}}]')
    assert max(map(len, printed(params))) <= 80
    text = "".join(line.strip() for line in printed(params))
    assert "[b]Hund" in text
    assert "toy/[red]" in text
    assert "Ada [x] and Bob agree" in text


def test_mined_questions_are_asked_with_the_others(params):
    assert mine_label(Workspace(params.paths), "cat", most=5) == 1  # toy/c is the whole pool
    assert LastRun(Workspace(params.paths)).questions().to_pylist()[-1] | {"score": 0, "priority": 0} == {
        "image_id": "toy/c", "label": "cat", "given": -1, "score": 0, "priority": 0, "reason": "mined",
    }  # fmt: skip
    assert status(params)["Cat"][0] == "3"


RENAMED = "labels: [{id: cat}, {id: dog, name: Dog}]\nmigrations: [{rename: {犬: dog}}]"


def test_a_question_follows_a_label_that_was_renamed_since_the_last_run(params):
    judge(params, "toy/c", "犬", "unsure")
    write_taxonomy(params, RENAMED)
    assert status(params)["Dog"] == ["2", "1", "0", "0", "1"]


def test_a_question_about_a_label_that_was_split_waits_for_the_next_run(params):
    write_taxonomy(params, "labels: [{id: cat}, {id: dog}, {id: wolf}]\nmigrations: [{split: {犬: [dog, wolf]}}]")
    assert status(params).keys() == {"cat", "all"}


def test_a_question_on_which_people_are_at_odds_is_left(params):
    judge(params, "toy/a", "cat", "present", who="Ada")
    judge(params, "toy/a", "cat", "absent", who="Bob")
    assert {" ".join(line.split()) for line in printed(params)} >= {"Cat 2 2 0 0 0", "at odds: toy/a cat"}


def test_mining_again_asks_nothing_twice(params):
    for _ in range(2):
        mine_label(Workspace(params.paths), "cat", most=5)
    assert LastRun(Workspace(params.paths)).questions().num_rows == 5


def test_what_a_person_has_judged_is_not_mined(params):
    judge(params, "toy/c", "cat", "absent")
    with pytest.raises(TableError, match="'cat' has no positives, or"):
        mine_label(Workspace(params.paths), "cat", most=5)


def test_mining_an_unknown_label_names_the_nearest(params):
    with pytest.raises(TaxonomyError, match=r"no label 'catt'\. Did you mean 'cat'\?"):
        mine_label(Workspace(params.paths), "catt", most=5)


def written_guidelines(params: Params) -> Path:
    return write_guidelines(Workspace(params.paths), picture_of=lambda uri: data_uri(np.asarray(open_rgb(uri))))


def test_every_label_of_the_taxonomy_has_a_page_with_its_pictures(params):
    judge(params, "toy/c", "cat", "present")
    index = written_guidelines(params)
    pages = sorted(path.name for path in index.parent.iterdir())
    assert pages == ["001-pet.html", "002-cat.html", "003-犬.html", "index.html"]
    page = (index.parent / "002-cat.html").read_text(encoding="utf-8")
    for text in (
        "A living cat, not a drawn one.",
        "Pet",
        "Never together with",
        "Hund &amp; Co",
        "cat, kitten",
        "Ada: present",
        "data:image/jpeg",
    ):
        assert text in page


def test_pictures_that_vanished_since_the_run_are_left_out_and_counted(params, tmp_path, caplog):
    (tmp_path / "pictures/toy/a.png").unlink()
    (tmp_path / "pictures/toy/b.png").write_bytes(b"no picture")
    for image_id in ("toy/a", "toy/b", "toy/c"):
        judge(params, image_id, "cat", "present", who=f"Ann of {image_id}")
    page = (written_guidelines(params).parent / "002-cat.html").read_text(encoding="utf-8")
    assert "Ann of toy/c: present" in page
    assert "toy/a" not in page
    assert "toy/b" not in page
    (message,) = [record.getMessage() for record in caplog.records if record.name == "tasks.review.guidelines"]
    assert message.startswith("2 of 4 pictures are left out, e.g. pictures/toy/a.png: cannot be read (")


def test_pictures_of_a_store_that_cannot_be_opened_are_left_out(params):
    path = params.paths.mapped / "images.parquet"
    elsewhere = images_of(*(f"toy/{name}" for name in "abcd"), uri="nowhere://{}.png")
    tables.write_table(path, elsewhere, tables.IMAGES)
    judge(params, "toy/c", "cat", "present")
    page = (written_guidelines(params).parent / "002-cat.html").read_text(encoding="utf-8")
    assert "data:image" not in page


def test_the_reviewer_is_git_s_user(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gitconfig").write_text("[user]\n\tname = Ada Lovelace\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    assert default_reviewer() == "Ada Lovelace"


def test_without_git_the_reviewer_is_the_account(monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("LOGNAME", "ada")
    assert shutil.which("git") is None
    assert default_reviewer() == "ada"
