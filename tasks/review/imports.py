"""Verdicts from other tools' exports, and from one command: nobody needs a particular screen to judge labels.

    from_csv            a table with a header: image, label, verdict, and who, when, reason where there are any
    from_label_studio   the JSON export of Label Studio; a choice is a verdict on the asked label, or a label
    from_cvat           "CVAT for images 1.1" XML; a tag is a label, its attribute `verdict` the verdict

All of them end as lines of data/review/verdicts.jsonl; "not a duplicate", which is about no label, of duplicates.jsonl.
Images are named by id, path or file name, labels by id or by the name shown; `who` and `when` stand in where the export
does not say. Text in, verdicts out; raise VerdictError with the place in the file.

FORMATS maps the name of a format to its reader. To add one: a function `(text, make, *, where)` here, an entry in the
dict, and what its files begin with in `detect`.
"""

from __future__ import annotations

import csv
import io
import json
import unicodedata
import xml.etree.ElementTree as ElementTree
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import pyarrow as pa

from tasks.core.errors import VerdictError, did_you_mean
from tasks.core.label_studio import exported_names, label_paths
from tasks.core.picture_names import Ambiguous, PictureNames
from tasks.review.duplicate_verdicts import DISTINCT, DUPLICATE, DuplicateVerdict
from tasks.review.screen.cards import duplicate_groups
from tasks.review.verdicts import FIELDS, VERDICTS, Verdict, check_verdict, known_labels
from tasks.taxonomy.taxonomy import Taxonomy

Json = TypeVar("Json", dict, list, str)
TYPE_NAMES = {dict: "an object {…}", list: "a list […]", str: "text"}
CSV_IMAGE_COLUMNS = ("image", "image_id", "sha256")
SHOWN_COLUMNS = ("name", "given", "score", "uri")
"""Columns of `review export` that a person reads and nobody reads back."""
OPEN = "open"
"""CVAT's attribute `verdict` of a question that `review export` asked and nobody has answered."""


@dataclass
class Importer:
    """Makes complete verdicts of what an export knows.

    images: IMAGES.  who, when: of verdicts without their own; `when` is ISO 8601 with a time zone.
    groups: GROUPS, beside which pictures a duplicate was judged.
    undated: those made so far whose time is the file's or the export's, not that of the judgement.
    """

    images: pa.Table
    taxonomy: Taxonomy
    who: str
    when: str
    groups: pa.Table | None = None
    undated: set[Verdict | DuplicateVerdict] = field(init=False, default_factory=set)

    def __post_init__(self) -> None:
        self._sha256_of = dict(zip(*(self.images[c].to_pylist() for c in ("image_id", "sha256")), strict=True))
        self._known = known_labels(self.taxonomy)
        self._labels_named = defaultdict(list)
        for label in self.taxonomy.labels:
            self._labels_named[unicodedata.normalize("NFC", label.display_name)].append(label.id)
        self._by_sha256 = defaultdict(set)
        for image_id, sha256 in self._sha256_of.items():
            if sha256:
                self._by_sha256[sha256].add(image_id)
        self._names = PictureNames.of_images(list(self._sha256_of), self.images["uri"].to_pylist())

    def verdict(
        self, image: str, label: str, verdict: str, *, where: str, exported: str = "", **more: str
    ) -> Verdict | DuplicateVerdict:
        """One complete verdict. more: who, when, reason, … as far as they are known; empty ones count as not known.

        verdict: also "duplicate" or "not a duplicate", which is about no label.
        exported: when the export was written, if it says so; the time of verdicts without their own.
        """
        known = {name: value for name, value in more.items() if value}
        if verdict in (DISTINCT, DUPLICATE):
            who, when = known.get("who", self.who), known.get("when", exported or self.when)
            made = self._about_duplicates(self._find(image, where), verdict, who, when, where)
            if "when" not in known:
                self.undated.add(made)
            return made
        image_id, label = self._find(image, where), self._label(label, where)
        raw = {"image_id": image_id, "sha256": self._sha256_of[image_id] or "", "label": label, "verdict": verdict}
        stand_in = {"who": self.who, "when": exported or self.when}
        made = check_verdict({**stand_in, **known, **raw}, self._known, where=where)
        if "when" not in known:
            self.undated.add(made)
        return made

    def _about_duplicates(self, image_id: str, verdict: str, who: str, when: str, where: str) -> DuplicateVerdict:
        sha256 = self._sha256_of[image_id] or ""
        others = tuple(sorted(self._group_of.get(image_id, set()) - {sha256, ""}))
        if not others:
            raise VerdictError(f"{where}: '{verdict}': no other picture is in a group of duplicates with '{image_id}'.")
        return DuplicateVerdict(sha256, image_id, others, verdict, who, when)

    @cached_property
    def _group_of(self) -> dict[str, set[str]]:
        """Image id -> sha256 of its group's pictures, of every image that has a duplicate."""
        group_of = duplicate_groups(self.groups) if self.groups is not None else {}
        pictures: dict[str, set[str]] = defaultdict(set)
        for image_id, group in group_of.items():
            pictures[group].add(self._sha256_of.get(image_id) or "")
        return {image_id: pictures[group] for image_id, group in group_of.items()}

    def _label(self, name: str, where: str) -> str:
        """Id of a name shown. An id goes before another label's name; what is neither is left for the check to name."""
        composed = unicodedata.normalize("NFC", name)
        labels = [] if composed in self._known else self._labels_named.get(composed, [])
        if len(labels) > 1:
            raise VerdictError(f"{where}: label '{name}' may be any of {', '.join(labels)}. Name it by its id.")
        return labels[0] if labels else name

    def _find(self, name: str, where: str) -> str:
        """Image id of an id, a sha256, or any name of the picture (tasks/core/picture_names.py)."""
        if name in self._sha256_of:
            return name
        if image_ids := self._by_sha256.get(name):
            matched = next(iter(image_ids)) if len(image_ids) == 1 else Ambiguous(tuple(sorted(image_ids)))
        else:
            matched = next((match for attempt in exported_names(name) if (match := self._names.find(attempt))), None)
        if isinstance(matched, Ambiguous):
            raise VerdictError(f"{where}: image '{name}' may be any of {matched}. Name it by its id.")
        if matched is None:
            raise VerdictError(f"{where}: no image '{name}'. {did_you_mean(name, list(self._sha256_of)[:100_000])}")
        return matched


def from_csv(text: str, make: Importer, *, where: str) -> list[Verdict | DuplicateVerdict]:
    """Columns: one of image, image_id, sha256; label; verdict; and any other field of a verdict.

    About duplicates (`not a duplicate`), the label is left empty.

    A line without a verdict is a question that nobody has answered.
    """
    reader = csv.DictReader(io.StringIO(text.removeprefix("\ufeff"), newline=""), strict=True)
    try:
        columns = reader.fieldnames or []
        rows = [(reader.line_num, row) for row in reader]
    except csv.Error as error:
        # The fault shows where reading stopped, for an open quote the file's end; it is where the row begins.
        at, last = f"{where}:{reader.line_num + 1}", reader.reader.line_num
        raise VerdictError(f'{at}: {error}, read to line {last}. Close the quote; one inside a field is "".') from error
    image_column = next((name for name in CSV_IMAGE_COLUMNS if name in columns), None)
    for name in (image_column or "image", "label", "verdict"):
        if name not in columns:
            raise VerdictError(f"{where}:1: no column '{name}'; found {', '.join(columns) or 'none'}.")
    for name in columns:
        if name not in {*FIELDS, "image", *SHOWN_COLUMNS}:
            raise VerdictError(f"{where}:1: unknown column '{name}'. {did_you_mean(name, [*FIELDS, 'image'])}")
    verdicts = []
    for line, row in rows:
        at = f"{where}:{line}"
        if None in row or None in row.values():
            raise VerdictError(f"{at}: expected {len(columns)} fields, as in the header.")
        more = {
            name: value.strip() for name, value in row.items() if name in ("who", "when", "reason", "model", "queue")
        }
        if verdict := row["verdict"].strip().lower():
            verdicts.append(make.verdict(row[image_column].strip(), row["label"].strip(), verdict, where=at, **more))
    return verdicts


def from_label_studio(text: str, make: Importer, *, where: str) -> list[Verdict | DuplicateVerdict]:
    """Tasks whose `data` names the image (`image_id`, else `image`) and, for yes/no projects, the asked `label`.

    A choice that is a verdict, also with capitals, is about the asked label, or else about the label that its control
    is named after; any other choice, the label of a region, or the last of a taxonomy's path is a label that is
    present. Cancelled annotations are left out.
    """
    try:
        tasks = json.loads(text)
    except ValueError as error:
        raise VerdictError(f"{where}: not JSON ({error}). Export from Label Studio as JSON.") from error
    if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
        raise VerdictError(f"{where}: expected a list of tasks. Export from Label Studio as JSON, not JSON-MIN.")
    verdicts = []
    for number, task in enumerate(tasks):
        at = f"{where}: task {task.get('id', number)}"
        data = _of_type(dict, task.get("data"), f"{at}: data")
        image = _of_type(str, data.get("image_id") or data.get("image"), f"{at}: data.image_id or data.image")
        if not image:
            raise VerdictError(f"{at}: data.image_id and data.image are missing.")
        for place, raw in enumerate(_of_type(list, task.get("annotations"), f"{at}: annotations"), start=1):
            here = f"{at}: annotation {place}"
            annotation = _of_type(dict, raw, here)
            if not annotation.get("was_cancelled"):
                when = annotation.get("updated_at") or annotation.get("created_at")
                more = {
                    "who": _person(annotation.get("completed_by")),
                    "when": _of_type(str, when, f"{here}: updated_at or created_at").replace("Z", "+00:00"),
                    "reason": str(data.get("reason") or ""),
                    "queue": str(data.get("queue") or ""),
                }
                for label, verdict in dict.fromkeys(_choices(annotation, data, here)):  # a label may have many regions
                    verdicts.append(make.verdict(image, label, verdict, where=at, **more))
    return verdicts


def _choices(annotation: Mapping, data: Mapping, where: str) -> Iterator[tuple[str, str]]:
    for place, raw in enumerate(_of_type(list, annotation.get("result"), f"{where}: result"), start=1):
        at = f"{where}: result {place}"
        result = _of_type(dict, raw, at)
        value = _of_type(dict, result.get("value"), f"{at}: value")
        try:
            paths = label_paths(value)
        except ValueError as error:
            raise VerdictError(f"{at}: {error}. Export it from Label Studio as JSON anew.") from error
        for path in paths:
            written = path[-1].strip()  # a parent is implied by the taxonomy of the project
            if written.lower() == DISTINCT:
                yield "", DISTINCT
            elif written.lower() in VERDICTS:
                yield str(data.get("label") or result.get("from_name", "")), written.lower()
            else:
                yield written, "present"


def _of_type(json_type: type[Json], value: object, where: str) -> Json:
    """`value`, or an empty one where the export says nothing. Raises VerdictError for what is of another type."""
    if value is None:
        return json_type()
    if not isinstance(value, json_type):
        shown = json.dumps(value, ensure_ascii=False)[:60]
        raise VerdictError(
            f"{where}: expected {TYPE_NAMES[json_type]}, found {shown}. Export it from Label Studio as JSON anew."
        )
    return value


def _person(completed_by: object) -> str:
    """Label Studio writes a number, or an object with an e-mail address."""
    if isinstance(completed_by, Mapping):
        return str(completed_by.get("email") or completed_by.get("username") or completed_by.get("id") or "")
    return "" if completed_by is None else str(completed_by)


def from_cvat(text: str, make: Importer, *, where: str) -> list[Verdict | DuplicateVerdict]:
    """Image tags of a "CVAT for images 1.1" export; boxes and other shapes say nothing here.

    A tag means that its label is present, unless its attribute `verdict` says otherwise, or that the question is still
    open; an attribute `reason` is kept. The tag `not a duplicate` is about no label.
    The file says when it was exported, not when somebody tagged.
    """
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise VerdictError(f"{where}: not XML ({error}). Export from CVAT as 'CVAT for images 1.1'.") from error
    if root.tag != "annotations":
        raise VerdictError(f"{where}: found <{root.tag}>, expected <annotations>. Export as 'CVAT for images 1.1'.")
    who = root.findtext("./meta/*/assignee/username") or root.findtext("./meta/*/owner/username") or ""
    exported = root.findtext("./meta/dumped") or ""
    verdicts = []
    for image in root.iter("image"):
        name = image.get("name", "")
        for tag in image.iter("tag"):
            attributes = {attribute.get("name"): (attribute.text or "").strip() for attribute in tag.iter("attribute")}
            verdict = (attributes.get("verdict") or "present").lower()
            if verdict == OPEN:
                continue
            more = {"who": who, "exported": exported, "reason": attributes.get("reason", "")}
            if tag.get("label", "").lower() == DISTINCT:
                verdict = DISTINCT
            verdicts.append(make.verdict(name, tag.get("label", ""), verdict, where=f"{where}: image '{name}'", **more))
    return verdicts


FORMATS = {"csv": from_csv, "label-studio": from_label_studio, "cvat": from_cvat}


def detect(text: str, *, where: str) -> str:
    """The key of FORMATS that a file's beginning gives away. Raises VerdictError when it does not."""
    text = text.lstrip("\ufeff \t\r\n")
    if text.startswith("<"):
        return "cvat"
    if text.startswith(("[", "{")):
        return "label-studio"
    header = text.partition("\n")[0]
    if "label" in header and "verdict" in header:
        return "csv"
    raise VerdictError(f"{where}: its format cannot be told from its beginning. Say --format {', '.join(FORMATS)}.")


def read_export(path: Path) -> str:
    """Text of an exported file; of a .zip, CVAT's annotations.xml in it. Raises VerdictError when it cannot be read."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                return archive.read("annotations.xml").decode("utf-8-sig")
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise VerdictError(f"{path}: cannot be read ({error.strerror}).") from error
    except UnicodeDecodeError as error:
        raise VerdictError(f"{path}: not UTF-8 (byte {error.start}). Save it as UTF-8.") from error
    except RuntimeError as error:  # encrypted, or a method of compression that Python does not know
        raise VerdictError(f"{path}: {error}. Export it again without a password, or unpack it first.") from error
    except (KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise VerdictError(f"{path}: no readable annotations.xml in it. Export as 'CVAT for images 1.1'.") from error
