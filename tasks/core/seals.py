"""A checksum inside the file that it is of, where a flipped bit would change numbers unnoticed.

    write a file that holds SEAL once, anywhere in its metadata; then seal(path)
    seal_of(path)    whole | broken | missing

SEAL ends in 64 zeros; the SHA-256 of the file, with them, takes their place. So one mechanism serves every format whose
metadata are plain bytes: safetensors, Parquet, ONNX. Shards have a checksum an image (tasks/images/shards.py): they are
mapped, and too large to be read whole before the first image is.
"""

from __future__ import annotations

import hashlib
import mmap
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

MARK, ZEROS = b"tagwright-sha256:", b"0" * 64
SEAL = (MARK + ZEROS).decode()
SEALED = re.compile(re.escape(MARK) + rb"([0-9a-f]{64})")

SealState = Literal["whole", "broken", "missing"]


def seal(path: Path) -> None:
    """Put the digest of a file that was just written into its SEAL."""
    with _mapped(path) as data:
        places = [match.start(1) for match in SEALED.finditer(data)]
        assert len(places) == 1, f"{path}: {len(places)} seals"
        digest = _digest(data, places[0])
    with open(path, "r+b") as file:
        file.seek(places[0])
        file.write(digest)


def seal_of(path: Path) -> SealState:
    """Whether the file is, byte for byte, as it was sealed. Raises OSError."""
    if not path.stat().st_size:
        return "missing"
    with _mapped(path) as data:
        match = SEALED.search(data)
        if match is None:
            return "missing"
        return "whole" if _digest(data, match.start(1)) == match.group(1) else "broken"


@contextmanager
def _mapped(path: Path) -> Iterator[mmap.mmap]:
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        yield data


def _digest(data: mmap.mmap, at: int) -> bytes:
    """Hex SHA-256 of the data with zeros for the digest at this place."""
    with memoryview(data) as view:
        digest = hashlib.sha256(view[:at])
        digest.update(ZEROS)
        digest.update(view[at + len(ZEROS) :])
    return digest.hexdigest().encode()
