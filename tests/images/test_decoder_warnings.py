"""What Pillow and the libraries below it say of an image stands in the image's note, not in the log."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from tasks.core.isolation import RowLimits
from tasks.images.checks import check_images
from tests.images.pictures import encode, scene

BROKEN_EXIF = b"Exif\0\0MM\0*\0\0\0\x08\0\x05\x01\x12\0\x03\0\0\0\x01"


def test_a_warning_is_a_note_on_its_image_alone(tmp_path: Path, capfd):
    (tmp_path / "warned.jpg").write_bytes(encode(scene(), "JPEG", exif=BROKEN_EXIF))
    (tmp_path / "plain.jpg").write_bytes(encode(scene(), "JPEG"))
    table = pa.table({"image_id": ["a", "b"], "uri": ["warned.jpg", "plain.jpg"]})
    checked = check_images(table, root=tmp_path, limits=RowLimits(seconds=60, memory_mb=256))
    assert checked["status"].to_pylist() == ["ok", "ok"]
    warned, plain = checked["reason"].to_pylist()
    assert warned.startswith("decoder: ")
    assert plain is None
    assert "EXIF" not in capfd.readouterr().err
