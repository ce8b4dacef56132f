"""Benchmarks are run for crashes alone, never for time: `make bench QUICK=1`."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.benchmarks.__main__ import QUICK
from tests.benchmarks.photographs import REAL_DATA
from tests.imports import ROOT


@pytest.mark.skipif(not REAL_DATA.exists(), reason="needs ../shared/data")
def test_each_quick_form_runs_to_its_end():
    command = [sys.executable, "-m", "tests.benchmarks", "--quick"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-3000:]
    parts = ran.stdout.split("benchmarks: ")[1:]
    assert [part.split()[0] for part in parts] == list(QUICK)
    assert all(len(part.splitlines()) > 3 for part in parts), ran.stdout  # its name and options, and a table
