"""verdicts_import.py: the same verdicts out of a table, Label Studio and CVAT, and clear complaints."""

from __future__ import annotations

import io
import json
import unicodedata
import zipfile

import pyarrow as pa
import pytest

from tasks.core.errors import VerdictError
from tasks.review.duplicate_verdicts import DuplicateVerdict
from tasks.review.imports import Importer, from_csv, from_cvat, from_label_studio, read_export
from tasks.review.verdicts import Verdict
from tasks.taxonomy.reading import parse_taxonomy
from tests.review.tables_of import groups_of
from tests.sources import bad_zips

NOW = "2026-05-01T00:00:00+00:00"
IMAGES = pa.table(
    {
        "image_id": ["coco/1", "coco/2", "web/é", "web/copy"],
        "sha256": ["h1", "h2", "h3", "h4"],
        "uri": ["raw/coco/001.jpg", "raw/coco/002.jpg", "raw/web/é 1.jpg", "raw/web/002.jpg"],
    }
)


@pytest.fixture
def make() -> Importer:
    taxonomy = parse_taxonomy({"labels": [{"id": "forest"}, {"id": "cat"}]})
    return Importer(IMAGES, taxonomy, who="ann", when=NOW)


def brief(verdicts: list[Verdict]) -> list[tuple[str, str, str]]:
    return [(v.image_id, v.label, v.verdict) for v in verdicts]


@pytest.mark.parametrize(
    ("read", "text"),
    [
        (from_csv, "image,label,verdict\n002.jpg,,\ncoco/2,,Not a duplicate\n"),
        (
            from_label_studio,
            '[{"data": {"image": "coco/2"}, "annotations": '
            '[{"result": [{"value": {"choices": ["not a duplicate"]}}]}]}]',
        ),
        (from_cvat, '<annotations><image name="coco/2"><tag label="not a duplicate"/></image></annotations>'),
    ],
)
def test_not_a_duplicate_is_an_answer_of_every_tool(make, read, text):
    make.groups = groups_of(**{"coco/1": "g", "coco/2": "g", "web/copy": "g", "web/é": "h"})
    (verdict,) = read(text, make, where="export")
    assert verdict == DuplicateVerdict("h2", "coco/2", ("h1", "h4"), "not a duplicate", "ann", NOW)
    make.groups, make.__dict__["_group_of"] = groups_of(), {}
    assert "no other picture is in a group of duplicates with 'coco/2'" in complaint(read, text, make)


def complaint(read, text: str, make: Importer) -> str:
    with pytest.raises(VerdictError) as caught:
        read(text, make, where="export")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_one_verdict_is_completed_from_the_images_table(make):
    verdict = make.verdict("coco/1", "cat", "present", where="x", reason="by hand")
    assert verdict == Verdict("coco/1", "cat", "present", "ann", NOW, sha256="h1", reason="by hand")


@pytest.mark.parametrize(
    "name",
    [
        "coco/1",
        "raw/coco/001.jpg",
        "001.jpg",
        "h1",
        "/data/upload/001.jpg",
        "/data/upload/3/9e3a1b2c-001.jpg",
        "http://host:80/x/001.jpg?token=1",
        "http://[host/001.jpg",
        "/data/local-files/?d=raw%2Fcoco%2F001.jpg",
        "http://host:80/data/local-files/?d=raw%2Fcoco%2F001.jpg",
    ],
)
def test_an_image_is_found_by_id_path_file_name_or_hash(make, name):
    assert make.verdict(name, "cat", "present", where="x").image_id == "coco/1"


@pytest.mark.parametrize("name", ["s3://bucket/%C3%A9%201.jpg", "/data/upload/3/9e3a1b2c-%C3%A9%201.jpg"])
def test_escapes_in_an_address_are_undone(make, name):
    assert make.verdict(name, "cat", "present", where="x").image_id == "web/é"


def test_a_path_tells_files_of_the_same_name_apart(make):
    address = "/data/local-files/?d=raw%2Fcoco%2F002.jpg"
    assert make.verdict(address, "cat", "present", where="x").image_id == "coco/2"


def test_only_an_uploaded_file_loses_the_beginning_of_its_name(make):
    with pytest.raises(VerdictError, match=r"no image '9e3a1b2c-001\.jpg'"):
        make.verdict("9e3a1b2c-001.jpg", "cat", "present", where="x")


def test_a_file_name_of_two_images_is_not_guessed(make):
    with pytest.raises(VerdictError, match=r"x: image '002.jpg' may be any of coco/2, web/copy"):
        make.verdict("002.jpg", "cat", "present", where="x")


def test_an_unknown_image_or_label_is_named_with_the_nearest(make):
    with pytest.raises(VerdictError, match=r"no image 'coco/11'\. Did you mean 'coco/1'"):
        make.verdict("coco/11", "cat", "present", where="x")
    with pytest.raises(VerdictError, match=r"no label 'forrest'\. Did you mean 'forest'"):
        make.verdict("coco/1", "forrest", "present", where="x")


def named(*labels: tuple[str, str]) -> Importer:
    """An importer for labels of the given ids and names shown."""
    taxonomy = parse_taxonomy({"labels": [{"id": label, "name": name} for label, name in labels]})
    return Importer(IMAGES, taxonomy, who="ann", when=NOW)


@pytest.mark.parametrize("name", ["café", "Café", unicodedata.normalize("NFD", "Café")])
def test_a_label_is_found_by_id_or_by_the_name_shown(name):
    assert named(("café", "Café")).verdict("coco/1", name, "present", where="x").label == "café"


def test_an_id_goes_before_another_label_s_name():
    assert named(("cat", "Tabby"), ("felidae", "cat")).verdict("coco/1", "cat", "present", where="x").label == "cat"


def test_a_name_that_two_labels_share_is_not_guessed():
    make = named(("crane/bird", "Crane"), ("crane/machine", "Crane"))
    with pytest.raises(VerdictError, match=r"x: label 'Crane' may be any of crane/bird, crane/machine\. Name"):
        make.verdict("coco/1", "Crane", "present", where="x")


# ---------------------------------------------------------------- CSV


def test_a_table_with_any_order_of_columns(make):
    rows = [
        "verdict,image_id,label,who,when",
        "Present,coco/1,cat,bob,2026-01-02T00:00:00+00:00",
        "absent,coco/2,forest,,",
    ]
    text = "\ufeff" + "\r\n".join(rows)
    first, second = from_csv(text, make, where="export")
    assert (first.verdict, first.who, first.when) == ("present", "bob", "2026-01-02T00:00:00+00:00")
    assert (second.image_id, second.sha256, second.who, second.when) == ("coco/2", "h2", "ann", NOW)


def test_quoted_fields_may_hold_commas_and_lines(make):
    (verdict,) = from_csv('image,label,verdict,reason\n001.jpg,cat,unsure,"dark,\nfar"\n', make, where="export")
    assert verdict.reason == "dark,\nfar"


REASONED = "image,label,verdict,reason\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "export:1: no column 'image'; found none"),
        ("image,label\n", "export:1: no column 'verdict'"),
        ("image,label,verdict,whoo\n", "unknown column 'whoo'. Did you mean 'who'?"),
        ("image,label,verdict\ncoco/1,cat,present\ncoco/1,cat,yes\n", "export:3: verdict: 'yes'"),
        ("image,label,verdict\ncoco/1,cat\n", "export:2: expected 3 fields"),
        ("image,label,verdict\ncoco/1,cat,present,more\n", "export:2: expected 3 fields"),
        ("image,label,verdict,when\ncoco/1,cat,present,today\n", "export:2: when: 'today'"),
        ('image,"label,verdict\ncoco/1,cat,present\n', "export:1: unexpected end of data, read to line 2."),
        (
            REASONED + 'coco/1,cat,present,\ncoco/1,cat,absent,"dark\ncoco/2,cat,absent,\n',
            "export:3: unexpected end of",
        ),
        (REASONED + 'coco/1,cat,present,"dark" or far\n', "export:2: ',' expected after '\"'"),
    ],
)
def test_a_wrong_table_is_named_by_line(make, text, expected):
    assert expected in complaint(from_csv, text, make)


def test_an_open_quote_in_a_long_table_is_named_by_line(make):
    text = REASONED + 'coco/1,cat,present,"dark\n' + "coco/2,cat,absent,\n" * 9_000
    assert complaint(from_csv, text, make).startswith("export:2: field larger than field limit")


# ---------------------------------------------------------------- Label Studio


def task(*choices: str, data: dict, from_name: str = "answer", **annotation) -> dict:
    result = [{"type": "choices", "from_name": from_name, "to_name": "image", "value": {"choices": list(choices)}}]
    return {"id": 7, "data": data, "annotations": [{"result": result, **annotation}]}


def studio(*tasks: dict) -> str:
    return json.dumps(list(tasks))


def test_a_verdict_is_about_the_asked_label(make):
    data = {"image": "/data/local-files/001.jpg", "label": "forest", "reason": "missing?", "queue": "q1"}
    by = {"completed_by": {"email": "eve@x.org"}, "created_at": "2026-01-02T03:04:05.6Z"}
    (verdict,) = from_label_studio(studio(task("absent", data=data, **by)), make, where="export")
    assert brief([verdict]) == [("coco/1", "forest", "absent")]
    assert (verdict.who, verdict.reason, verdict.queue) == ("eve@x.org", "missing?", "q1")
    assert verdict.when == "2026-01-02T03:04:05.6+00:00"


def test_without_an_asked_label_the_control_s_name_is_the_label(make):
    export = studio(task("unsure", data={"image_id": "coco/2"}, from_name="cat", completed_by=3))
    (verdict,) = from_label_studio(export, make, where="export")
    assert (verdict.label, verdict.verdict, verdict.who) == ("cat", "unsure", "3")


def test_ticked_labels_are_present(make):
    verdicts = from_label_studio(studio(task("cat", "forest", data={"image_id": "coco/2"})), make, where="export")
    assert brief(verdicts) == [("coco/2", "cat", "present"), ("coco/2", "forest", "present")]


@pytest.mark.parametrize("written", ["Absent", "ABSENT", " absent "])
def test_capitals_and_spaces_do_not_matter_in_a_verdict(make, written):
    export = studio(task(written, data={"image_id": "coco/2", "label": "cat"}))
    assert brief(from_label_studio(export, make, where="export")) == [("coco/2", "cat", "absent")]


def test_results_that_are_no_choices_say_nothing(make):
    others = [{"type": "relation", "from_id": "a"}, {"type": "textarea", "value": {"text": ["far"]}}]
    export = studio({"id": 7, "data": {"image_id": "coco/2"}, "annotations": [{"result": others, "updated_at": None}]})
    assert from_label_studio(export, make, where="export") == []


def test_cancelled_and_empty_annotations_say_nothing(make):
    cancelled = task("cat", data={"image_id": "coco/2"}, was_cancelled=True)
    skipped = {"id": 8, "data": {"image_id": "coco/2"}, "annotations": []}
    assert from_label_studio(studio(cancelled, skipped), make, where="export") == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nope", "export: not JSON"),
        ("{}", "expected a list of tasks"),
        ('[{"id": 7, "data": {}}]', "export: task 7: data.image_id and data.image are missing"),
        (studio(task("dog", data={"image_id": "coco/1"})), "export: task 7: label: no label 'dog'"),
    ],
)
def test_a_wrong_label_studio_export_is_named_by_task(make, text, expected):
    assert expected in complaint(from_label_studio, text, make)


def annotated(annotations: object) -> str:
    return studio({"id": 7, "data": {"image_id": "coco/1"}, "annotations": annotations})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (studio({"id": 7, "data": "001.jpg"}), 'task 7: data: expected an object {…}, found "001.jpg"'),
        (studio({"id": 7, "data": {"image": 1}}), "task 7: data.image_id or data.image: expected text, found 1"),
        (annotated({}), "task 7: annotations: expected a list […], found {}"),
        (annotated([{}, 5]), "task 7: annotation 2: expected an object {…}, found 5"),
        (annotated([{"updated_at": 17}]), "task 7: annotation 1: updated_at or created_at: expected text, found 17"),
        (annotated([{"result": {"a": 1}}]), 'annotation 1: result: expected a list […], found {"a": 1}'),
        (annotated([{"result": ["x"]}]), 'annotation 1: result 1: expected an object {…}, found "x"'),
        (annotated([{"result": [{"value": "x"}]}]), 'result 1: value: expected an object {…}, found "x"'),
        (annotated([{"result": [{"value": {"choices": "cat"}}]}]), 'value.choices: expected a list […], found "cat"'),
        (annotated([{"result": [{"value": {"choices": [3]}}]}]), "value.choices: expected text, found 3"),
    ],
)
def test_what_label_studio_never_writes_is_named_by_task_and_annotation(make, text, expected):
    message = complaint(from_label_studio, text, make)
    assert expected in message
    assert message.startswith("export: task 7: ")
    assert message.endswith(". Export it from Label Studio as JSON anew.")


# ---------------------------------------------------------------- CVAT

CVAT = """<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta><task><owner><username>bob</username></owner></task><dumped>2026-01-02 03:04:05.678901+00:00</dumped></meta>
  <image id="0" name="web/é 1.jpg" width="4" height="4">
    <tag label="cat" source="manual"></tag>
    <tag label="forest" source="manual">
      <attribute name="verdict">Absent</attribute><attribute name="reason">a park</attribute>
    </tag>
    <box label="cat" xtl="0" ytl="0" xbr="1" ybr="1"></box>
  </image>
  <image id="1" name="001.jpg" width="4" height="4"></image>
</annotations>"""


def test_cvat_tags_are_verdicts_and_boxes_are_not(make):
    first, second = from_cvat(CVAT, make, where="export")
    assert brief([first, second]) == [("web/é", "cat", "present"), ("web/é", "forest", "absent")]
    assert (first.who, first.when, second.reason) == ("bob", "2026-01-02 03:04:05.678901+00:00", "a park")


def test_a_cvat_export_without_names_and_times_takes_the_given_ones(make):
    text = '<annotations><image name="001.jpg"><tag label="cat"/></image></annotations>'
    (verdict,) = from_cvat(text, make, where="export")
    assert (verdict.who, verdict.when) == ("ann", NOW)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<annotations>", "export: not XML"),
        ("<annotation/>", "found <annotation>, expected <annotations>"),
        (CVAT.replace('label="forest"', 'label="forst"'), "export: image 'web/é 1.jpg': label: no label 'forst'"),
        (CVAT.replace("Absent", "no"), "verdict: 'no'"),
    ],
)
def test_a_wrong_cvat_export_is_named_by_image(make, text, expected):
    assert expected in complaint(from_cvat, text, make)


@pytest.mark.parametrize("damage", bad_zips.DAMAGES.values(), ids=list(bad_zips.DAMAGES))
def test_an_encrypted_odd_or_damaged_archive_is_one_line(damage, tmp_path):
    good = io.BytesIO()
    with zipfile.ZipFile(good, "w") as archive:
        archive.writestr("annotations.xml", "<annotations/>" * 100)
    path = tmp_path / "export.zip"
    path.write_bytes(good.getvalue())
    assert read_export(path) == "<annotations/>" * 100
    path.write_bytes(damage(good.getvalue()))
    with pytest.raises(VerdictError, match=r"export\.zip: ") as error:
        read_export(path)
    assert "\n" not in str(error.value)
