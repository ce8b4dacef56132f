"""Files made to do harm: none is unpacked beyond the limit, and none ends a source."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from tasks.core import tables
from tasks.core.isolation import RowLimits
from tasks.images.checks import check_images
from tasks.images.decode import FORMATS, Unusable, decode
from tests.images import pictures
from tests.images.pictures import encode, scene
from tests.imports import ROOT

PNG = pictures.huge_png(25_000)
LIMITED = """
import resource, sys
from pathlib import Path
from tasks.images.decode import Unusable, decode
data = Path(sys.argv[1]).read_bytes()
now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (now + 64 * 2**20,) * 2)
try:
    decode(data)
except Unusable as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (pictures.icns_around(PNG), "format not allowed: ICNS"),
        (pictures.ico_around(PNG), "format not allowed: ICO"),
        (PNG, "decompression bomb: more than 178,956,970 px"),
        (pictures.bmp_of(4_294_967_169, 64), "decompression bomb: more than 178,956,970 px"),
        (pictures.gif_with_a_large_later_frame(), "decompression bomb: more than 178,956,970 px"),
    ],
    ids=["icns", "ico", "png", "bmp", "gif"],
)
def test_a_bomb_is_refused_within_64_mb(data, reason, tmp_path):
    path = tmp_path / "picture"
    path.write_bytes(data)
    done = subprocess.run([sys.executable, "-c", LIMITED, str(path)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == reason


def test_an_image_that_needs_too_much_memory_is_quarantined_by_name_and_the_others_are_used(tmp_path: Path):
    (tmp_path / "hog.png").write_bytes(pictures.huge_png(12_000))
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(encode(scene()))
    table = pa.table({"image_id": ["a", "hog", "b"], "uri": ["a.png", "hog.png", "b.png"]})
    checked = check_images(table, root=tmp_path, limits=RowLimits(seconds=60, memory_mb=64))
    assert checked["reason"].to_pylist() == [None, "needs more than 64 MB", None]
    assert checked["status"].to_pylist() == ["ok", "quarantined", "ok"]
    assert checked["sha256"].null_count == 0
    alone = check_images(table.take([0, 2]), root=tmp_path)
    assert checked.take([0, 2]).equals(alone)


@pytest.mark.parametrize("format", ["ICO", "ICNS", "EPS", "PCX", "SGI", "PDF"])
def test_a_format_that_is_not_on_the_list_is_refused_by_name_or_as_no_image(format):
    with pytest.raises(Unusable, match=rf"^(format not allowed: {format}|not an image)$"):
        decode(encode(scene(64, 64), format))


@pytest.mark.parametrize("format", [name for name in FORMATS if name != "HEIF"])
def test_every_format_of_the_list_is_read(format):
    assert decode(encode(scene(), format)).image.size == (48, 32)


@pytest.mark.parametrize("size", [(4_294_967_169, 64), (64, 2**31), (2**31 - 1, 2**31 - 1)])
def test_a_size_beyond_32_bits_ends_no_source(size, tmp_path: Path):
    (tmp_path / "liar.bmp").write_bytes(pictures.bmp_of(*size))
    (tmp_path / "good.png").write_bytes(encode(scene()))
    table = pa.table({"image_id": ["a", "b"], "uri": ["liar.bmp", "good.png"]})
    checked = check_images(table, root=tmp_path, cache_path=tmp_path / "cache.parquet")
    assert checked["status"].to_pylist() == ["quarantined", "ok"]
    again = check_images(table, root=tmp_path, cache_path=tmp_path / "cache.parquet")
    assert again.equals(checked)
    assert checked["width"][0].as_py() in (size[0], None)
    assert checked.schema.field("width").type == tables.IMAGES.field("width").type
