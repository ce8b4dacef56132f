"""A crawl is a good citizen: secrets of addresses stay secret, and redirects lead nowhere private."""

from __future__ import annotations

import base64

import pytest

from tasks.core.errors import SourceError
from tasks.sources.transfer.addresses import is_public, shown
from tasks.sources.transfer.fetch import Request, RetryPolicy, fetch
from tasks.sources.transfer.fetch_all import fetch_all
from tests.sources.server import Script, serving

QUICK = RetryPolicy(backoff_s=0, timeout_s=5, retries=0)


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("https://a.org/x.jpg?w=3&h=4", "https://a.org/x.jpg?w=3&h=4"),
        ("https://ann:pw@a.org:8443/x.jpg", "https://a.org:8443/x.jpg"),
        ("https://a.org/x?X-Amz-Signature=abc&w=3", "https://a.org/x?X-Amz-Signature=***&w=3"),
        ("https://a.org/x?sv=1&sig=abc%3D", "https://a.org/x?sv=1&sig=***"),
        ("https://a.org/x?access_token=abc", "https://a.org/x?access_token=***"),
        ("https://ann:pw@[a.org/x.jpg", "https://[a.org/x.jpg"),
    ],
)
def test_what_is_shown_of_an_address_opens_no_door(url, text):
    assert shown(url) == text
    assert shown(shown(url)) == shown(url)


@pytest.mark.parametrize(
    "target", ["http://localhost:{port}/x", "http://[::1]:{port}/x", "http://10.0.0.1/x", "http://169.254.169.254/x"]
)
def test_a_redirect_to_a_private_address_is_refused_and_never_asked(target, tmp_path):
    with serving(Script(bodies={"/x": b"secret"}, errors={"/a.jpg": [302]})) as server:
        server.headers["Location"] = target.replace("{port}", server.url.rpartition(":")[2])
        with pytest.raises(SourceError, match=r"/a\.jpg: refused: it redirects to .*, which is no public address"):
            fetch(Request(server.url + "/a.jpg", tmp_path / "a.jpg"), QUICK)
        assert server.requests["/x"] == 0


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/x"])
def test_a_redirect_to_another_scheme_is_refused(target, tmp_path):
    script = Script(errors={"/a.jpg": [302]}, headers={"Location": target})
    with serving(script) as server, pytest.raises(SourceError, match=r"/a\.jpg: (HTTP 302|refused)"):
        fetch(Request(server.url + "/a.jpg", tmp_path / "a.jpg"), QUICK)
    assert not (tmp_path / "a.jpg").exists()


def test_a_redirect_within_the_host_that_was_asked_is_followed(tmp_path):
    with serving(Script(bodies={"/x": b"picture"}, errors={"/a.jpg": [302]})) as server:
        server.headers["Location"] = server.url + "/x"
        fetch(Request(server.url + "/a.jpg", tmp_path / "a.jpg"), QUICK)
    assert (tmp_path / "a.jpg").read_bytes() == b"picture"


def test_a_name_that_stands_for_no_address_is_not_public():
    assert not is_public("")
    assert not is_public("127.0.0.1")
    assert not is_public("::ffff:127.0.0.1")
    assert is_public("8.8.8.8")


def test_user_and_password_are_sent_but_neither_stored_nor_said(tmp_path, caplog):
    with serving(Script(bodies={"/x.jpg": b"picture"})) as server, caplog.at_level("INFO"):
        secret = server.url.replace("http://", "http://ann:hunter2@")
        requests = [
            Request(f"{secret}/x.jpg?sig=s3cr3t", tmp_path / "x.jpg"),
            Request(f"{secret}/none.jpg?sig=s3cr3t", tmp_path / "none.jpg"),
        ]
        server.bodies["/x.jpg?sig=s3cr3t"] = b"picture"
        results = fetch_all(requests, tmp_path / "journal.jsonl", QUICK)
        assert [result.status for result in results] == ["ok", "gone"]
        assert server.seen[0]["Authorization"] == "Basic " + base64.b64encode(b"ann:hunter2").decode()
        num_asked = sum(server.requests.values())
        fetch_all(requests, tmp_path / "journal.jsonl", QUICK)
        assert sum(server.requests.values()) == num_asked, "what was brought is not asked for again"
    said = (tmp_path / "journal.jsonl").read_text() + caplog.text + str(results)
    assert "hunter2" not in said
    assert "s3cr3t" not in said
