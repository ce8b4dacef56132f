"""Stages killed at random moments, in small numbers."""

from __future__ import annotations

from tests.faults import kills


def test_what_was_killed_and_run_again_leaves_every_byte_as_if_nothing_had_happened(ran):
    jobs, wanted = ran
    tally = kills.kill_at_random(jobs[1:], wanted, 10)
    assert tally.failures == []
    assert tally.kills.total() == 10
