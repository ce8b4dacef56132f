"""The queue to another tool and back: what is answered there comes back as a verdict on the same question."""

from __future__ import annotations

import csv
import io
import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Mapping

import pytest

from tasks.core.errors import VerdictError
from tasks.core.workspace import Workspace
from tasks.review.exports import EXPORTS, export_questions, to_csv, to_cvat, to_label_studio
from tasks.review.imports import Importer, detect, from_csv, from_cvat, from_label_studio
from tasks.review.last_run import LastRun
from tests.review.home import QUEUE, new_home

Answers = Mapping[tuple[str, str], str]
"""{(name of the image, label): verdict}"""

ANSWERS = {("toy/a", "cat"): "absent", ("toy/a", "犬"): "present", ("toy/c", "犬"): "unsure"}
"""Of the four questions; the one about toy/b stays open."""


def answered_table(text: str, answers: Answers) -> str:
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    for row in rows:
        row["verdict"] = answers.get((row["image_id"], row["label"]), "")
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def answered_tasks(text: str, answers: Answers) -> str:
    """As Label Studio exports them: `data` as it was, and an annotation for what somebody submitted."""
    tasks = json.loads(text)
    for number, task in enumerate(tasks):
        verdict = answers.get((task["data"]["image_id"], task["data"]["label"]))
        choice = {"from_name": "verdict", "to_name": "image", "type": "choices", "value": {"choices": [verdict]}}
        task |= {"id": number, "annotations": [{"result": [choice]}] if verdict else []}
    return json.dumps(tasks)


def answered_tags(text: str, answers: Answers) -> str:
    root = ElementTree.fromstring(text)
    for image in root.iter("image"):
        image_id = image.get("name").removeprefix("pictures/").removesuffix(".png")
        for tag in image.iter("tag"):
            if verdict := answers.get((image_id, tag.get("label"))):
                next(a for a in tag.iter("attribute") if a.get("name") == "verdict").text = verdict
    return ElementTree.tostring(root, encoding="unicode")


TOOLS: dict[str, tuple[Callable, Callable, Callable]] = {
    ".csv": (to_csv, answered_table, from_csv),
    ".json": (to_label_studio, answered_tasks, from_label_studio),
    ".xml": (to_cvat, answered_tags, from_cvat),
}


@pytest.fixture
def workspace(tmp_path, monkeypatch) -> Workspace:
    monkeypatch.chdir(tmp_path)
    return Workspace(new_home(tmp_path, port=5999).paths)


def importer(workspace: Workspace) -> Importer:
    return Importer(workspace.read("mapped.images"), LastRun(workspace).taxonomy, "ann", "2026-05-01T00:00:00+00:00")


def test_every_format_is_taken_round():
    assert TOOLS.keys() == EXPORTS.keys()
    assert all(EXPORTS[suffix] is write for suffix, (write, _, _) in TOOLS.items())


@pytest.mark.parametrize("suffix", TOOLS)
def test_answers_come_back_as_verdicts_on_the_same_questions_with_their_reasons(workspace, suffix):
    write, answered, read = TOOLS[suffix]
    verdicts = read(
        answered(write(LastRun(workspace).open_questions())[suffix], ANSWERS), importer(workspace), where="x"
    )
    assert {(v.image_id, v.label): v.verdict for v in verdicts} == ANSWERS
    reasons = {(row["image_id"], row["label"]): row["reason"] for row in QUEUE.to_pylist()}
    assert {(v.image_id, v.label): v.reason for v in verdicts} == {pair: reasons[pair] for pair in ANSWERS}


@pytest.mark.parametrize("suffix", TOOLS)
def test_what_nobody_answered_is_no_verdict(workspace, suffix):
    export_questions(workspace, path := workspace.paths.verdicts.parent / f"questions{suffix}")
    text = path.read_bytes().decode("utf-8")
    assert TOOLS[suffix][2](text, importer(workspace), where="x") == []
    assert detect(text, where="x") in ("csv", "label-studio", "cvat")


ODD = 'a "b" <c>&d, \u00e9%20\n;=1+1'


@pytest.mark.parametrize("suffix", TOOLS)
def test_odd_names_survive_the_way(workspace, suffix):
    question = {
        **{"image_id": f"toy/{ODD}", "uri": f"pictures/toy/{ODD}.png", "label": "cat", "name": "Cat"},
        **{"given": "not annotated", "score": 0.5, "reason": "unknown", "queue": "q", "width": 4, "height": 4},
    }
    make = importer(workspace)
    images = make.images.slice(0, 1).to_pylist()
    images[0] |= {"image_id": question["image_id"], "uri": question["uri"]}
    make = Importer(make.images.from_pylist(images, schema=make.images.schema), make.taxonomy, make.who, make.when)
    write, answered, read = TOOLS[suffix]
    (verdict,) = read(answered(write([question])[suffix], {(f"toy/{ODD}", "cat"): "absent"}), make, where="x")
    assert (verdict.image_id, verdict.verdict) == (question["image_id"], "absent")


def test_a_name_that_xml_cannot_hold_is_refused_and_not_written(workspace):
    (question, *_) = LastRun(workspace).open_questions()
    with pytest.raises(VerdictError, match=r"cannot hold this name\. Export to \.csv or \.json"):
        to_cvat([{**question, "uri": "pictures/\x0b.png"}])


def test_label_studio_asks_one_question_a_task_with_a_key_an_answer(workspace):
    files = to_label_studio(LastRun(workspace).open_questions())
    data = json.loads(files[".json"])[0]["data"]
    assert data["question"] == "Cat?"
    assert data["hint"] == "mistaken?, annotated as present, score 0.10"
    assert data["image"] == "/data/local-files/?d=pictures/toy/a.png"
    interface = ElementTree.fromstring(files[".interface.xml"])
    assert [(c.get("value"), c.get("hotkey")) for c in interface.iter("Choice")] == [
        ("present", "p"), ("absent", "a"), ("unsure", "u"),
    ]  # fmt: skip
    shown = {node.get("value")[1:] for node in interface.iter() if (node.get("value") or "").startswith("$")}
    assert shown <= data.keys()


def test_cvat_s_labels_are_those_asked_about_with_the_answers_to_choose_from(workspace):
    labels = json.loads(to_cvat(LastRun(workspace).open_questions())[".labels.json"])
    assert [label["name"] for label in labels] == ["cat", "犬"]
    assert labels[0]["attributes"][0]["values"] == ["open", "present", "absent", "unsure"]


def test_another_suffix_is_one_line(workspace, tmp_path):
    with pytest.raises(VerdictError, match=r"the suffix chooses the format. Use one of \.csv, \.json, \.xml\."):
        export_questions(workspace, tmp_path / "questions.txt")
