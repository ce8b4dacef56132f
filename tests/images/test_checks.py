"""One pass over the files: what it says of each, and what it does not open again."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import fsspec
import imagehash
import pyarrow as pa
import pytest
from PIL import Image

from tasks.core import tables
from tasks.images import checks
from tasks.images.checks import check_images
from tests.images import pictures
from tests.images.pictures import encode, scene

JPEG = encode(scene(200, 100), "JPEG")
FILES = {
    "good.jpg": JPEG,
    "turned.jpg": pictures.rotated_by_exif(scene(48, 32)),
    "cmyk.jpg": encode(scene().convert("CMYK"), "JPEG"),
    "half.jpg": JPEG[: len(JPEG) // 2],
    "empty.jpg": b"",
    "page.jpg": b"<!doctype html>",
    "misnamed.jpg": encode(scene(), "PNG"),
    "moving.gif": pictures.animation("GIF"),
    "ünï cødé 😀.png": encode(scene(seed=3)),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, data in FILES.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "directory.jpg").mkdir()
    return tmp_path


def listing(*uris: str) -> pa.Table:
    return pa.table({"image_id": [f"web/{u}" for u in uris], "uri": list(uris), "licence": ["CC0"] * len(uris)})


def by_uri(table: pa.Table) -> dict[str, dict]:
    return {row["uri"]: row for row in table.to_pylist()}


def test_every_file_gets_its_facts_or_a_reason(folder):
    rows = by_uri(check_images(listing(*FILES, "absent.jpg", "directory.jpg"), root=folder))
    good = rows["good.jpg"]
    assert good["status"] == "ok"
    assert good["reason"] is None
    assert good["sha256"] == hashlib.sha256(JPEG).hexdigest()
    assert good["phash"] == int(str(imagehash.phash(Image.open(folder / "good.jpg"))), 16)
    assert (good["width"], good["height"]) == (200, 100)
    assert (rows["turned.jpg"]["width"], rows["turned.jpg"]["height"]) == (48, 32)
    assert {u: r["reason"] for u, r in rows.items() if r["status"] == "ok"} == {
        "good.jpg": None,
        "turned.jpg": None,
        "cmyk.jpg": "cmyk -> rgb",
        "misnamed.jpg": "PNG named .jpg",
        "moving.gif": rows["moving.gif"]["reason"],
        "ünï cødé 😀.png": None,
    }
    assert "first of 3 frames" in rows["moving.gif"]["reason"]
    bad = {u: r["reason"] for u, r in rows.items() if r["status"] == "quarantined"}
    assert bad == {
        "half.jpg": "truncated or damaged",
        "empty.jpg": "empty file",
        "page.jpg": "not an image",
        "absent.jpg": "absent file",
        "directory.jpg": "cannot be read (IsADirectoryError)",
    }
    assert all(rows[u]["phash"] is None for u in bad)
    assert rows["half.jpg"]["sha256"] is not None
    assert rows["absent.jpg"]["sha256"] is None


def test_other_columns_and_the_order_of_rows_stay(folder):
    table = listing("page.jpg", "good.jpg", "absent.jpg")
    checked = check_images(table, root=folder)
    assert checked.select(table.column_names).equals(table)
    full = checked.append_column("source", pa.array(["web"] * 3))
    for name in ("attribution", "official_split"):
        full = full.append_column(name, pa.nulls(3, pa.string()))
    assert tables.conform(full, tables.IMAGES, where="images").num_rows == 3


def test_animations_and_large_images_are_quarantined_where_params_say_so(folder):
    rows = by_uri(
        check_images(listing("moving.gif", "good.jpg"), root=folder, animated="quarantine", max_pixels=19_999)
    )
    assert rows["moving.gif"]["reason"] == "animated"
    assert rows["good.jpg"]["reason"] == "decompression bomb: more than 19,999 px"
    assert rows["good.jpg"]["width"] == 200


def test_two_workers_say_the_same_as_one(folder):
    table = listing(*list(FILES) * 20)
    assert check_images(table, root=folder, workers=2).equals(check_images(table, root=folder, workers=1))


def test_remote_images_are_opened_through_their_uri():
    with fsspec.open("memory://bucket/a.jpg", "wb") as file:
        file.write(JPEG)
    rows = by_uri(check_images(listing("memory://bucket/a.jpg", "memory://bucket/none.jpg")))
    assert rows["memory://bucket/a.jpg"]["status"] == "ok"
    assert rows["memory://bucket/none.jpg"]["reason"] == "absent file"


def test_no_image_is_no_error(tmp_path):
    empty = listing("a").slice(0, 0)
    assert check_images(empty, cache_path=tmp_path / "cache.parquet").num_rows == 0


# ---------------------------------------------------------------- cache


@pytest.fixture
def opened(monkeypatch) -> list[str]:
    """The locations that are opened, in this process."""
    seen, read = [], checks.read_bytes
    monkeypatch.setattr(
        checks, "read_bytes", lambda location: seen.append(os.path.basename(location)) or read(location)
    )
    return seen


def test_an_unchanged_file_is_not_opened_again(folder, opened):
    table, cache = listing(*FILES), folder / "cache.parquet"
    first = check_images(table, root=folder, cache_path=cache)
    assert sorted(opened) == sorted(FILES)
    opened.clear()
    assert check_images(table, root=folder, cache_path=cache).equals(first)
    assert opened == []


def test_only_changed_and_new_files_are_opened(folder, opened):
    cache = folder / "cache.parquet"
    check_images(listing("good.jpg", "page.jpg", "cmyk.jpg", "absent.jpg"), root=folder, cache_path=cache)
    opened.clear()
    (folder / "page.jpg").write_bytes(JPEG)
    os.utime(folder / "good.jpg", ns=(1, 1))  # same bytes, another time: opened to be sure
    table = listing("new.jpg", "good.jpg", "page.jpg", "cmyk.jpg", "absent.jpg")
    (folder / "new.jpg").write_bytes(encode(scene(seed=9), "JPEG"))
    again = check_images(table, root=folder, cache_path=cache)
    assert opened == ["new.jpg", "good.jpg", "page.jpg", "absent.jpg"]
    assert again.equals(check_images(table, root=folder))


def test_a_replaced_file_of_equal_size_and_time_is_opened(folder, opened):
    cache, path = folder / "cache.parquet", folder / "good.jpg"
    check_images(listing("good.jpg"), root=folder, cache_path=cache)
    stat = path.stat()
    (folder / "other").write_bytes(bytes(len(JPEG)))
    os.utime(folder / "other", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    os.replace(folder / "other", path)
    rows = by_uri(check_images(listing("good.jpg"), root=folder, cache_path=cache))
    assert rows["good.jpg"]["reason"] == "not an image"


def test_other_settings_or_a_broken_cache_open_everything(folder, opened):
    table, cache = listing("good.jpg", "moving.gif"), folder / "cache.parquet"
    check_images(table, root=folder, cache_path=cache)
    opened.clear()
    rows = by_uri(check_images(table, root=folder, cache_path=cache, animated="quarantine"))
    assert len(opened) == 2
    assert rows["moving.gif"]["status"] == "quarantined"
    cache.write_bytes(b"half a file")
    check_images(table, root=folder, cache_path=cache, animated="quarantine")
    assert len(opened) == 4


def test_a_killed_pass_keeps_what_it_had_done(folder, opened, monkeypatch):
    table, cache = listing("good.jpg", "cmyk.jpg", "page.jpg"), folder / "cache.parquet"
    monkeypatch.setattr(checks, "BATCH_ROWS", 1)
    monkeypatch.setattr(checks, "SAVE_EVERY_S", 0)
    decode = checks.decode

    def killed(data, **options):
        if data == FILES["page.jpg"]:
            raise KeyboardInterrupt
        return decode(data, **options)

    monkeypatch.setattr(checks, "decode", killed)
    with pytest.raises(KeyboardInterrupt):
        check_images(table, root=folder, cache_path=cache)
    monkeypatch.setattr(checks, "decode", decode)
    opened.clear()
    check_images(table, root=folder, cache_path=cache)
    assert opened == ["page.jpg"]


def test_a_remote_file_is_reopened_unless_its_store_proves_it_unchanged(opened, tmp_path, monkeypatch):
    with fsspec.open("memory://bucket/b.jpg", "wb") as file:
        file.write(JPEG)
    table, cache = listing("memory://bucket/b.jpg"), tmp_path / "cache.parquet"
    for _ in range(2):
        check_images(table, cache_path=cache)
    assert len(opened) == 2  # the memory store has no ETag
    info = {"size": len(JPEG), "ETag": "abc"}
    monkeypatch.setattr(type(fsspec.filesystem("memory")), "info", lambda self, path, **kwargs: info)
    for etag in ("abc", "abc", "def"):
        info["ETag"] = etag
        check_images(table, cache_path=cache)
    assert len(opened) == 4
