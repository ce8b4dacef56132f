"""A delivery is written as a whole, whatever happens."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap

import pytest

from tasks.demo.new_folder import new_folder

KILLED = """
    import os, signal, sys
    from pathlib import Path
    from tasks.demo.new_folder import new_folder
    with new_folder(Path(sys.argv[1])) as built:
        (built / "half").touch()
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_an_error_leaves_the_old_folder_and_nothing_beside_it(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/old").touch()
    with pytest.raises(ValueError, match="no"), new_folder(tmp_path / "out"):
        raise ValueError("no")
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "old"]


def test_what_a_killed_process_left_is_removed_by_the_next(root, tmp_path):
    out = tmp_path / "deliveries/out"
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(KILLED), str(out)], cwd=root)
    assert done.returncode == -signal.SIGKILL
    assert list(out.parent.glob(".out.*/out/half"))
    with new_folder(out) as built:
        (built / "whole").touch()
    assert [path.name for path in out.parent.rglob("*")] == ["out", "whole"]
