"""Packed training images: what goes in comes out, without copies, in any process."""

from __future__ import annotations

import multiprocessing
import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tasks.core.errors import SourceError, TableError
from tasks.images.decode import open_rgb
from tasks.images.shards import ShardReader, write_shards
from tasks.images.stored_pixels import shrink, stored_jpeg, stored_pixels
from tests.images import pictures
from tests.images.pictures import encode, scene

SIZES = {"a": (200, 100), "b": (64, 64), "c": (30, 500), "d": (64, 65), "e": (1, 1)}


@pytest.fixture
def listed(tmp_path: Path) -> pa.Table:
    for seed, (name, size) in enumerate(SIZES.items()):
        (tmp_path / f"{name}.png").write_bytes(encode(scene(*size, seed=seed)))
    return pa.table({"image_id": [f"web/{n}" for n in SIZES], "uri": [f"{n}.png" for n in SIZES]})


def packed(table: pa.Table, tmp_path: Path, **options) -> Path:
    options = {"short_side_px": 64, "images_per_file": 2} | options
    write_shards(table, tmp_path / "shards", root=tmp_path, **options)
    return tmp_path / "shards"


def test_images_come_back_reduced_to_the_short_side_and_never_enlarged(listed, tmp_path):
    reader = ShardReader(packed(listed, tmp_path))
    assert reader.image_ids == listed["image_id"].to_pylist()
    shapes = {i: reader[reader.index[i]].shape for i in reader.image_ids}
    assert shapes == {
        "web/a": (64, 128, 3),
        "web/b": (64, 64, 3),
        "web/c": (500, 30, 3),
        "web/d": (65, 64, 3),
        "web/e": (1, 1, 3),
    }
    for name in ("b", "c", "d", "e"):
        assert np.array_equal(reader[reader.index[f"web/{name}"]], np.asarray(open_rgb(tmp_path / f"{name}.png")))
    expected = np.asarray(shrink(open_rgb(tmp_path / "a.png"), 64))
    assert np.array_equal(reader[0], expected)


def test_a_rotated_photograph_is_packed_upright(tmp_path):
    (tmp_path / "a.jpg").write_bytes(pictures.rotated_by_exif(scene(48, 32)))
    folder = packed(pa.table({"image_id": ["a"], "uri": ["a.jpg"]}), tmp_path)
    assert ShardReader(folder)[0].shape == (32, 48, 3)


def test_jpegs_come_back_as_stored_and_take_a_fraction_of_the_space(tmp_path):
    (tmp_path / "a.jpg").write_bytes(encode(scene(800, 600), "JPEG"))
    table = pa.table({"image_id": ["a"], "uri": ["a.jpg"]})
    sizes = {}
    for quality in (None, 85):
        path = packed(table, tmp_path, jpeg_quality=quality, short_side_px=256) / "shard-00000.arrow"
        assert np.array_equal(ShardReader(path.parent)[0], stored_pixels(tmp_path / "a.jpg", 256, quality))
        sizes[quality] = path.stat().st_size
    assert sizes[85] < sizes[None] / 10


@pytest.mark.parametrize("jpeg_quality", [None, 85])
def test_equal_input_gives_equal_bytes_whatever_the_number_of_workers(listed, tmp_path, jpeg_quality):
    def contents() -> dict[str, bytes]:
        return {p.name: p.read_bytes() for p in (tmp_path / "shards").iterdir()}

    packed(listed, tmp_path, jpeg_quality=jpeg_quality)
    first = contents()
    assert sorted(first) == ["shard-00000.arrow", "shard-00001.arrow", "shard-00002.arrow"]
    packed(listed, tmp_path, workers=2, jpeg_quality=jpeg_quality)
    assert contents() == first


def test_earlier_shards_are_replaced(listed, tmp_path):
    packed(listed, tmp_path, images_per_file=1)
    reader = ShardReader(packed(listed.slice(0, 2), tmp_path, images_per_file=10))
    assert len(reader) == 2


def test_a_raw_image_is_a_view_into_the_mapped_file(listed, tmp_path):
    reader = ShardReader(packed(listed, tmp_path))
    image = reader[0]
    assert image.dtype == np.uint8
    assert not image.flags.owndata
    assert not image.flags.writeable
    assert np.shares_memory(image, reader[0])


def total(reader: ShardReader, queue) -> None:
    queue.put([int(reader[i].sum()) for i in range(len(reader))])


def test_a_reader_travels_to_another_process(listed, tmp_path):
    reader = ShardReader(packed(listed, tmp_path))
    assert len(pickle.dumps(reader)) < 1000
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=total, args=(reader, queue))
    process.start()
    assert queue.get(timeout=60) == [int(reader[i].sum()) for i in range(len(reader))]
    process.join()


def test_more_images_than_a_batch_keep_their_order(tmp_path):
    (tmp_path / "a.png").write_bytes(encode(scene(4, 4)))
    ids = [f"i{n:03d}" for n in range(150)]
    reader = ShardReader(packed(pa.table({"image_id": ids, "uri": ["a.png"] * 150}), tmp_path, images_per_file=140))
    assert reader.image_ids == ids
    assert reader.positions(["i149", "nobody", "i000"]).tolist() == [149, -1, 0]
    assert np.array_equal(reader[149], reader[0])


def test_an_unreadable_image_is_named(listed, tmp_path):
    (tmp_path / "c.png").write_bytes(b"no picture")
    with pytest.raises(SourceError, match=r"image 'web/c': .*c\.png: not an image"):
        packed(listed, tmp_path)


def test_no_shards_and_a_damaged_one_say_what_to_run(listed, tmp_path):
    with pytest.raises(TableError, match=r"no shards\. Run `dvc repro shard` first"):
        ShardReader(tmp_path)
    folder = packed(listed, tmp_path)
    path = folder / "shard-00001.arrow"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(TableError, match=r"shard-00001\.arrow: not a readable shard"):
        ShardReader(folder)


@pytest.mark.parametrize("at", [0.2, 0.5, 0.8])
def test_a_flipped_bit_of_the_pixels_names_the_image_when_it_is_read(listed, tmp_path, at):
    path = packed(listed.slice(1, 1), tmp_path) / "shard-00000.arrow"
    data, pixels = bytearray(path.read_bytes()), np.asarray(open_rgb(tmp_path / "b.png")).tobytes()
    data[data.index(pixels) + int(at * len(pixels))] ^= 4
    path.write_bytes(data)
    reader = ShardReader(path.parent)
    with pytest.raises(TableError, match=r"image 'web/b' is not as it was packed"):
        reader[0]


def test_a_flipped_bit_of_a_jpeg_names_the_image_though_it_would_decode(listed, tmp_path):
    path = packed(listed.slice(1, 1), tmp_path, jpeg_quality=85) / "shard-00000.arrow"
    data, jpeg = bytearray(path.read_bytes()), stored_jpeg(tmp_path / "b.png", 64, 85).jpeg
    data[data.index(jpeg) + len(jpeg) - 10] ^= 4
    path.write_bytes(data)
    with pytest.raises(TableError, match=r"image 'web/b' is not as it was packed"):
        ShardReader(path.parent)[0]


def test_no_image_writes_no_shard(listed, tmp_path):
    folder = packed(listed.slice(0, 0), tmp_path)
    assert list(folder.iterdir()) == []


def test_the_size_and_the_quality_at_which_they_were_packed_stand_in_the_files(tmp_path):
    """Images smaller than either size are stored alike, yet what is trained from the shards must run again."""
    (tmp_path / "a.png").write_bytes(encode(scene(4, 4)))
    table = pa.table({"image_id": ["a"], "uri": ["a.png"]})
    contents = {}
    for form in [(64, None), (512, None), (64, 85), (64, 86)]:
        folder = packed(table, tmp_path, short_side_px=form[0], jpeg_quality=form[1])
        assert ShardReader(folder).form == form
        contents[form] = (folder / "shard-00000.arrow").read_bytes()
    assert len(set(contents.values())) == 4


def test_shards_of_two_forms_or_of_none_say_what_to_run(listed, tmp_path):
    folder = packed(listed, tmp_path)
    path = folder / "shard-00001.arrow"
    with pa.ipc.open_file(pa.memory_map(str(path))) as file:
        table = file.read_all()
    for metadata, message in (
        ({"short_side_px": "512"}, r"several ways, 512 px, raw and 64 px, raw"),
        ({"short_side_px": "64", "jpeg_quality": "85"}, "several ways, 64 px, JPEG 85 and 64 px, raw"),
        (None, "not a readable shard"),
    ):
        schema = table.schema.with_metadata(metadata)
        with pa.ipc.new_file(tmp_path / "other", schema) as writer:
            writer.write_table(table.replace_schema_metadata(metadata))
        (tmp_path / "other").replace(path)
        with pytest.raises(TableError, match=message):
            ShardReader(folder)
