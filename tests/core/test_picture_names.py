"""Names of pictures as tools write them: found where there is one answer, refused where there are several."""

from __future__ import annotations

import unicodedata

import pytest

from tasks.core.picture_names import Ambiguous, PictureNames

URIS = {
    "s/0": "raw/images/val/0001.jpg",
    "s/1": "raw/images/val/0002.jpg",
    "s/2": "raw/images/train/0001.jpg",
    "s/3": "raw/images/a b.jpg",
    "s/4": "raw/images/Müller.jpg",
    "s/5": "raw/images/000000000139.jpg",
    "s/6": "raw/images/deep/er/x.tif",
    "s/7": "raw/images/100%.png",
}
NAMES = PictureNames.of_images(list(URIS), list(URIS.values()))


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("val/0001.jpg", "s/0"),
        ("train/0001.jpg", "s/2"),
        ("raw/images/train/0001.jpg", "s/2"),
        ("images/train/0001.jpg", "s/2"),
        ("0002.jpg", "s/1"),
        ("val\\0002.jpg", "s/1"),
        ("..\\label\\val\\0002.jpg", "s/1"),
        ("C:\\data\\val\\0002.JPG", "s/1"),
        ("/home/me/val/0002.jpeg", "s/1"),
        ("https://host/bucket/val/0002.jpg?token=1#x", "s/1"),
        ("val/0002", "s/1"),
        ("VAL/0002.Jpg", "s/1"),
        ("./val//0002.jpg", "s/1"),
        ("a%20b.jpg", "s/3"),
        ("M%C3%BCller.jpg", "s/4"),
        (unicodedata.normalize("NFD", "Müller.jpg"), "s/4"),
        ("MÜLLER", "s/4"),
        ("139", "s/5"),
        ("139.0", "s/5"),
        ("00139.jpg", "s/5"),
        ("er/x.tiff", "s/6"),
        ("100%.png", "s/7"),
    ],
)
def test_a_name_with_one_answer_finds_its_picture(name, found):
    assert NAMES.find(name) == found


@pytest.mark.parametrize(
    "name",
    ["holdout/0002.jpg", "other/0002.jpg", "/x/holdout/0002.jpg", "/x/0002.jpg", "0002.png", "140", "", "/", ".."],
)
def test_a_folder_or_an_extension_that_contradicts_is_no_match(name):
    assert NAMES.find(name) is None


def test_what_two_pictures_answer_to_is_named_and_not_guessed():
    assert NAMES.find("0001.jpg") == Ambiguous(("s/0", "s/2"))
    assert str(NAMES.find("0001")) == "s/0, s/2"


def test_a_picture_above_the_folders_is_meant_by_its_bare_name():
    names = PictureNames.of_images(["s/0", "s/1"], ["raw/0001.jpg", "raw/val/0001.jpg"])
    assert names.find("0001.jpg") == "s/0"
    assert names.find("val/0001.jpg") == "s/1"


def test_another_machine_s_folders_above_the_source_say_nothing_unless_they_name_another_part_of_the_data():
    names = PictureNames.of_images(["s/0", "s/1"], ["raw/train/1.jpg", "raw/train/2.jpg"])
    assert names.find("/data/upload/1.jpg") == "s/0"
    assert names.find("/data/validation/1.jpg") is None
    assert names.find("validation/1.jpg") is None


def test_numbers_that_two_pictures_share_are_ambiguous_unless_one_is_written_so():
    names = PictureNames.of_images(["s/a", "s/b"], ["raw/01.jpg", "raw/001.jpg"])
    assert names.find("1") == Ambiguous(("s/a", "s/b"))
    assert names.find("01") == "s/a"


def test_a_native_id_is_no_file_name():
    names = PictureNames.of_images(["s/7"], ["raw/x.jpg"])
    assert names.find("7") == "s/7"
    assert names.find("007") == "s/7"
    assert names.find("7.jpg") is None


def test_two_spellings_of_one_name_are_separate_distinct_by_the_case_that_is_given():
    names = PictureNames.of_files("raw", ["a.jpg", "A.jpg", "B.JPG"])
    assert names.find("A.jpg") == "A.jpg"
    assert names.find("a.JPG") == "a.jpg"
    assert names.find("a") == "a.jpg"
    assert names.find("b.jpg") == "B.JPG"
