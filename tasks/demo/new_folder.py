"""Writing a delivery: all of it or nothing."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tasks.core.atomic_files import own_prefix


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """An empty folder that replaces `out` when the block ends well, and is removed when it does not.

    What a killed process has left of it is removed by the next.
    """
    out = Path(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=own_prefix(out)) as folder:
        built = Path(folder) / out.name
        built.mkdir()
        yield built
        if out.exists():
            shutil.rmtree(out)
        os.replace(built, out)
