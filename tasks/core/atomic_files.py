"""Files that are whole or as they were: replaced at once, changed by one command at a time, appended line by line."""

from __future__ import annotations

import errno
import glob
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tasks.core.errors import TableError

LOCK_TIMEOUT_S = 60
"""For which a command waits for another one that changes the same file."""


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that replaces it when the block ends well, and is removed when it does not.

    What processes of this machine have left that were killed while they wrote `path` is removed first. Of several
    processes of one torchrun only the first one's file is kept.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    prefix = own_prefix(path)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=prefix, suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        if os.environ.get("RANK", "0") == "0":
            os.chmod(temporary, 0o666 & ~_umask())
            os.replace(temporary, path)
    except OSError as error:
        if error.filename in (None, str(temporary)):  # a full disk names no file
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def own_prefix(path: Path) -> str:
    """How the names of this process's temporary files and folders for `path`, beside it, begin.

    Those of processes of this machine that were killed while they wrote `path` are removed.
    """
    prefix = f".{path.name}.{socket.gethostname()}-"
    for leftover in path.parent.glob(f"{glob.escape(prefix)}*"):
        if not _is_alive(leftover.name.removeprefix(prefix).partition(".")[0]):
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink(missing_ok=True)
    return f"{prefix}{os.getpid()}."


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of a file that a person's command reads and then changes: who comes second waits.

    Raises TableError after LOCK_TIMEOUT_S. The lock is a hidden file beside it, free as soon as its holder is dead.
    """
    from filelock import FileLock, Timeout

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.with_name(f".{path.name}.lock")
    try:
        held = FileLock(lock, timeout=LOCK_TIMEOUT_S).acquire()
    except Timeout as error:
        raise TableError(
            f"{path}: another command has been changing it for {LOCK_TIMEOUT_S} s (its lock: {lock}). Wait, or end it."
        ) from error
    with held:
        yield


def append_lines(path: Path, lines: Sequence[str]) -> None:
    """Add lines at the end of a text file, each by one write, and have them on the disk when it returns.

    lines: without line ends. A last line that lacks its end is given one first. Where not all could be written, e.g. on
    a full disk, the file is as it was. Call it under `locked`.
    """
    created = not path.exists()
    handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        size = os.fstat(handle).st_size
        try:
            if size and os.pread(handle, 1, size - 1) != b"\n":
                os.write(handle, b"\n")
            for line in lines:
                data = line.encode() + b"\n"
                if os.write(handle, data) != len(data):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
            os.fsync(handle)
        except BaseException:
            os.ftruncate(handle, size)
            raise
    finally:
        os.close(handle)
    if created:
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _is_alive(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, ValueError):
        return False
    except PermissionError:  # somebody else's
        pass
    return True


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
