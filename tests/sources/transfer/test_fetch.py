"""One download: resumed, retried, checked, never half there."""

from __future__ import annotations

import hashlib
import logging
import random
from types import SimpleNamespace

import pytest

from tasks.core.errors import SourceError
from tasks.sources.transfer.fetch import GoneError, Request, RetryPolicy, fetch
from tests.sources.server import Script, serving

BODY = random.Random(0).randbytes(700_000)
SHA256 = hashlib.sha256(BODY).hexdigest()
ETAG = f'"{hashlib.md5(BODY).hexdigest()}"'
QUICK = RetryPolicy(backoff_s=0, timeout_s=5)


@pytest.fixture
def server():
    with serving(Script(bodies={"/x.bin": BODY})) as script:
        yield script


def names(folder) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_file_arrives_whole_with_its_checksum_and_nothing_beside_it(server, tmp_path):
    result = fetch(Request(server.url + "/x.bin", tmp_path / "x.bin", SHA256), QUICK)
    assert (tmp_path / "x.bin").read_bytes() == BODY
    assert (result.status, result.sha256, result.num_bytes) == ("ok", SHA256, len(BODY))
    assert names(tmp_path) == {"x.bin"}


def test_a_file_that_is_there_is_not_asked_for(server, tmp_path):
    (tmp_path / "x.bin").write_bytes(BODY)
    fetch(Request(server.url + "/x.bin", tmp_path / "x.bin", SHA256), QUICK)
    assert server.requests["/x.bin"] == 0


def test_a_partial_download_goes_on_where_it_stopped(server, tmp_path):
    server.cut_after["/x.bin"] = [300_000, 100_000]
    fetch(Request(server.url + "/x.bin", tmp_path / "x.bin", SHA256), QUICK)
    assert (tmp_path / "x.bin").read_bytes() == BODY
    assert [seen.get("Range") for seen in server.seen] == [None, "bytes=300000-", "bytes=400000-"]
    assert [seen.get("If-Range") for seen in server.seen] == [None, ETAG, ETAG]


def test_a_download_killed_in_an_earlier_run_is_resumed(server, tmp_path):
    server.cut_after["/x.bin"] = [300_000]
    with pytest.raises(SourceError, match="ended after 300000 of 700000 bytes, after 1 attempts"):
        fetch(Request(server.url + "/x.bin", tmp_path / "x.bin"), RetryPolicy(retries=0))
    assert names(tmp_path) == {".x.bin.part", ".x.bin.version"}
    fetch(Request(server.url + "/x.bin", tmp_path / "x.bin", SHA256), QUICK)
    assert server.seen[-1]["Range"] == "bytes=300000-"
    assert names(tmp_path) == {"x.bin"}


@pytest.mark.parametrize("change", ["body", "ranges", "etag", "other range"])
def test_a_download_starts_over_when_it_cannot_be_continued_safely(server, tmp_path, change):
    """The file changed on the server; it knows no ranges; it names no version; it answers with another range."""
    if change == "etag":
        server.etag = False
    server.cut_after["/x.bin"] = [300_000]
    with pytest.raises(SourceError):
        fetch(Request(server.url + "/x.bin", tmp_path / "x.bin"), RetryPolicy(retries=0))
    server.ranges = change != "ranges"
    server.range_shift = 7 if change == "other range" else 0
    expected = server.bodies["/x.bin"] = BODY[::-1] if change == "body" else BODY
    fetch(Request(server.url + "/x.bin", tmp_path / "x.bin"), QUICK)
    assert (tmp_path / "x.bin").read_bytes() == expected


def test_a_complete_part_left_by_a_kill_is_fetched_again(server, tmp_path):
    (tmp_path / ".x.bin.part").write_bytes(BODY)
    (tmp_path / ".x.bin.version").write_text(ETAG)
    fetch(Request(server.url + "/x.bin", tmp_path / "x.bin", SHA256), QUICK)
    assert (tmp_path / "x.bin").read_bytes() == BODY


def test_a_busy_server_is_asked_again(server, tmp_path):
    server.errors["/x.bin"] = [503, 500, 429]
    fetch(Request(server.url + "/x.bin", tmp_path / "x.bin", SHA256), QUICK)
    assert server.requests["/x.bin"] == 4


def test_the_server_says_how_long_to_wait(server, tmp_path, monkeypatch):
    pauses = []
    # Not time.sleep itself, which threads of other tests may be in.
    monkeypatch.setattr("tasks.sources.transfer.fetch.time", SimpleNamespace(sleep=pauses.append))
    server.headers["Retry-After"] = "7"
    server.errors["/x.bin"] = [503, 503]
    fetch(Request(server.url + "/x.bin", tmp_path / "x.bin"), RetryPolicy(longest_pause_s=5))
    assert pauses == [5, 5]
    server.headers.clear()
    server.errors["/x.bin"] = [503, 503, 503]
    fetch(Request(server.url + "/x.bin", tmp_path / "y.bin"), RetryPolicy(backoff_s=1))
    assert pauses[2:] == [1, 2, 4]


def test_patience_ends(server, tmp_path):
    server.errors["/x.bin"] = [503] * 9
    with pytest.raises(SourceError, match=r"/x\.bin: HTTP 503, after 3 attempts"):
        fetch(Request(server.url + "/x.bin", tmp_path / "x.bin"), RetryPolicy(retries=2, backoff_s=0))
    assert server.requests["/x.bin"] == 3


def test_what_is_not_there_is_not_asked_for_again(server, tmp_path):
    with pytest.raises(GoneError, match="HTTP 404"):
        fetch(Request(server.url + "/nope", tmp_path / "x.bin"), QUICK)
    assert server.requests["/nope"] == 1


def test_a_wrong_checksum_is_tried_once_more_and_leaves_nothing(server, tmp_path):
    with pytest.raises(SourceError, match=f"SHA-256 is {SHA256}, expected {'0' * 64}"):
        fetch(Request(server.url + "/x.bin", tmp_path / "x.bin", "0" * 64), QUICK)
    assert server.requests["/x.bin"] == 2
    assert not (tmp_path / "x.bin").exists()


def test_a_file_with_a_wrong_checksum_on_disk_is_replaced(server, tmp_path):
    (tmp_path / "x.bin").write_bytes(b"old")
    fetch(Request(server.url + "/x.bin", tmp_path / "x.bin", SHA256), QUICK)
    assert (tmp_path / "x.bin").read_bytes() == BODY


def test_too_large_a_file_is_refused(server, tmp_path):
    with pytest.raises(SourceError, match="larger than max_bytes = 1000"):
        fetch(Request(server.url + "/x.bin", tmp_path / "x.bin"), RetryPolicy(max_bytes=1000))
    assert not (tmp_path / "x.bin").exists()


def test_only_web_addresses_are_fetched(tmp_path):
    with pytest.raises(SourceError, match="refused: not an http or https address"):
        fetch(Request("file:///etc/passwd", tmp_path / "x"))


def test_no_server_at_all_is_one_clear_line(tmp_path):
    with pytest.raises(SourceError, match=r"connection failed .*after 2 attempts"):
        fetch(Request("http://127.0.0.1:9/x", tmp_path / "x"), RetryPolicy(retries=1, backoff_s=0))


def test_the_user_agent_is_sent_and_retries_are_logged(server, tmp_path, caplog):
    server.errors["/x.bin"] = [503]
    with caplog.at_level(logging.INFO, "tasks.sources.transfer.fetch"):
        fetch(Request(server.url + "/x.bin", tmp_path / "x.bin"), RetryPolicy(user_agent="me@example.org", backoff_s=0))
    assert server.seen[0]["User-Agent"] == "me@example.org"
    assert "HTTP 503; attempt 2 of 6 follows" in caplog.text
