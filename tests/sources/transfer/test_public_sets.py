"""Many downloads and whole data sets."""

from __future__ import annotations

import io
import itertools
import stat
import zipfile

import pytest

from tasks.core.errors import SourceError
from tasks.sources.transfer import public_sets as download
from tasks.sources.transfer.fetch import Request, RetryPolicy
from tasks.sources.transfer.public_sets import fetch_all, read_journal
from tests.sources.server import Script, serving

QUICK = RetryPolicy(backoff_s=0, retries=1, timeout_s=5)


@pytest.fixture
def server():
    with serving(Script(bodies={f"/{n}.jpg": f"picture {n}".encode() for n in range(6)})) as script:
        yield script


def wanted(server, folder, numbers) -> list[Request]:
    return [Request(f"{server.url}/{n}.jpg", folder / f"{n}.jpg") for n in numbers]


def test_outcomes_come_in_order_and_failures_do_not_stop_the_rest(server, tmp_path):
    server.errors["/2.jpg"] = [500] * 2
    outcomes = fetch_all(wanted(server, tmp_path, [3, 2, 9, 1]), tmp_path / "log.jsonl", QUICK)
    assert [outcome.status for outcome in outcomes] == ["ok", "failed", "gone", "ok"]
    assert "HTTP 404" in outcomes[2].reason


def test_a_second_run_asks_only_for_what_failed_or_was_lost(server, tmp_path):
    server.errors["/2.jpg"] = [500] * 2
    everything = wanted(server, tmp_path, [1, 2, 3, 9])
    fetch_all(everything, tmp_path / "log.jsonl", QUICK)
    (tmp_path / "3.jpg").unlink()
    server.requests.clear()
    outcomes = fetch_all(everything, tmp_path / "log.jsonl", QUICK)
    assert server.requests == {"/2.jpg": 1, "/3.jpg": 1}
    assert [outcome.status for outcome in outcomes] == ["ok", "ok", "ok", "gone"]


def test_a_journal_torn_by_a_kill_loses_only_its_last_line(server, tmp_path):
    journal = tmp_path / "log.jsonl"
    fetch_all(wanted(server, tmp_path, [1, 2]), journal, QUICK)
    journal.write_text(journal.read_text() + '{"url": "http://cut', encoding="utf-8")
    assert len(read_journal(journal)) == 2
    fetch_all(wanted(server, tmp_path, [1, 2, 3]), journal, QUICK)
    assert {outcome.status for outcome in read_journal(journal).values()} == {"ok"}
    assert len(read_journal(journal)) == 3


def test_a_damaged_journal_names_the_line(tmp_path):
    journal = tmp_path / "log.jsonl"
    journal.write_text('oops\n{"url": "a", "status": "ok"}\n')
    with pytest.raises(SourceError, match=r"log\.jsonl:1: not a download record"):
        read_journal(journal)


def test_requests_to_one_host_keep_their_distance_and_hosts_take_turns(monkeypatch):
    now = itertools.count()
    waits = []
    monkeypatch.setattr("tasks.sources.transfer.public_sets.time.monotonic", lambda: 100.0)
    monkeypatch.setattr("tasks.sources.transfer.public_sets.time.sleep", waits.append)
    turns = download._Turns(min_delay_s=2.0)
    for url in ("http://a/1", "http://a/2", "http://b/1", "http://a/3"):
        turns.wait(url)
    assert waits == [0, 2, 0, 4]
    urls = [f"http://{host}/{next(now)}" for host in "aaab"]
    order = [item.url[7] for item in download._hosts_in_turn([Request(url, None) for url in urls])]
    assert order == ["a", "b", "a", "a"]


# ---------------------------------------------------------------- COCO


def archive(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, content in members.items():
            file.writestr(name, content)
    return buffer.getvalue()


def test_coco_archives_are_unpacked_once(server, tmp_path):
    server.bodies["/zips/val.zip"] = archive(**{"val/1.jpg": b"one", "val/2.jpg": b"two"})
    archives = {f"{server.url}/zips/val.zip": ""}
    download.coco(tmp_path, archives=archives)
    assert (tmp_path / "val/1.jpg").read_bytes() == b"one"
    assert not (tmp_path / ".downloads/val.zip").exists()
    download.coco(tmp_path, archives=archives)
    assert server.requests["/zips/val.zip"] == 1


def test_a_damaged_coco_archive_is_one_clear_line(server, tmp_path):
    server.bodies["/val.zip"] = archive(**{"a.jpg": b"x" * 1000})[:-30]
    with pytest.raises(SourceError, match=r"val\.zip: damaged archive"):
        download.coco(tmp_path, archives={f"{server.url}/val.zip": ""})


@pytest.mark.parametrize("name", ["../outside.jpg", "/etc/outside.jpg", "a/../../outside.jpg"])
def test_an_archive_cannot_write_outside(tmp_path, name):
    (tmp_path / "x.zip").write_bytes(archive(**{name: b"bad"}))
    with pytest.raises(SourceError, match="refused image name"):
        download.unpack(tmp_path / "x.zip", tmp_path / "root")
    assert not list(tmp_path.rglob("outside.jpg"))


def test_an_archive_cannot_bring_links(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as file:
        member = zipfile.ZipInfo("link.jpg")
        member.external_attr = (stat.S_IFLNK | 0o777) << 16
        file.writestr(member, "/etc/passwd")
    with pytest.raises(SourceError, match=r"'link\.jpg' is a link"):
        download.unpack(tmp_path / "x.zip", tmp_path / "root")


# ---------------------------------------------------------------- Open Images


def test_openimages_brings_tables_and_the_chosen_images(server, tmp_path):
    rows = "ImageID,LabelName,Confidence\r\n3,/m/cat,1\r\n1,/m/dog,1\r\n3,/m/dog,0\r\n4,/m/cat,0\r\n5,/m/cat,1\r\n"
    server.bodies["/v7/labels.csv"] = rows.encode()
    options = {
        "tables": {"labels.csv": f"{server.url}/v7/labels.csv"},
        "images": {"labels.csv": f"{server.url}/{{id}}.jpg"},
        "labels": ["/m/cat"],
        "max_images": 2,
    }
    download.openimages(tmp_path, **options)
    assert {path.name for path in (tmp_path / "images").iterdir()} == {"3.jpg", "4.jpg"}
    requests = server.requests.total()
    download.openimages(tmp_path, **options)
    assert server.requests.total() == requests


def test_openimages_ids_cannot_leave_the_folder(server, tmp_path):
    server.bodies["/l.csv"] = b"ImageID\n../../x\n"
    with pytest.raises(SourceError, match="refused image name"):
        download.openimages(
            tmp_path, tables={"l.csv": f"{server.url}/l.csv"}, images={"l.csv": f"{server.url}/{{id}}.jpg"}
        )
