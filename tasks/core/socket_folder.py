"""Where multiprocessing has its sockets: a folder that the next run removes when this process was killed.

Python's own is `pymp-…` in the temporary folder, whose name says of no process, and SIGKILL leaves it there for good.
"""

from __future__ import annotations

import atexit
import contextlib
import multiprocessing
import os
import re
import shutil
import socket
import tempfile
import zlib
from pathlib import Path

import psutil

PREFIX = f"tagwright-{zlib.crc32(socket.gethostname().encode()):08x}-"
"""Of this machine alone: several may share the folder."""
LONGEST = 88
"""Bytes: the address of a socket, `/listener-…` below this folder, may have 107."""


def name_socket_folder() -> None:
    """Call before a process starts workers, which share its folder."""
    config = multiprocessing.current_process()._config  # where `multiprocessing.util.get_temp_dir` looks first
    if "tempdir" in config:
        return
    place = Path(tempfile.gettempdir())
    for folder in place.glob(f"{PREFIX}*"):
        pid = folder.name.removeprefix(PREFIX).partition("-")[0]
        if re.fullmatch(r"\d{1,9}", pid) and not psutil.pid_exists(int(pid)):
            shutil.rmtree(folder, ignore_errors=True)
    prefix = f"{PREFIX}{os.getpid()}-"
    if len(os.fsencode(place / prefix)) + 8 > LONGEST:  # Python's own name is shorter
        return
    with contextlib.suppress(OSError):  # workers that need one will say so
        config["tempdir"] = tempfile.mkdtemp(prefix=prefix, dir=place)
        atexit.register(shutil.rmtree, config["tempdir"], ignore_errors=True)
