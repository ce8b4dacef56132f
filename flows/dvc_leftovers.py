"""What a killed DVC process has left half written, put right before DVC reads it and ends with an error.

DVC writes two files in place: `.dvc/tmp/rwlock`, which process holds which path, and dvc.lock, for which it takes
tenths of a second after each stage. What it brings back from its cache it copies beside the output first.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from tasks.core.errors import PipelineError

if TYPE_CHECKING:
    from dvc.repo import Repo

COPY = re.compile(r".*\.[\w-]{22}\.tmp")
"""DVC's names for what is not yet whole."""

CONFLICT = "<<<<<<< "
"""In a dvc.lock that git could not merge: a person decides."""


def free_paths(repo: Repo) -> None:
    """Drop what processes that are gone hold; DVC does so for a path that it needs, if no other has got the number."""
    from dvc.lock import make_lock
    from dvc.rwlock import RWLOCK_FILE, RWLOCK_LOCK

    folder = Path(repo.tmp_dir)
    path, hardlink = folder / RWLOCK_FILE, repo.config["core"].get("hardlink_lock", False)
    with make_lock(str(folder / RWLOCK_LOCK), tmp_dir=str(folder), hardlink_lock=hardlink):  # nobody is writing it
        if not path.exists():
            return
        try:
            held = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:  # who wrote it was killed
            path.unlink()
            return
        since = path.stat().st_mtime
        write = {name: holder for name, holder in held.get("write", {}).items() if _holds(holder, since)}
        readers = {name: [h for h in all_ if _holds(h, since)] for name, all_ in held.get("read", {}).items()}
        left = {"write": write, "read": {name: holders for name, holders in readers.items() if holders}}
        if left != {"write": {}, "read": {}} | held:
            mended = path.with_name("rwlock.mended")
            mended.write_text(json.dumps(left), encoding="utf-8")
            mended.replace(path)


def _holds(holder: dict[str, Any], since: float) -> bool:
    """Whether the process lives; one that was started after the file was written has only got its number."""
    try:
        return psutil.Process(holder["pid"]).create_time() <= since
    except psutil.NoSuchProcess:
        return False


def remove_copies(repo: Repo) -> None:
    """Remove the copies beside outputs that DVC had begun, as large as these, unless a process of DVC's is at work."""
    from dvc.rwlock import RWLOCK_FILE

    held = Path(repo.tmp_dir, RWLOCK_FILE)
    if held.exists() and any(json.loads(held.read_text(encoding="utf-8")).values()):
        return
    for folder in {Path(out.fs_path).parent for out in repo.index.outs}:
        for path in folder.glob("*.tmp"):
            if COPY.fullmatch(path.name):
                path.unlink(missing_ok=True)


def set_aside(error: Exception, root: Path) -> Path | None:
    """Where dvc.lock is now if DVC's error, or ours because of it, is that it is cut off.

    Its stages are then taken from DVC's run cache.
    """
    from dvc.utils.strictyaml import YAMLSyntaxError, YAMLValidationError

    lock, aside = root / "dvc.lock", root / ".dvc/tmp/dvc.lock.cut-off"
    cause = error.__cause__ if isinstance(error, PipelineError) else error
    broken = isinstance(cause, (YAMLSyntaxError, YAMLValidationError)) and Path(cause.path).name == lock.name
    if not broken or CONFLICT in lock.read_text(encoding="utf-8", errors="replace"):
        return None
    return lock.replace(aside)
