"""Whole public data sets: the archives of COCO, the tables of Open Images and the images that a table names.

Nothing here knows an address: locations are options.
"""

from __future__ import annotations

import stat
import urllib.parse
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tasks.core.atomic_files import atomic_path
from tasks.core.engine import progress
from tasks.core.errors import SourceError
from tasks.sources.files import csv_records, image_uri
from tasks.sources.transfer.fetch import CHUNK_BYTES, Request, RetryPolicy, fetch
from tasks.sources.transfer.fetch_all import fetch_all


def coco(
    root: Path,
    *,
    archives: dict[str, str],
    keep_archives: bool = False,
    user_agent: str = RetryPolicy.user_agent,
    retries: int = RetryPolicy.retries,
) -> None:
    """Download COCO's zip archives and unpack them under `root`. A second run finds them unpacked and does nothing.

    archives: {address: SHA-256 in hex, or "" where it is not known}.
    Raises SourceError for what cannot be had, and for an archive with a member that would leave `root`.
    """
    root = Path(root)
    policy = replace(RetryPolicy(), user_agent=user_agent, retries=retries)
    for url, sha256 in archives.items():
        archive = root / ".downloads" / urllib.parse.urlsplit(url).path.rsplit("/", 1)[-1]
        unpacked = archive.with_name(archive.name + ".unpacked")
        if unpacked.exists():
            continue
        fetch(Request(url, archive, sha256), policy, show=True)
        unpack(archive, root)
        unpacked.touch()
        if not keep_archives:
            archive.unlink()


def unpack(archive: Path, root: Path) -> None:
    """Unpack a zip file; members that are already there in full length are passed over.

    Raises SourceError for a damaged archive, and for a member that is a link or would leave `root`.
    """
    try:
        with zipfile.ZipFile(archive) as file:
            members = [member for member in file.infolist() if not member.is_dir()]
            with progress(f"unpack {archive.name}", len(members)) as advance:
                for member in members:
                    path = Path(image_uri(str(root), member.filename, where=str(archive)))
                    if stat.S_ISLNK(member.external_attr >> 16):
                        raise SourceError(
                            f"{archive}: refused: {member.filename!r} is a link. Unpack it by hand if you trust it."
                        )
                    if not (path.is_file() and path.stat().st_size == member.file_size):
                        with (
                            atomic_path(path) as temporary,
                            file.open(member) as source,
                            open(temporary, "wb") as target,
                        ):
                            while chunk := source.read(CHUNK_BYTES):
                                target.write(chunk)
                    advance(1)
    except RuntimeError as error:  # encrypted, or a method of compression that Python does not know
        raise SourceError(f"{archive}: {error}. Unpack it by hand, or get one without a password.") from error
    except (EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise SourceError(f"{archive}: damaged archive ({error}). Delete it and download it again.") from error


def openimages(
    root: Path,
    *,
    tables: dict[str, str],
    images: dict[str, str] | None = None,
    labels: Sequence[str] = (),
    max_images: int = 0,
    connections: int = 16,
    user_agent: str = RetryPolicy.user_agent,
    retries: int = RetryPolicy.retries,
) -> None:
    """Download tables of Open Images, and then images that they name, under `root`.

    tables: {file name: address}.  images: {one of these file names: address of an image with {id} in it}; the images of
    each such table are put under images/<id>.jpg.  labels: machine ids; only images with a row for one of them, all
    when empty.  max_images: of each table, in its order; 0 = all.
    Raises SourceError when a table cannot be had; images that cannot be had stand in .downloads/images.jsonl.
    """
    root = Path(root)
    policy = replace(RetryPolicy(), user_agent=user_agent, retries=retries)
    for name, url in tables.items():
        fetch(Request(url, root / name), policy, show=True)
    requests = []
    for name, address in (images or {}).items():
        ids = _image_ids(root / name, set(labels))
        for image_id in ids[: max_images or None]:
            path = Path(image_uri(str(root / "images"), f"{image_id}.jpg", where=str(root / name)))
            requests.append(Request(address.replace("{id}", urllib.parse.quote(image_id)), path))
    fetch_all(
        requests,
        root / ".downloads" / "images.jsonl",
        policy,
        connections=connections,
        what=f"images of {root.name}",
    )


def _image_ids(path: Path, labels: set[str]) -> list[str]:
    """Distinct ImageIDs of a table in its order, of rows with one of `labels` when there are any."""
    required = ["ImageID", "LabelName"] if labels else ["ImageID"]
    rows = csv_records(path, required)
    return list(dict.fromkeys(row["ImageID"] for _, row in rows if not labels or row["LabelName"] in labels))
