"""A checksum inside the file: whatever byte changes, it shows."""

from __future__ import annotations

import pytest

from tasks.core.seals import SEAL, seal, seal_of


def test_every_changed_byte_breaks_the_seal_or_removes_it(tmp_path):
    path = tmp_path / "file"
    path.write_text(f"numbers 1 2 3 {SEAL} end")
    seal(path)
    sealed = path.read_bytes()
    assert seal_of(path) == "whole"
    for at in range(len(sealed)):
        path.write_bytes(sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :])
        assert seal_of(path) != "whole", at


@pytest.mark.parametrize("content", ["", "no seal"])
def test_a_file_without_a_seal_is_separate_distinct_from_a_damaged_one(tmp_path, content):
    (tmp_path / "file").write_text(content)
    assert seal_of(tmp_path / "file") == "missing"


def test_a_file_is_sealed_where_it_says_so_once(tmp_path):
    (tmp_path / "file").write_text(SEAL + SEAL)
    with pytest.raises(AssertionError, match="2 seals"):
        seal(tmp_path / "file")
