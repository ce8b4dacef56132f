"""Where a card's picture lies: nothing here starts FiftyOne."""

from __future__ import annotations

from pathlib import Path

import fsspec
import pytest

from tasks.core.errors import ReviewError
from tasks.review.screen.cards import Card
from tasks.review.screen.dataset import local_file


def card(uri: str, sha256: str = "", **columns) -> Card:
    return Card("toy/a", sha256, uri, "toy", **columns)


def store(uri: str, data: bytes) -> None:
    with fsspec.open(uri, "wb") as file:
        file.write(data)


@pytest.mark.parametrize("uri", ["pictures/a.png", "file:///pictures/a.png"])
def test_a_picture_of_this_machine_is_shown_where_it_lies(uri, tmp_path):
    assert local_file(card(uri), tmp_path / "media") == Path(uri.removeprefix("file://")).resolve()
    assert not (tmp_path / "media").exists()


def test_a_remote_picture_is_fetched_once(tmp_path):
    store("memory://screen/once.png", b"first")
    remote = card("memory://screen/once.png", sha256="0123456789abcdef")
    local_file(remote, tmp_path)
    store("memory://screen/once.png", b"second")
    assert local_file(remote, tmp_path).read_bytes() == b"first"


def test_a_remote_picture_that_is_asked_about_and_gone_stops_the_push_with_one_line(tmp_path):
    with pytest.raises(ReviewError, match=r"^review: memory://screen/gone\.png cannot be fetched \(.*\)\.$"):
        local_file(card("memory://screen/gone.png", sha256="ab"), tmp_path)


@pytest.mark.parametrize("name", ["gone.png", "there.png"])
def test_a_remote_picture_that_is_not_used_is_never_fetched(name, tmp_path):
    store("memory://screen/there.png", b"an animation")
    place = local_file(card(f"memory://screen/{name}", quarantined="absent file"), tmp_path)
    assert place.parent == tmp_path
    assert not place.exists()


def test_remote_pictures_without_a_checksum_have_a_file_each(tmp_path):
    for name in "ab":
        store(f"memory://screen/{name}.png", name.encode())
    files = [local_file(card(f"memory://screen/{name}.png"), tmp_path) for name in "ab"]
    assert [file.read_bytes() for file in files] == [b"a", b"b"]
