"""Two flows of one repository at once, as a person and the night start them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL

from tests.flows.conftest import copy_stage

pytestmark = pytest.mark.usefixtures("prefect_server")

SLOW = "import sys, time; time.sleep(2); open(sys.argv[1], 'w').write(sys.argv[1]); open('runs', 'a').write('x')"


def test_two_flows_at_once_end_well_and_no_stage_runs_at_the_same_time_as_itself(toy, root):
    slow = {"cmd": "python slow.py a", "outs": ["a"]}
    toy({"first": slow, "second": copy_stage("b", "a")}, scripts={"slow.py": SLOW})
    environment = {**os.environ, "PYTHONPATH": str(root), "PREFECT_API_URL": PREFECT_API_URL.value()}
    line = [sys.executable, "-m", "flows", "run"]
    both = [
        subprocess.Popen(line, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for _ in range(2)
    ]
    said = [flow.communicate()[0] for flow in both]
    assert [flow.returncode for flow in both] == [0, 0], said
    assert Path("b").read_text() == "ab\n"
    assert len(Path("runs").read_text()) == 1, "the second found what the first had made"
