"""The one place that turns an error into the line that a person reads, for `tasks` and `flows` alike.

    with one_line():
        app()

Ours (TagwrightError) speak for themselves. What the machine refuses (a full disk, too many open files, no memory, …)
and a source file that does not parse become where, what and what to do. All else is a mistake in this program: its
traceback, and that it is one. Exit 1; 130 on Ctrl-C.
"""

from __future__ import annotations

import _thread
import errno
import os
import re
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tasks.core.errors import TagwrightError
from tasks.core.names import printable

AGAIN = "and run the same command again"
REFUSALS = {
    errno.ENOSPC: f"no space is left on the disk. Free some {AGAIN}",
    errno.EDQUOT: f"the disk quota is used up. Free some or raise it {AGAIN}",
    errno.EROFS: f"the file system is read-only. Mount it for writing, or name another folder, {AGAIN}",
    errno.EMFILE: f"too many open files. Raise the limit (`ulimit -n`) or set TAGWRIGHT_WORKERS lower {AGAIN}",
    errno.ENFILE: f"the whole machine has too many open files. End what else runs {AGAIN}",
    errno.EACCES: f"permission denied. See who owns it (`ls -ld`) {AGAIN}",
    errno.EPERM: f"not permitted. See who owns it (`ls -ld`) {AGAIN}",
    errno.ENOENT: f"no such file or folder, or it went away while it was read. Put it back {AGAIN}",
    errno.ENOMEM: f"out of memory. Set TAGWRIGHT_WORKERS or the batch size lower {AGAIN}",
    errno.EIO: f"the disk reports a fault. Check it {AGAIN}",
    errno.EFBIG: f"larger than a file may be here (`ulimit -f`). Raise the limit {AGAIN}",
    errno.ENOTDIR: f"a part of the path is a file, not a folder. Correct the path {AGAIN}",
    errno.EISDIR: f"a folder stands where a file is expected. Correct the path {AGAIN}",
    errno.ENAMETOOLONG: f"the name is too long for the file system. Shorten it {AGAIN}",
    errno.ESTALE: f"the network drive went away. Mount it again {AGAIN}",
    errno.ECONNREFUSED: f"the connection was refused. Start the server or correct its address {AGAIN}",
}
SPOKEN = (  # what libraries say in words of their own, without an errno
    (r"database or disk is full|No space left on device", REFUSALS[errno.ENOSPC]),
    (r"unable to open database file", f"the database cannot be opened. Check its folder and who owns it {AGAIN}"),
    (r"database is locked", f"the database is held by another process. End it or wait {AGAIN}"),
    (
        r"shared memory|Bus error",
        f"no shared memory is left. Make /dev/shm larger, or set TAGWRIGHT_WORKERS=1, {AGAIN}",
    ),
    (r"Too many open files", REFUSALS[errno.EMFILE]),
    (
        r"DataLoader worker .*(killed|exited)",
        f"a process that loads images was killed, most often for lack of memory. Set TAGWRIGHT_WORKERS lower {AGAIN}",
    ),
    (r"CUDA out of memory", f"the GPU is out of memory. Set the batch size lower {AGAIN}"),
    (r"can't allocate memory|[Uu]nable to allocate", REFUSALS[errno.ENOMEM]),
)
NUMBERED = re.compile(r"\((?:os )?error (\d+)\)|\[[Ee]rrno (\d+)\]")
NESTED = f"nested too deep to be read. Correct the file {AGAIN}"
READERS = ("json", "yaml", "msgspec", "xml")
"""Parsers whose RecursionError is the file's fault."""

PLACES = ("path", "part", "file", "folder", "archive", "where", "source", "root")
"""Names of the variables that say where the work was, nearest to the fault first, where the error does not."""

BUG = "this is a bug; please report it with the lines above"


@contextmanager
def one_line() -> Iterator[None]:
    """End the process with one line on stderr and its status where the block raises an error."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # as both programs have it while they import
        signal.signal(signal.SIGINT, signal.default_int_handler)
    before, sys.unraisablehook = sys.unraisablehook, _resend_interrupt
    try:
        yield
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # who read the output has gone
        sys.exit(1)
    except Exception as error:
        line = line_of(error)
        if line is None:
            traceback.print_exc()
        print(f"error: {printable(line or BUG)}", file=sys.stderr)
        sys.exit(1)
    finally:
        sys.unraisablehook = before


def _resend_interrupt(ignored: sys.UnraisableHookArgs) -> None:
    """Ctrl-C in a function that C code called (numba's compiler, a finaliser) would be printed and lost: send it again.

    A moment later and from another thread, so that it reaches what the main thread does after that function.
    """
    if not issubclass(ignored.exc_type, KeyboardInterrupt):
        return sys.__unraisablehook__(ignored)
    _thread.start_new_thread(_interrupt_soon, ())  # threading's would wait here for its start, and be interrupted


def _interrupt_soon() -> None:
    time.sleep(0.05)
    signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)


def line_of(error: BaseException) -> str | None:
    """Where, what and what to do; None where the error is a mistake of this program."""
    if isinstance(error, TagwrightError):
        return str(error)
    if isinstance(error, AssertionError):
        return None
    reason = _reason(error)
    if reason is None:
        return line_of(error.__cause__) if error.__cause__ is not None else None
    place = _place(error)
    return f"{place}: {reason}." if place else f"{reason}."


def _reason(error: BaseException) -> str | None:
    if isinstance(error, MemoryError):
        return REFUSALS[errno.ENOMEM]
    if isinstance(error, SyntaxError):
        return f"line {error.lineno} is not valid Python: {error.msg}. Correct it {AGAIN}"
    if isinstance(error, RecursionError):
        frames = traceback.extract_tb(error.__traceback__)
        parsers = any(reader in Path(frame.filename).parts for frame in frames[-8:] for reader in READERS)
        return NESTED if parsers or "JSON" in str(error) or "msgspec" in str(error) else None
    text = str(error)
    match = NUMBERED.search(text)
    number = error.errno if isinstance(error, OSError) and error.errno else None
    if number is None and match:
        number = int(match.group(1) or match.group(2))
    if number in REFUSALS:
        return REFUSALS[number]
    for pattern, reason in SPOKEN:
        if re.search(pattern, text):
            return reason
    if isinstance(error, OSError) and (error.filename is not None or number):
        return f"{os.strerror(number) if number else text}. See who owns it and whether the disk is full"
    return None


def _place(error: BaseException) -> str:
    """The file that the error names, else the nearest variable that says where the work was; '' where none does."""
    if isinstance(error, (OSError, SyntaxError)) and error.filename is not None:
        return os.fsdecode(error.filename) if isinstance(error.filename, (str, bytes, os.PathLike)) else ""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    ours = str(Path(__file__).parents[2])
    for frame in reversed(frames):
        if frame.f_code.co_filename.startswith(ours):
            for name in PLACES:
                value = frame.f_locals.get(name)
                if isinstance(value, Path) or (isinstance(value, str) and value and len(value) < 300):
                    return str(value)
    return ""
