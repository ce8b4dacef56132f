"""Killed at random moments, and on a machine that refuses: in small numbers, on the stages that train nothing."""

from __future__ import annotations

import pytest

from tests.faults import kills, machine
from tests.homes import new_home

STAGES = ("make_demo", "ingest", "map_labels", "deduplicate", "verdicts", "recipe", "draft")
FAULTS = (
    *("disk full, a table", "disk full, the image cache", "folder of somebody else", "4 file handles"),
    *("clock goes back", "raw folder vanished", "table vanished", "empty table", "verdicts locked for ever"),
)
NUM_KILLS = 10


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """(jobs, the folder that they leave), within a home in which each has run once."""
    with kills.inside(new_home(tmp_path_factory.mktemp("killed"), kills.TINY)):
        jobs = kills.jobs_of(STAGES)
        yield jobs, kills.run_undisturbed(jobs)


def test_what_was_killed_and_runs_again_leaves_every_byte_as_if_nothing_had_happened(undisturbed):
    tally = kills.kill_at_random(*undisturbed, NUM_KILLS)
    assert tally.failures == []
    assert tally.kills.total() == NUM_KILLS


def test_what_the_machine_refuses_is_one_line_and_leaves_nothing_behind(undisturbed):
    results = list(machine.try_all(*undisturbed, FAULTS))
    assert [result for result in results if not result.good] == []
    assert len(results) == len(FAULTS)


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
