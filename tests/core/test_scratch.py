"""Arrays that may be larger than the memory lie in a file that nobody sees, and a full disk is said at once."""

from __future__ import annotations

import errno

import numpy as np
import pytest

from tasks.core import scratch


def test_a_small_array_is_an_ordinary_one():
    array = scratch.zeros((3, 2), np.int8)
    assert type(array) is np.ndarray
    assert not array.any()


def test_a_large_array_lies_in_a_file_that_is_gone_with_it(tmp_path, monkeypatch):
    monkeypatch.setattr(scratch, "LARGE_BYTES", 1)
    monkeypatch.setenv("TAGWRIGHT_CACHE", str(tmp_path))
    array = scratch.zeros((1000, 3))
    assert isinstance(array, np.memmap)
    assert array.dtype == np.float32
    assert not array.any()
    array[7] = 1
    assert array.sum() == 3
    assert list((tmp_path / "scratch").iterdir()) == []


def test_a_disk_without_space_is_said_when_the_array_is_made(tmp_path, monkeypatch):
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(scratch, "LARGE_BYTES", 1)
    monkeypatch.setenv("TAGWRIGHT_CACHE", str(tmp_path))
    monkeypatch.setattr("os.posix_fallocate", refuse)
    with pytest.raises(OSError, match="No space"):
        scratch.zeros((1000, 3))
