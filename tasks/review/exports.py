"""The open questions for other tools, whose exports `imports.py` reads back as verdicts.

    to_csv            a table; a person fills in its column `verdict`, and `who` and `reason` where they like
    to_label_studio   tasks, and the labelling interface: one key an answer
    to_cvat           "CVAT for images 1.1" XML with a tag a question, and the labels for the task's raw constructor

An image is named by its id and its path, a label by its id. A question that nobody answers comes back as nothing.
EXPORTS maps the suffix of a file to its writer. To add one: a function `questions -> {suffix: text}` here, an entry in
the dict, and a reader in imports.FORMATS.
"""

from __future__ import annotations

import csv
import io
import json
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from urllib.parse import quote

from tasks.core.errors import VerdictError
from tasks.core.tables import write_text
from tasks.core.workspace import Workspace
from tasks.review.imports import OPEN, SHOWN_COLUMNS
from tasks.review.last_run import LastRun
from tasks.review.verdicts import VERDICTS

Questions = Sequence[Mapping[str, object]]
"""As LastRun.open_questions gives them."""

CSV_COLUMNS = ("image_id", "label", "verdict", "who", "reason", *SHOWN_COLUMNS)
NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
KEYS = ("p", "a", "u")  # as on the page of `review web`
INTERFACE = """<View>
  <Header value="$question"/>
  <Text name="hint" value="$hint"/>
  <Image name="image" value="$image"/>
  <Choices name="verdict" toName="image" choice="single" showInline="true">
{choices}
  </Choices>
</View>
"""


def to_csv(questions: Questions) -> dict[str, str]:
    """A line a question, its verdict left empty; the last columns are for the reader and are not read back."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, CSV_COLUMNS, extrasaction="ignore", restval="")
    writer.writeheader()
    writer.writerows(questions)
    return {".csv": text.getvalue()}


def to_label_studio(questions: Questions) -> dict[str, str]:
    """A task a question, asked as one choice. Local pictures are served from the project's folder (docs/review.md)."""
    tasks = []
    for q in questions:
        image = q["uri"] if "://" in q["uri"] else f"/data/local-files/?d={quote(q['uri'])}"
        asked = {"question": f"{q['name']}?", "hint": f"{q['reason']}, {q['given']}, score {q['score']:.2f}"}
        kept = {name: q[name] for name in ("image_id", "label", "reason", "queue")}
        tasks.append({"data": {"image": image, **asked, **kept}})
    choices = "\n".join(f'    <Choice value="{v}" hotkey="{key}"/>' for v, key in zip(VERDICTS, KEYS, strict=True))
    text = json.dumps(tasks, ensure_ascii=False, indent=1) + "\n"
    return {".json": text, ".interface.xml": INTERFACE.format(choices=choices)}


def to_cvat(questions: Questions) -> dict[str, str]:
    """Tags whose attribute `verdict` is open. Raises VerdictError for a name that XML cannot hold."""
    root = ElementTree.Element("annotations")
    ElementTree.SubElement(root, "version").text = "1.1"
    by_image = groupby(sorted(questions, key=lambda q: q["uri"]), key=lambda q: q["uri"])
    for number, (uri, of_image) in enumerate(by_image):
        image = None
        for q in of_image:
            if NOT_IN_XML.search(f"{uri}{q['label']}{q['reason']}"):
                raise VerdictError(f"image {uri!r}: CVAT's XML cannot hold this name. Export to .csv or .json.")
            if image is None:
                size = {side: str(q[side]) for side in ("width", "height")}
                image = ElementTree.SubElement(root, "image", id=str(number), name=uri, **size)
            tag = ElementTree.SubElement(image, "tag", label=q["label"], source="file")
            for name, value in (("verdict", OPEN), ("reason", q["reason"])):
                ElementTree.SubElement(tag, "attribute", name=name).text = value
    ElementTree.indent(root)
    verdict = {"name": "verdict", "input_type": "select", "default_value": OPEN, "values": [OPEN, *VERDICTS]}
    reason = {"name": "reason", "input_type": "text", "default_value": "", "values": [""]}
    attributes = [{**attribute, "mutable": False} for attribute in (verdict, reason)]
    labels = [
        {"name": label, "type": "tag", "attributes": attributes} for label in sorted({q["label"] for q in questions})
    ]
    return {
        ".xml": ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n",
        ".labels.json": json.dumps(labels, ensure_ascii=False, indent=1) + "\n",
    }


EXPORTS: dict[str, Callable[[Questions], dict[str, str]]] = {
    ".csv": to_csv,
    ".json": to_label_studio,
    ".xml": to_cvat,
}


def export_questions(workspace: Workspace, path: Path) -> list[str]:
    """Write the last run's open questions; returns lines for the person. Raises VerdictError for another suffix."""
    if path.suffix not in EXPORTS:
        raise VerdictError(f"review export: {path}: the suffix chooses the format. Use one of {', '.join(EXPORTS)}.")
    questions = LastRun(workspace).open_questions()
    files = {path.with_suffix(suffix): text for suffix, text in EXPORTS[path.suffix](questions).items()}
    for file, text in files.items():
        write_text(file, text)
    first, *beside = files
    return [f"{len(questions)} open questions in {first}", *(f"beside it: {file}" for file in beside)]
