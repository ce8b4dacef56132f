"""What people hand in: Label Studio's JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from tests.sources.bad_input.case import Case, text, truncated
from tests.sources.deliveries import label_studio_document, write_json

FILE = "project.json"


def task(change: Callable[[dict], object]) -> Callable[[Path], object]:
    def spoil(root: Path) -> None:
        document = label_studio_document()
        change(document[0])
        write_json(root / FILE, document)

    return spoil


CASES = [
    Case("truncated", truncated(FILE), (FILE, "not valid JSON")),
    Case("an object", text(FILE, "{}"), ("expected a list of tasks",)),
    Case("JSON-MIN", text(FILE, json.dumps([{"id": 1, "image": "a.jpg", "choice": "cat"}])), ("task 1", "JSON-MIN")),
    Case("no annotation at all", text(FILE, json.dumps(label_studio_document()[2:])), ("it lists no picture",)),
    Case(
        "no picture", task(lambda t: t.update(data={"text": "x"})), ("task 3: no picture in data (text)", "image_key")
    ),
    Case("another key", task(lambda t: t.update(data={"photo": "a.jpg", "text": "x"}))),
    Case("a named key", task(lambda t: t.update(data={"x": "a"})), ("task 4", "image_key"), {"image_key": "x"}),
    Case(
        "a choice that is a number",
        task(lambda t: t["annotations"][0]["result"][0]["value"].update(choices=[3])),
        ("value.choices: expected text, found 3",),
    ),
    Case(
        "a taxonomy",
        task(lambda t: t["annotations"][0]["result"][0].update(value={"taxonomy": [["animal", "cat"], ["thing"]]})),
    ),
    Case("a task twice", task(lambda t: t.update(id=4)), ("'4' is listed a second time",)),
    Case("an address", task(lambda t: t.update(data={"image": "https://x.example/a.jpg"}))),
    Case("results null", task(lambda t: t["annotations"][0].update(result=None, was_cancelled=None))),
]
