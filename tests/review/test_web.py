"""The queue on a page of this machine: an answer is one line of the verdicts, and only this page may answer."""

from __future__ import annotations

import importlib.util
import io
import threading
from pathlib import Path

import numpy as np
import pytest
import uvicorn
from fastapi.testclient import TestClient
from PIL import Image

from tasks.core.listening import listening
from tasks.core.workspace import Workspace
from tasks.images.decode import open_rgb
from tasks.report.pictures import jpeg
from tasks.review.duplicate_verdicts import read_duplicate_verdicts
from tasks.review.verdicts import read_verdicts
from tasks.review.web import ReviewPage, create_app
from tests.review.home import new_home

CHROMIUM = Path("/usr/bin/chromium")


@pytest.fixture
def workspace(tmp_path, monkeypatch) -> Workspace:
    monkeypatch.chdir(tmp_path)
    return Workspace(new_home(tmp_path, port=5999).paths)


def page_of(workspace: Workspace) -> ReviewPage:
    return ReviewPage.of_last_run(workspace, "ann", lambda uri: jpeg(open_rgb(uri)))


def client_of(workspace: Workspace) -> TestClient:
    return TestClient(create_app(page_of(workspace)), base_url="http://127.0.0.1:8151")


def said(workspace: Workspace) -> list[tuple[str, str, str, str]]:
    return [(v.image_id, v.label, v.verdict, v.who) for v in read_verdicts(workspace.paths.verdicts)]


def test_a_question_shows_what_is_asked_of_which_picture_and_why(workspace):
    first = client_of(workspace).get("/questions").json()[0]
    assert first == {
        "name": "Cat",
        "image_id": "toy/a",
        "reason": "mistaken?",
        "given": "annotated as present",
        "score": pytest.approx(0.1),
    }


def test_the_picture_of_a_question_is_its_image(workspace):
    shown = Image.open(io.BytesIO(client_of(workspace).get("/pictures/1").content))
    assert shown.size == (48, 48)
    assert abs(int(np.asarray(shown).mean()) - 60) <= 1


def test_an_answer_is_one_line_and_the_same_again_is_none(workspace):
    client = client_of(workspace)
    answer = {"position": 0, "verdict": "absent"}
    assert [client.post("/answers", json=answer).json()["added"] for _ in range(2)] == [1, 0]
    assert client.post("/answers", json={**answer, "verdict": "present"}).json() == {"added": 1}  # a changed mind
    assert said(workspace) == [("toy/a", "cat", "absent", "ann"), ("toy/a", "cat", "present", "ann")]


def test_who_comes_back_is_asked_the_rest(workspace):
    client_of(workspace).post("/answers", json={"position": 0, "verdict": "absent"})
    asked = client_of(workspace).get("/questions").json()
    assert [q["image_id"] for q in asked] == ["toy/b", "toy/a", "toy/c", "toy/d"]


def test_pictures_that_look_alike_are_asked_about_after_the_labels_and_then_separate_distinct(workspace):
    client = client_of(workspace)
    assert client.get("/questions").json()[4] == {"image_id": "toy/d", "others": ["toy/c"]}
    shown = [Image.open(io.BytesIO(client.get(f"/pictures/{place}").content)) for place in ("4", "4/0")]
    assert [round(np.asarray(picture).mean() / 60) for picture in shown] == [3, 2]
    assert client.get("/pictures/4/1").status_code == client.get("/pictures/0/0").status_code == 404
    assert client.post("/answers", json={"position": 4, "verdict": "absent"}).json() == {"added": 1}
    (verdict,) = read_duplicate_verdicts(workspace.paths.duplicate_verdicts)
    assert (verdict.sha256, verdict.others, verdict.verdict) == ("sha-toy/d", ("sha-toy/c",), "not a duplicate")
    assert "others" not in client_of(workspace).get("/questions").json()[-1]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "http://elsewhere.example"}, 403),
        ({"Host": "elsewhere.example"}, 400),
        ({"Origin": "http://127.0.0.1:8151"}, 200),
    ],
)
def test_only_this_page_may_answer(workspace, headers, status):
    client = client_of(workspace)
    assert client.post("/answers", json={"position": 0, "verdict": "absent"}, headers=headers).status_code == status
    assert len(said(workspace)) == (status == 200)


@pytest.mark.parametrize("answer", [{"position": 99, "verdict": "absent"}, {"position": 0, "verdict": "maybe"}, {}])
def test_what_is_no_answer_is_refused_and_records_nothing(workspace, answer):
    assert client_of(workspace).post("/answers", json=answer).status_code in (404, 422)
    assert said(workspace) == []


def test_a_picture_that_is_gone_is_said(workspace, tmp_path):
    (tmp_path / "pictures/toy/a.png").unlink()
    response = client_of(workspace).get("/pictures/0")
    assert response.status_code == 404
    assert "cannot be read" in response.json()["detail"]


@pytest.mark.browser
@pytest.mark.skipif(not CHROMIUM.exists(), reason="needs Chromium")
@pytest.mark.skipif(importlib.util.find_spec("playwright") is None, reason="needs playwright")
def test_one_key_answers_and_the_next_question_comes(workspace):
    from playwright.sync_api import expect, sync_playwright

    with listening("127.0.0.1", 0) as listener, sync_playwright() as playwright:
        server = uvicorn.Server(uvicorn.Config(create_app(page_of(workspace)), log_level="error"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-gpu"])
        try:
            page = browser.new_page()
            page.goto(f"http://127.0.0.1:{listener.getsockname()[1]}")
            asked, progress = page.locator("#asked"), page.locator("#progress")
            expect(asked).to_have_text("Is “Cat” on this picture?")
            for key, left in (("a", 4), ("p", 3)):
                page.keyboard.press(key)
                expect(progress).to_contain_text(f"{left} left")
            expect(asked).to_have_text("Is “Hund & Co” on this picture?")
            page.keyboard.press("z")
            expect(page.locator("#why")).to_contain_text("you said present")
            page.keyboard.press("u")
            expect(asked).to_have_text("Is “Hund & Co” on this picture?")
        finally:
            browser.close()
            server.should_exit = True
            thread.join()
    answers = [("toy/a", "absent"), ("toy/b", "present"), ("toy/b", "unsure")]
    assert [(image, verdict) for image, _, verdict, _ in said(workspace)] == answers
