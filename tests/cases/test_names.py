"""Cases: names of pictures as tools write them."""

from __future__ import annotations

import unicodedata

import pytest

from tasks.core.errors import SourceError, VerdictError
from tasks.review.imports import Importer, from_csv, from_cvat, from_label_studio, read_export
from tasks.taxonomy.reading import read_taxonomy
from tests.cases.project import coco_file, picture
from tests.sources.deliveries import voc_xml, write_csv


def usable(project, source: str) -> dict[str, str]:
    """Native id -> file name of the usable images."""
    return {i: row["uri"].rsplit("/", 1)[1] for i, row in project.images(source).items() if row["status"] == "ok"}


def test_windows_paths_in_a_coco_file_find_the_pictures_of_the_folder(project):
    case = project("coco_windows_paths")
    case.run("ingest")
    assert usable(case, "s") == {"0": "a0.jpg", "1": "a1.jpg", "2": "a2.jpg", "3": "a3.jpg"}


@pytest.mark.parametrize("case", ["voc_filename_without_extension", "voc_filename_without_extension_some"])
def test_a_voc_file_name_without_extension_finds_the_picture_of_that_stem(project, case):
    case = project(case)
    case.run("ingest")
    assert set(usable(case, "v")) == {"0", "1", "2"}


@pytest.mark.parametrize(
    ("written", "on_disk"),
    [
        ("M%C3%BCller%201.jpg", "Müller 1.jpg"),
        (unicodedata.normalize("NFD", "Müller.jpg"), unicodedata.normalize("NFC", "Müller.jpg")),
        (unicodedata.normalize("NFC", "Müller.jpg"), unicodedata.normalize("NFD", "Müller.jpg")),
        ("IMG_1.JPG", "img_1.jpg"),
        ("images/a.jpg", "a.jpg"),
        ("D:\\export\\images\\a.jpg", "a.jpg"),
        ("a", "a.jpg"),
        ("7.jpg", "0007.jpg"),
    ],
)
def test_a_coco_file_name_of_another_machine_finds_its_picture(project, tmp_path, written, on_disk):
    coco_file(tmp_path / "a.json", {written: ["cat"]})
    picture(tmp_path / "images" / on_disk)
    case = project(sources={"s": {"kind": "coco", "path": ".", "annotations": "a.json"}})
    case.run("ingest")
    assert usable(case, "s") == {"0": on_disk}


def test_a_voc_picture_may_be_a_png_although_its_xml_says_nothing(project, tmp_path):
    write_csv(tmp_path / "ImageSets/Main/train.txt", ["a"])
    (tmp_path / "Annotations").mkdir()
    (tmp_path / "Annotations/a.xml").write_text(voc_xml(("cat", 0)), encoding="utf-8")
    picture(tmp_path / "JPEGImages/a.png")
    case = project(sources={"v": {"kind": "voc", "path": "."}})
    case.run("ingest")
    assert usable(case, "v") == {"a": "a.png"}


# ---------------------------------------------------------------- predictions


def test_a_vendor_s_file_names_with_folders_are_matched(project):
    case = project("vendor_ids_are_file_names")
    case.run("ingest", "map_labels")
    assert case.labels("mapped.proposals") == {("s/0", "cat"): 1, ("s/1", "dog"): 1, ("s/2", "dog"): 1}
    assert case.report("v")["rows_in"] == 3
    assert case.report("v")["dropped"] == {}


def vendor(project, tmp_path, *rows: tuple, **overlay: dict) -> object:
    case = project("vendor_ids_are_file_names", **overlay)
    write_csv(tmp_path / "vend/p.csv", ("image", "label", "score"), *rows)
    case.run("ingest", "map_labels")
    return case


@pytest.mark.parametrize(
    ("name", "found"),
    [("val/0002", "s/1"), ("2", "s/2"), ("2.0", "s/2"), ("VAL/0002.JPG", "s/1"), ("0002.jpg", "s/1"), ("s/1", "s/1")],
)
def test_a_vendor_s_spelling_of_a_name_is_matched(project, tmp_path, name, found):
    case = vendor(project, tmp_path, (name, "cat", 0.5))
    assert case.labels("mapped.proposals") == {(found, "cat"): 1}


def test_predictions_that_match_nothing_or_several_are_counted_in_report_and_ledger(project, tmp_path):
    rows = [(name, "cat", 0.5) for name in ("0002.jpg", "0001.jpg", "nope.jpg")]
    case = vendor(project, tmp_path, *rows, ingest={"min_usable_share": 0.3})
    reasons = {
        "prediction on a name that several images answer to": 1,
        "prediction on an image that no source lists": 1,
    }
    assert case.report("v")["rows_in"] == 3
    assert case.report("v")["dropped"] == reasons


def test_predictions_that_all_match_nothing_are_an_error(project, tmp_path):
    with pytest.raises(
        SourceError, match=r"sources\.v: none of its 1 predictions matches an image: .*, e\.g\. 's/nope\.jpg'"
    ):
        vendor(project, tmp_path, ("nope.jpg", "cat", 0.5))


# ---------------------------------------------------------------- verdicts


@pytest.fixture
def answers(project):
    """Reads an export of the case; `answers(file, reader)` gives (image id, label, verdict)."""
    case = project("verdict_same_basename")
    case.run("ingest")
    images, taxonomy = case.workspace.read("ingested.images", source="s"), read_taxonomy(case.params.paths.taxonomy)

    def read(file: str, reader, text: str | None = None) -> list[tuple[str, str, str]]:
        make = Importer(images, taxonomy, who="ann", when="2026-05-01T00:00:00+00:00")
        text = read_export(case.folder / file) if text is None else text
        return [(v.image_id, v.label, v.verdict) for v in reader(text, make, where=file)]

    return read


def test_a_verdict_on_a_folder_that_the_project_lacks_is_refused(answers):
    with pytest.raises(VerdictError, match=r"v\.csv:2: no image 'holdout/0002\.jpg'"):
        answers("v.csv", from_csv)


def test_cvat_s_other_folder_is_refused_and_its_bare_name_found(answers):
    with pytest.raises(VerdictError, match=r"image 'other/0002\.jpg': no image 'other/0002\.jpg'"):
        answers("c.xml", from_cvat)
    text = '<annotations><image name="0002.jpg"><tag label="cat"/></image></annotations>'
    assert answers("c.xml", from_cvat, text) == [("s/1", "cat", "present")]


def test_an_address_whose_folder_contradicts_is_refused(answers):
    with pytest.raises(VerdictError, match=r"no image 'https://x/a%23b/0002\.jpg'"):
        answers("ls.json", from_label_studio)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("val/0001.jpg", "s/0"),
        ("train/0001.jpg", "s/2"),
        ("train\\0001.jpg", "s/2"),
        ("/data/upload/1/0123abcd-a%20b.jpg", "s/3"),
        ("/data/local-files/?d=raw/images/val/0001.jpg", "s/0"),
        ("M%C3%BCller.jpg", "s/4"),
        (unicodedata.normalize("NFD", "Müller.jpg"), "s/4"),
    ],
)
def test_a_verdict_s_spelling_of_a_name_is_found(answers, name, found):
    assert answers("x.csv", from_csv, f"image,label,verdict\n{name},cat,absent\n") == [(found, "cat", "absent")]


def test_a_verdict_on_a_name_that_two_folders_share_is_refused_and_both_are_named(answers):
    with pytest.raises(VerdictError, match=r"image '0001\.jpg' may be any of s/0, s/2"):
        answers("x.csv", from_csv, "image,label,verdict\n0001.jpg,cat,absent\n")
