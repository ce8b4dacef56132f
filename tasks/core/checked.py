"""Whether params.yaml was found valid since it, or any code, was last edited.

The whole check imports what trains; this asks only for a digest. So the flow and each stage can ask before DVC removes
an output, and only the first to ask after an edit waits.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from tasks.core import environment

PARAMS = Path("params.yaml")


def state(root: Path = Path()) -> str:
    """Digest of params.yaml and of all code under tasks/."""
    digest = hashlib.sha256()
    for path in [root / PARAMS, *sorted((root / "tasks").rglob("*.py"))]:
        content = path.read_bytes() if path.is_file() else b""
        digest.update(f"{path.relative_to(root)}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def is_valid(root: Path = Path()) -> bool:
    """Whether these very files were found valid before."""
    path = root / environment.checked_params()
    return path.is_file() and path.read_text(encoding="utf-8") == state(root)


def mark_valid(digest: str, root: Path = Path()) -> None:
    """Remember that the files of that `state` are valid; taken before the check, so that an edit during it counts."""
    path = root / environment.checked_params()
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_text(digest, encoding="utf-8")
    os.replace(temporary, path)
