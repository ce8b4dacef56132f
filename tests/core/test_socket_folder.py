"""What multiprocessing keeps in the temporary folder goes away, however its process ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import textwrap

import pytest

RUN = """
    import multiprocessing, os, signal, sys, time
    from tasks.core.socket_folder import name_socket_folder

    name_socket_folder()
    name_socket_folder()
    worker = multiprocessing.get_context("forkserver").Process(target=time.sleep, args=(0.1,))
    worker.start()
    (folder,) = os.listdir(os.environ["TMPDIR"])
    print(folder, os.listdir(os.path.join(os.environ["TMPDIR"], folder)))
    sys.stdout.flush()
    worker.join()
    if sys.argv[1]:
        os.kill(os.getpid(), int(sys.argv[1]))
"""


def run(root, folder, how: int | str = "") -> str:
    """Name and content of its socket folder, the only one there while it runs."""
    line = [sys.executable, "-c", textwrap.dedent(RUN), str(how)]
    environment = {**os.environ, "TMPDIR": str(folder), "PYTHONPATH": str(root)}
    return subprocess.run(line, env=environment, capture_output=True, text=True).stdout


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_what_a_killed_process_left_is_removed_by_the_next_and_that_leaves_nothing(how, root):
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:  # pytest's own is too long for the address of a socket
        killed = run(root, folder, int(how))
        assert "listener-" in killed, "its sockets are there"
        assert os.listdir(folder) == [killed.split()[0]]
        next_one = run(root, folder)
        assert next_one.split()[0] != killed.split()[0]
        assert os.listdir(folder) == []


def test_where_the_address_of_a_socket_would_be_too_long_pythons_own_folder_is_used(root, tmp_path):
    long = tmp_path / ("x" * 60)
    long.mkdir()
    line = [sys.executable, "-c", "from tasks.core.socket_folder import *; name_socket_folder()"]
    subprocess.run(line, env={**os.environ, "TMPDIR": str(long), "PYTHONPATH": str(root)}, check=True)
    assert os.listdir(long) == []
