"""Killed at random moments, and on a machine that refuses: in small numbers, on what trains nothing."""

from __future__ import annotations

import subprocess
import sys

from tests.faults import kills
from tests.imports import ROOT

STAGES = ("make_demo", "ingest", "map_labels", "deduplicate", "verdicts", "recipe", "draft")
FAULTS = (
    *("disk full, a table", "disk full, the image cache", "folder of somebody else", "4 file handles"),
    *("clock goes back", "raw folder vanished", "table vanished", "empty table", "verdicts locked for ever"),
)
NUM_KILLS = 10


def harness(*options: str) -> subprocess.CompletedProcess:
    """In a process of its own: it forks, and a process that has computed in threads must not."""
    command = [sys.executable, "-m", "tests.faults", *options, "--stages", *STAGES]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_what_was_killed_and_runs_again_leaves_every_byte_as_if_nothing_had_happened():
    done = harness("--kills", str(NUM_KILLS))
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{NUM_KILLS} kills, 0 failures" in done.stdout


def test_what_the_machine_refuses_is_one_line_and_leaves_nothing_behind():
    done = harness("--faults", *FAULTS)
    assert done.returncode == 0, done.stdout + done.stderr
    assert all(name in done.stdout for name in FAULTS)


def test_a_file_that_is_half_written_left_over_missing_or_other_is_noticed():
    job = kills.Job("split", lambda: None)
    wanted = {"data/a": "1", "data/b": "2"}
    assert kills.differences(wanted, wanted) == kills.half_written(wanted, wanted, job) == []
    assert kills.differences({"data/a": "1", "data/.tmp": "3"}, wanted) == [
        "data/.tmp is left over",
        "data/b is missing",
    ]
    assert kills.differences({**wanted, "data/a": "x"}, wanted) == ["data/a differs"]
    assert kills.half_written({"data/a": "x", "data/.tmp": "3"}, wanted, job) == ["data/a is half written"]
