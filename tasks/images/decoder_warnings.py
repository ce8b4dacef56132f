"""What Pillow and the C libraries below it say about one image, in place of a log that repeats it for each."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image

from tasks.core.names import printable

MOST_CHARACTERS = 100


@contextmanager
def collected() -> Iterator[list[str]]:
    """A list that holds, when the block has ended, a note on what was said in it; empty where nothing was.

    Only in a process of its own: libtiff writes to the standard error stream, which is the whole process's.
    """
    notes: list[str] = []
    if multiprocessing.parent_process() is None:
        yield notes
        return
    with tempfile.TemporaryFile() as file, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        stderr = os.dup(2)
        os.dup2(file.fileno(), 2)
        try:
            yield notes
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            file.seek(0)
            written = file.read().decode(errors="replace").splitlines()
            lines = list(dict.fromkeys(filter(None, map(printable, [*(str(w.message) for w in caught), *written]))))
            if lines:
                more = f" (+{len(lines) - 1} more)" if len(lines) > 1 else ""
                notes.append(f"decoder: {lines[0][:MOST_CHARACTERS]}{more}")
