"""Arrays that may be larger than the memory: above a size, zeros in a file without a name.

The system can write such pages out instead of ending the process; nothing is left when the array goes, or its process.
"""

from __future__ import annotations

import os
import tempfile

import numpy as np

from tasks.core.environment import scratch_folder

LARGE_BYTES = 1 << 28
"""From which on an array lies in a file."""


def zeros(shape: tuple[int, ...], dtype: np.typing.DTypeLike = np.float32) -> np.ndarray:
    """An array of zeros. Raises OSError where a large one finds no space on the disk."""
    num_bytes = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    if num_bytes < LARGE_BYTES:
        return np.zeros(shape, dtype)
    folder = scratch_folder()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file:
        os.posix_fallocate(file.fileno(), 0, num_bytes)  # a disk that fills up later would end the process by a signal
        return np.memmap(file, dtype, "r+", shape=shape)
