"""A crawl: fetched politely, resumed, and entered as unverified proposals."""

from __future__ import annotations

import hashlib

import pytest

from tasks.core.errors import SourceError
from tasks.sources import url_list
from tasks.sources.transfer import crawl
from tests.sources.deliveries import check_source, pairs, write_csv
from tests.sources.server import Script, serving


@pytest.fixture
def server():
    with serving(Script(bodies={"/1.jpg": b"one", "/2.png": b"two", "/odd?id=3": b"three"})) as script:
        yield script


@pytest.fixture
def delivery(server, tmp_path):
    url = server.url
    write_csv(
        tmp_path / "urls.csv",
        ("keyword", "url", "licence", "sha256"),
        ("forest", f"{url}/1.jpg", "CC0", hashlib.sha256(b"one").hexdigest()),
        ("tree", f"{url}/1.jpg", "", ""),
        ("tree", f"{url}/2.png", "", ""),
        ("tree", f"{url}/gone.jpg", "", ""),
        ("Wald 🌲, dicht", f"{url}/odd?id=3", "", ""),
    )
    return tmp_path


def quick(root, **options):
    return crawl.download(root, min_delay_s=0, retries=0, timeout_s=5, **options)


def test_keywords_enter_as_unverified_proposals_with_licence_and_source(delivery, server):
    assert quick(delivery) == {"ok": 3, "gone": 1}
    raw = url_list.read("web", delivery)
    check_source(raw, "web")
    assert set(raw.labels["origin"].to_pylist()) == {"keyword"}
    assert raw.coverage == []
    first = raw.images.to_pylist()[0]
    assert (first["licence"], first["attribution"]) == ("CC0", f"{server.url}/1.jpg")
    assert {label for image_id, label in pairs(raw.labels) if image_id == first["image_id"]} == {"forest", "tree"}
    assert first["uri"].startswith(f"{delivery.as_posix()}/images/")
    assert first["uri"].endswith(".jpg")


def test_what_was_not_downloaded_is_left_out_and_counted_by_reason(delivery):
    before = url_list.read("web", delivery)
    assert before.images.num_rows == 0
    assert before.dropped[0] == ("images", 4, "not downloaded: not asked for yet")
    quick(delivery)
    after = url_list.read("web", delivery)
    assert ("images", 1, "not downloaded: gone") in after.dropped
    check_source(after, "web")


def test_a_second_download_asks_for_nothing_that_it_has(delivery, server):
    quick(delivery)
    server.requests.clear()
    assert quick(delivery) == {"ok": 3, "gone": 1}
    assert server.requests.total() == 0


def test_a_wrong_checksum_is_a_failed_download_and_no_image(delivery, server):
    server.bodies["/1.jpg"] = b"something else"
    assert quick(delivery)["failed"] == 1
    assert ("images", 1, "not downloaded: failed") in url_list.read("web", delivery).dropped


def test_ids_do_not_change_when_the_list_grows(delivery, server):
    quick(delivery)
    before = set(url_list.read("web", delivery).images["image_id"].to_pylist())
    rows = (delivery / "urls.csv").read_text()
    header, rest = rows.split("\n", 1)
    (delivery / "urls.csv").write_text(f"{header}\nnew,{server.url}/new.jpg,,\n{rest}")
    assert before <= set(url_list.read("web", delivery).images["image_id"].to_pylist())


def test_facts_that_disagree_are_refused(tmp_path):
    write_csv(
        tmp_path / "urls.csv", ("keyword", "url", "licence"), ("a", "http://x/1", "CC0"), ("b", "http://x/1", "BY")
    )
    with pytest.raises(SourceError, match=r"urls\.csv:3: licence of http://x/1 is 'BY', above it was 'CC0'"):
        url_list.read("web", tmp_path)
