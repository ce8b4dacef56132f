"""The file that an annotation's image name means: as written, or the one of the folder that it matches."""

from __future__ import annotations

import logging
import unicodedata

from tasks.sources.files import names_on_disk
from tests.sources.deliveries import touch


def found(folder, *names: str) -> list[str]:
    return names_on_disk(str(folder), [[name] for name in names], where="a.json")


def test_names_that_are_there_stay_as_they_are(tmp_path):
    touch(tmp_path / "a.jpg", tmp_path / "x/b%20c.jpg", tmp_path / "d\\e.jpg")
    assert found(tmp_path, "a.jpg", "x/b%20c.jpg", "d\\e.jpg") == ["a.jpg", "x/b%20c.jpg", "d\\e.jpg"]


def test_names_of_other_machines_find_the_file_of_the_folder(tmp_path):
    touch(*(tmp_path / name for name in ("a.jpg", "b c.JPG", "Müller.png", "x/d.jpg", "f.jpg")))
    names = ("..\\label\\a.jpg", "b%20c.jpg", unicodedata.normalize("NFD", "Müller.png"), "C:\\x\\d.jpg", "f")
    assert found(tmp_path, *names) == ["a.jpg", "b c.JPG", "Müller.png", "x/d.jpg", "f.jpg"]


def test_a_name_of_several_files_stays_and_is_told(tmp_path, caplog):
    touch(tmp_path / "x/a.jpg", tmp_path / "y/a.jpg")
    with caplog.at_level(logging.WARNING):
        assert found(tmp_path, "a.jpg") == ["a.jpg"]
    assert caplog.messages == ["a.json: 1 image names may be any of several files, e.g. 'a.jpg' (x/a.jpg, y/a.jpg)"]


def test_one_file_is_never_two_images(tmp_path):
    touch(tmp_path / "a.jpg", tmp_path / "b.jpg")
    assert found(tmp_path, "a.jpg", "A.jpg", "B.jpg", "b.JPG") == ["a.jpg", "A.jpg", "B.jpg", "b.JPG"]


def test_what_leads_out_matches_only_inside(tmp_path):
    touch(tmp_path / "images/a.jpg", tmp_path / "b.jpg")
    assert found(tmp_path / "images", "..\\b.jpg") == ["..\\b.jpg"]
    assert found(tmp_path / "nowhere", "a.jpg") == ["a.jpg"]
