"""Folder trees and manifests."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.commands.predict import list_images
from tasks.core.errors import SourceError
from tasks.core.image_suffixes import IMAGE_SUFFIXES
from tasks.core.tables import ABSENT, PRESENT
from tasks.sources import folder
from tests.sources.deliveries import check_source, source_pairs, touch, write_csv


def test_the_first_folder_is_the_label(tmp_path):
    touch(tmp_path / "cat/1.jpg", tmp_path / "cat/more/2.PNG", tmp_path / "loose.jpg")
    raw = folder.read("f", tmp_path)
    assert source_pairs(raw.labels) == {("cat/1.jpg", "cat"), ("cat/more/2.PNG", "cat")}
    assert raw.images.num_rows == 3
    assert raw.coverage == []
    check_source(raw, "f")


def test_a_pool_has_no_labels(tmp_path):
    touch(tmp_path / "cat/1.jpg", tmp_path / "loose.jpg")
    raw = folder.read("f", tmp_path, labels="none")
    assert (raw.images.num_rows, raw.labels.num_rows, raw.vocabulary) == (2, 0, {})


@pytest.mark.parametrize("suffix", IMAGE_SUFFIXES)
def test_a_folder_holds_the_images_that_predict_takes(tmp_path, suffix):
    touch(tmp_path / f"a{suffix}", tmp_path / f"B{suffix.upper()}", tmp_path / "notes.txt")
    raw = folder.read("f", tmp_path, labels="none")
    assert raw.images["uri"].to_pylist() == sorted(list_images([str(tmp_path)]))
    assert raw.images.num_rows == 2


def test_other_files_are_counted_and_hidden_ones_passed_by(tmp_path):
    touch(tmp_path / "a.jpg", tmp_path / "notes.txt", tmp_path / ".DS_Store", tmp_path / ".cache/b.jpg")
    raw = folder.read("f", tmp_path, labels="none")
    assert raw.images["image_id"].to_pylist() == ["f/a.jpg"]
    assert [(unit, count) for unit, count, _ in raw.dropped] == [("images", 1)]
    check_source(raw, "f")


def test_a_folder_of_one_label_each_may_be_declared_exhaustive(tmp_path):
    touch(tmp_path / "cat/1.jpg", tmp_path / "dog/2.jpg")
    assert folder.read("f", tmp_path, exhaustive=True).coverage == ["cat", "dog"]


def test_class_folders_may_bear_any_name(tmp_path):
    touch(tmp_path / "__proto__/1.jpg", tmp_path / "größe 🐘/2.jpg", tmp_path / "a|b/3.jpg")
    assert set(folder.read("f", tmp_path).vocabulary) == {"__proto__", "größe 🐘", "a|b"}


def test_a_manifest_states_present_absent_and_unknown(tmp_path):
    write_csv(
        tmp_path / "m.csv",
        ("image", "present", "absent", "unknown", "split", "attribution"),
        ("a.jpg", "cat| dog ", "eel", "", "train", "Ann"),
        ("s3://bucket/b.jpg", "", "", "cat", "", ""),
    )
    raw = folder.read("f", tmp_path, manifest="m.csv", exhaustive=True)
    assert source_pairs(raw.labels, state=PRESENT) == {("a.jpg", "cat"), ("a.jpg", "dog")}
    assert source_pairs(raw.labels, state=ABSENT) == {("a.jpg", "eel")}
    assert source_pairs(raw.unknown) == {("s3://bucket/b.jpg", "cat")}
    assert raw.images["uri"].to_pylist()[1] == "s3://bucket/b.jpg"
    assert raw.images["official_split"].to_pylist() == ["train", None]
    check_source(raw, "f")


def test_without_exhaustive_an_unlisted_label_is_unknown(tmp_path):
    write_csv(tmp_path / "m.csv", ("image", "present"), ("a.jpg", "cat"), ("b.jpg", ""))
    raw = folder.read("f", tmp_path, manifest="m.csv")
    assert (raw.coverage, raw.unknown.num_rows) == ([], 0)


def test_a_parquet_manifest_may_hold_lists(tmp_path):
    table = pa.table({"image": ["a.jpg", "b.jpg"], "present": [["cat, tabby", "dog"], None], "absent": [None, ["dog"]]})
    pq.write_table(table, tmp_path / "m.parquet")
    raw = folder.read("f", tmp_path, manifest="m.parquet")
    assert source_pairs(raw.labels, state=PRESENT) == {("a.jpg", "cat, tabby"), ("a.jpg", "dog")}
    assert source_pairs(raw.labels, state=ABSENT) == {("b.jpg", "dog")}


def test_a_link_out_of_the_tree_is_refused(tmp_path):
    touch(tmp_path / "secret.jpg", tmp_path / "pool/b.jpg")
    (tmp_path / "pool/a.jpg").symlink_to(tmp_path / "secret.jpg")
    with pytest.raises(SourceError, match=r"pool/a\.jpg: refused"):
        folder.read("f", tmp_path / "pool", labels="none")
    assert folder.read("f", tmp_path / "pool", labels="none", follow_links=True).images.num_rows == 2
