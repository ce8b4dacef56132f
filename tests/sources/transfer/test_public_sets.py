"""Whole public data sets."""

from __future__ import annotations

import io
import stat
import zipfile

import pytest

from tasks.core.errors import SourceError
from tasks.sources.transfer import public_sets
from tests.sources import bad_zips
from tests.sources.server import Script, serving


@pytest.fixture
def server():
    with serving(Script(bodies={f"/{n}.jpg": f"picture {n}".encode() for n in range(6)})) as script:
        yield script


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
    public_sets.coco(tmp_path, archives=archives)
    assert (tmp_path / "val/1.jpg").read_bytes() == b"one"
    assert not (tmp_path / ".downloads/val.zip").exists()
    public_sets.coco(tmp_path, archives=archives)
    assert server.requests["/zips/val.zip"] == 1


def test_a_damaged_coco_archive_is_one_clear_line(server, tmp_path):
    server.bodies["/val.zip"] = archive(**{"a.jpg": b"x" * 1000})[:-30]
    with pytest.raises(SourceError, match=r"val\.zip: damaged archive"):
        public_sets.coco(tmp_path, archives={f"{server.url}/val.zip": ""})


@pytest.mark.parametrize("damage", bad_zips.DAMAGES.values(), ids=list(bad_zips.DAMAGES))
def test_an_encrypted_odd_or_damaged_archive_is_one_line(damage, tmp_path):
    (tmp_path / "x.zip").write_bytes(damage(archive(**{"a.jpg": b"x" * 1000})))
    with pytest.raises(SourceError, match=r"x\.zip: ") as error:
        public_sets.unpack(tmp_path / "x.zip", tmp_path / "root")
    assert "\n" not in str(error.value)
    assert not list(tmp_path.rglob("*.jpg"))


@pytest.mark.parametrize("name", ["../outside.jpg", "/etc/outside.jpg", "a/../../outside.jpg"])
def test_an_archive_cannot_write_outside(tmp_path, name):
    (tmp_path / "x.zip").write_bytes(archive(**{name: b"bad"}))
    with pytest.raises(SourceError, match="refused image name"):
        public_sets.unpack(tmp_path / "x.zip", tmp_path / "root")
    assert not list(tmp_path.rglob("outside.jpg"))


def test_an_archive_cannot_bring_links(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as file:
        member = zipfile.ZipInfo("link.jpg")
        member.external_attr = (stat.S_IFLNK | 0o777) << 16
        file.writestr(member, "/etc/passwd")
    with pytest.raises(SourceError, match=r"'link\.jpg' is a link"):
        public_sets.unpack(tmp_path / "x.zip", tmp_path / "root")


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
    public_sets.openimages(tmp_path, **options)
    assert {path.name for path in (tmp_path / "images").iterdir()} == {"3.jpg", "4.jpg"}
    requests = server.requests.total()
    public_sets.openimages(tmp_path, **options)
    assert server.requests.total() == requests


def test_openimages_ids_cannot_leave_the_folder(server, tmp_path):
    server.bodies["/l.csv"] = b"ImageID\n../../x\n"
    with pytest.raises(SourceError, match="refused image name"):
        public_sets.openimages(
            tmp_path, tables={"l.csv": f"{server.url}/l.csv"}, images={"l.csv": f"{server.url}/{{id}}.jpg"}
        )
