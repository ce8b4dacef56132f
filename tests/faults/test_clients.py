"""Honest clients beside slow ones, in small numbers."""

from __future__ import annotations

from tasks.export.bodies import BodyLimits
from tasks.export.service import Limits
from tests.export import toy
from tests.faults import clients

IMPATIENT = Limits(BodyLimits(grace_s=0.5), max_connections=30, header_timeout_s=0.5, answer_timeout_s=0.5)


def test_every_honest_request_is_answered_beside_more_slow_clients_than_there_are_connections(tmp_path):
    with clients.service(toy.exported(tmp_path), IMPATIENT) as port:
        tally = clients.beside(port, num_honest=4, num_slow=40, seconds=2)
    assert set(tally.answers) == {200}
    assert tally.dropped >= 40, "the slow ones are dropped"
