"""Many downloads: in order, journalled, and polite to each host."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import pytest

from tasks.core.errors import SourceError
from tasks.sources.transfer.fetch import Request, RetryPolicy
from tasks.sources.transfer.fetch_all import RateLimiter, alternate_hosts, fetch_all, read_journal
from tests.sources.server import Script, serving

QUICK = RetryPolicy(backoff_s=0, retries=1, timeout_s=5)


@pytest.fixture
def server():
    with serving(Script(bodies={f"/{n}.jpg": f"picture {n}".encode() for n in range(6)})) as script:
        yield script


def requests_of(server, folder, numbers) -> list[Request]:
    return [Request(f"{server.url}/{n}.jpg", folder / f"{n}.jpg") for n in numbers]


def test_results_come_in_order_and_failures_do_not_stop_the_rest(server, tmp_path):
    server.errors["/2.jpg"] = [500] * 2
    results = fetch_all(requests_of(server, tmp_path, [3, 2, 9, 1]), tmp_path / "log.jsonl", QUICK)
    assert [result.status for result in results] == ["ok", "failed", "gone", "ok"]
    assert "HTTP 404" in results[2].reason


def test_a_second_run_asks_only_for_what_failed_or_was_lost(server, tmp_path):
    server.errors["/2.jpg"] = [500] * 2
    everything = requests_of(server, tmp_path, [1, 2, 3, 9])
    fetch_all(everything, tmp_path / "log.jsonl", QUICK)
    (tmp_path / "3.jpg").unlink()
    server.requests.clear()
    results = fetch_all(everything, tmp_path / "log.jsonl", QUICK)
    assert server.requests == {"/2.jpg": 1, "/3.jpg": 1}
    assert [result.status for result in results] == ["ok", "ok", "ok", "gone"]


def test_a_journal_torn_by_a_kill_loses_only_its_last_line(server, tmp_path):
    journal = tmp_path / "log.jsonl"
    fetch_all(requests_of(server, tmp_path, [1, 2]), journal, QUICK)
    journal.write_text(journal.read_text() + '{"url": "http://cut', encoding="utf-8")
    assert len(read_journal(journal)) == 2
    fetch_all(requests_of(server, tmp_path, [1, 2, 3]), journal, QUICK)
    assert {result.status for result in read_journal(journal).values()} == {"ok"}
    assert len(read_journal(journal)) == 3


def test_a_damaged_journal_names_the_line(tmp_path):
    journal = tmp_path / "log.jsonl"
    journal.write_text('oops\n{"url": "a", "status": "ok"}\n')
    with pytest.raises(SourceError, match=r"log\.jsonl:1: not a download record"):
        read_journal(journal)


def test_requests_to_one_host_keep_their_distance_and_hosts_take_turns(monkeypatch):
    numbers = itertools.count()
    waits = []
    clock = SimpleNamespace(monotonic=lambda: 100.0, sleep=waits.append)
    monkeypatch.setattr("tasks.sources.transfer.fetch_all.time", clock)
    limiter = RateLimiter(min_delay_s=2.0)
    for url in ("http://a/1", "http://a/2", "http://b/1", "http://a/3"):
        limiter.wait(url)
    assert waits == [0, 2, 0, 4]
    urls = [f"http://{host}/{next(numbers)}" for host in "aaab"]
    order = [item.url[7] for item in alternate_hosts([Request(url, None) for url in urls])]
    assert order == ["a", "b", "a", "a"]
