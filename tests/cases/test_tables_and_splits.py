"""Cases: tables of labels with other columns, and the words by which sources name their splits."""

from __future__ import annotations

import pytest

from tasks.core.errors import SourceError
from tasks.core.split_words import official_split
from tasks.sources import SOURCES, folder
from tests.cases.project import picture, told
from tests.sources.deliveries import source_pairs, touch, write_csv

CAT_AND_DOG = [{"id": name, "from": {"coco": [name], "folder": [name]}} for name in ("cat", "dog")]


def test_the_usual_table_is_read(project):
    case = project("manifest_unknown_columns")
    case.run("ingest", "map_labels")
    assert case.labels() == {("f/0.jpg", "cat"): 1, ("f/1.jpg", "dog"): 0}


def test_labels_in_a_column_labels_beside_another_source_are_read(project):
    case = project("manifest_beside_another_source")
    case.run("ingest", "map_labels")
    of_table = {pair: state for pair, state in case.labels().items() if pair[0].startswith("f/")}
    assert of_table == {
        ("f/m0.jpg", "dog"): 1,
        ("f/m1.jpg", "cat"): 1,
        ("f/m2.jpg", "dog"): 1,
        ("f/m3.jpg", "cat"): 1,
    }


def labels_of(project, tmp_path, *rows: tuple, name: str = "m.csv", **options) -> dict:
    for n in range(4):
        picture(tmp_path / f"images/{n}.jpg")
    write_csv(tmp_path / name, *rows)
    source = {"kind": "folder", "path": ".", "manifest": name, "images": "images", **options}
    case = project(sources={"f": source}, labels=CAT_AND_DOG)
    case.run("ingest", "map_labels")
    return case.labels()


@pytest.mark.parametrize(
    "rows",
    [
        [("image", "labels"), ("0.jpg", "cat|dog"), ("1.jpg", "dog")],
        [("filename", "tags"), ("0.jpg", "cat | dog"), ("1.jpg", "dog")],
        [("image", "label"), ("0.jpg", "cat"), ("0.jpg", "dog"), ("1.jpg", "dog")],
        [("Image Path", "Class"), ("0.jpg", "cat"), ("1.jpg", "dog"), ("0.jpg", "dog")],
        [("", "file", "label"), (0, "0.jpg", "cat|dog"), (1, "1.jpg", "dog")],
        [("image", "labels"), ("0", "cat|dog"), ("1", "dog"), ("2", "nan")],
    ],
)
def test_other_names_for_the_same_columns_are_read(project, tmp_path, rows):
    present = labels_of(project, tmp_path, *rows)
    assert present == {("f/0.jpg", "cat"): 1, ("f/0.jpg", "dog"): 1, ("f/1.jpg", "dog"): 1} or present == {
        ("f/0", "cat"): 1,
        ("f/0", "dog"): 1,
        ("f/1", "dog"): 1,
    }


@pytest.mark.parametrize(
    "rows",
    [
        [("filename", " cat", " dog"), ("0.jpg", " 1", " 0"), ("1.jpg", " 0", " 1"), ("2.jpg", "", "-1")],
        [("image", "cat", "dog"), ("0.jpg", "1.0", "0.0"), ("1.jpg", "False", "True"), ("2.jpg", "nan", "")],
    ],
)
def test_a_column_a_class_is_read_in_three_states(project, tmp_path, rows):
    labels = labels_of(project, tmp_path, *rows, name="_classes.csv")
    assert labels == {
        ("f/0.jpg", "cat"): 1,
        ("f/0.jpg", "dog"): 0,
        ("f/1.jpg", "cat"): 0,
        ("f/1.jpg", "dog"): 1,
    }


def test_a_column_that_means_nothing_is_refused_by_name(project, tmp_path):
    with pytest.raises(SourceError, match=r"column 'etikett' means nothing here \(it holds 'cat', .*ignore_columns"):
        labels_of(project, tmp_path, ("image", "etikett"), ("0.jpg", "cat"))


def test_fastai_s_labels_apart_by_blanks_are_read_by_option(project, tmp_path):
    labels = labels_of(project, tmp_path, ("fname", "labels"), ("0.jpg", "cat dog"), separator=" ")
    assert labels == {("f/0.jpg", "cat"): 1, ("f/0.jpg", "dog"): 1}


# ---------------------------------------------------------------- split words


def test_open_images_validation_is_val(project):
    case = project("openimages_validation")
    source = case.params.sources["o"]
    raw = SOURCES["openimages"]("o", case.folder / source.path, **source.options)
    assert raw.images["official_split"].to_pylist() == ["val", "test", "val"]


@pytest.mark.parametrize(
    ("word", "split"),
    [
        ("TEST", "test"), ("Testing", "test"), ("valid", "val"), ("dev", "val"), ("Validation", "val"),
        ("train2017", "train"), ("trainval", "train"), ("val_2014", "val"), ("tset", None), ("", None), ("2017", None),
    ],
)  # fmt: skip
def test_the_usual_words_in_any_case_are_known(word, split):
    assert official_split(word) == split


def test_a_table_s_own_words_hold_its_test_images_out(project, tmp_path):
    words = ["TEST", "valid", *["Training"] * 10]
    for n in range(12):
        picture(tmp_path / f"{n:02d}.jpg", seed=n)
    rows = [(f"{n:02d}.jpg", "cat|dog", word) for n, word in enumerate(words)]
    write_csv(tmp_path / "m.csv", ("image", "label", "split"), *rows)
    source = {"kind": "folder", "path": ".", "manifest": "m.csv"}
    case = project(sources={"f": source}, labels=CAT_AND_DOG, split={"official_val": True, "calibration_folds": []})
    case.run("ingest", "map_labels", "deduplicate", "split")
    side = dict(zip(*(case.workspace.read("splits")[c].to_pylist() for c in ("image_id", "partition")), strict=True))
    assert side == {f"f/{n:02d}.jpg": "test" if n == 0 else "calibration" if n == 1 else "train" for n in range(12)}


def test_a_word_that_is_none_of_them_is_told(project, tmp_path, caplog):
    labels = labels_of(project, tmp_path, ("image", "label", "split"), ("0.jpg", "cat", "extra"), ("1.jpg", "dog", ""))
    assert labels == {("f/0.jpg", "cat"): 1, ("f/1.jpg", "dog"): 1}
    assert any("official split 'extra' of 1 images" in line for line in told(caplog))


def test_a_word_that_is_nearly_one_of_them_is_refused(project, tmp_path):
    with pytest.raises(SourceError, match=r"official split 'tset' is unknown\. Did you mean 'test'\?"):
        labels_of(project, tmp_path, ("image", "label", "split"), ("0.jpg", "cat", "tset"))


def test_folders_train_valid_test_are_splits_and_not_labels(tmp_path):
    touch(tmp_path / "train/cat/1.jpg", tmp_path / "valid/dog/2.jpg", tmp_path / "Test/cat/3.jpg")
    raw = folder.read("f", tmp_path)
    assert source_pairs(raw.labels) == {
        ("train/cat/1.jpg", "cat"),
        ("valid/dog/2.jpg", "dog"),
        ("Test/cat/3.jpg", "cat"),
    }
    assert raw.images["official_split"].to_pylist() == ["test", "train", "val"]


def test_a_class_named_train_among_others_is_a_class(tmp_path):
    touch(tmp_path / "train/1.jpg", tmp_path / "bus/2.jpg")
    raw = folder.read("f", tmp_path)
    assert source_pairs(raw.labels) == {("train/1.jpg", "train"), ("bus/2.jpg", "bus")}
