"""Open every image file once: content hash, perceptual hash, size, and quarantine with a reason.

With a cache, a file whose size, modification time and inode (remote: size and ETag) are unchanged is not opened again.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from tasks.core import engine
from tasks.core.errors import SourceError, TableError
from tasks.core.isolation import RowLimits
from tasks.core.tables import IMAGES, conform, read_table, write_table
from tasks.images.decode import (
    MAX_PIXELS,
    Animated,
    Decoded,
    Unusable,
    decode,
    is_local,
    local_path,
    read_bytes,
    resolve,
)
from tasks.images.decoder_warnings import collected
from tasks.images.hashing import phash

CHECKED = ("sha256", "phash", "width", "height", "status", "reason")
CACHE = pa.schema(
    [pa.field("location", pa.string(), nullable=False), pa.field("fingerprint", pa.string())]
    + [IMAGES.field(name) for name in CHECKED]
)
CACHE_VERSION = "3"
"""Raise it when the meaning of a checked column changes: earlier caches are then ignored."""

BATCH_ROWS = 64
SAVE_EVERY_S = 60
REMOTE_THREADS = 32
ETAGS = ("ETag", "etag", "md5Hash", "content_md5", "mtime", "LastModified", "last_modified", "updated")
"""What fsspec's file systems call the proof that a remote file is unchanged."""


def check_images(
    images: pa.Table,
    *,
    root: Path = Path(),
    max_pixels: int = MAX_PIXELS,
    animated: Animated = "first_frame",
    workers: int = 1,
    cache_path: Path | None = None,
    limits: RowLimits | None = None,
) -> pa.Table:
    """`images` with the columns sha256, phash, width, height, status and reason of `tables.IMAGES` filled in.

    images: at least the column uri (a path relative to `root`, an absolute one, or an fsspec URI).
    max_pixels: a larger image is quarantined undecoded.  animated: keep the first frame, or quarantine.
    cache_path: Parquet file of earlier results, read, and rewritten every minute; None opens everything.
    limits: what one image may take; without, a decoder that crashes ends this process.
    A quarantined image has status "quarantined" and the reason; an ok one may have a note on what was converted.
    """
    settings = {"version": CACHE_VERSION, "max_pixels": str(max_pixels), "animated": animated}
    locations = [resolve(uri, root) for uri in images["uri"].to_pylist()]
    fingerprints = _fingerprints(locations) if cache_path else [None] * len(locations)
    files = pa.table({"location": pa.array(locations, pa.string()), "fingerprint": pa.array(fingerprints, pa.string())})
    cached = _read_cache(cache_path, settings)

    cached_row = pc.index_in(_key(files), value_set=_key(cached))
    reused = cached.take(cached_row.drop_null())
    parts, saved_at = [reused], time.monotonic()
    check = partial(_check_batch, max_pixels=max_pixels, animated=animated)
    unseen = files.filter(pc.is_null(cached_row))
    for part in engine.map_batches(
        check,
        unseen,
        batch_rows=BATCH_ROWS,
        workers=workers,
        what="images opened",
        releases_gil=True,
        limits=limits,
        guilty=_quarantined,
    ):
        parts.append(part)
        if cache_path and time.monotonic() - saved_at > SAVE_EVERY_S:
            _write_cache(cache_path, parts, settings)
            saved_at = time.monotonic()
    if cache_path and unseen.num_rows:
        _write_cache(cache_path, parts, settings)

    is_cached = cached_row.is_valid().to_numpy(zero_copy_only=False)
    order = np.where(is_cached, np.cumsum(is_cached), reused.num_rows + np.cumsum(~is_cached)) - 1
    checked = pa.concat_tables(parts).take(order)
    others = [name for name in images.column_names if name not in CHECKED]
    return pa.table({**{n: images[n] for n in others}, **{n: checked[n] for n in CHECKED}})


def _check_batch(batch: pa.Table, *, max_pixels: int, animated: Animated) -> pa.Table:
    rows = [_check(location, max_pixels, animated) for location in batch["location"].to_pylist()]
    return _checked(batch, rows)


def _checked(batch: pa.Table, rows: list[dict]) -> pa.Table:
    checked = pa.Table.from_pylist(rows, schema=pa.schema([IMAGES.field(name) for name in CHECKED]))
    return conform(pa.table({**_columns(batch), **_columns(checked)}), CACHE, where="image checks")


def _quarantined(batch: pa.Table, reason: str) -> pa.Table:
    """The row of an image that its process did not survive."""
    row = dict.fromkeys(CHECKED) | {"status": "quarantined", "reason": reason}
    with contextlib.suppress(Exception):
        row["sha256"] = hashlib.sha256(read_bytes(batch["location"][0].as_py())).hexdigest()
    return _checked(batch, [row])


def _columns(table: pa.Table) -> dict[str, pa.ChunkedArray]:
    return {name: table[name] for name in table.column_names}


def _check(location: str, max_pixels: int, animated: Animated) -> dict:
    """One row of CHECKED."""
    row = dict.fromkeys(CHECKED) | {"status": "quarantined"}
    try:
        data = read_bytes(location)
    except FileNotFoundError:
        return row | {"reason": "absent file"}
    except MemoryError:
        raise
    except Exception as error:  # each remote file system has errors of its own
        return row | {"reason": f"cannot be read ({type(error).__name__})"}
    row["sha256"] = hashlib.sha256(data).hexdigest()
    try:
        with collected() as warned:
            decoded = decode(data, max_pixels=max_pixels, animated=animated)
    except Unusable as error:
        row["width"], row["height"] = map(_sane, error.size or (None, None))
        return row | {"reason": str(error)}
    image = decoded.image
    row |= {"phash": phash(image), "width": image.width, "height": image.height, "status": "ok"}
    return row | {"reason": "; ".join([*decoded.notes, *_misnamed(location, decoded), *warned]) or None}


def _sane(side: object) -> int | None:
    """A side in px as a header gave it; None for what is none."""
    return int(side) if isinstance(side, int) and 0 <= side < 2**63 else None


def _misnamed(location: str, decoded: Decoded) -> list[str]:
    extension = os.path.splitext(location)[1].lower()
    named = Image.registered_extensions().get(extension, decoded.format)
    same = named == decoded.format or {named, decoded.format} == {"JPEG", "MPO"}
    return [] if same else [f"{decoded.format} named {extension}"]


# ---------------------------------------------------------------- what was found


def quarantine_lines(images: pa.Table) -> list[str]:
    """A line for each reason, most images first, with the first image of it.  images: with the columns of CHECKED."""
    rows = images.filter(pc.equal(images["status"], "quarantined"))
    reasons, uris = rows["reason"].to_pylist(), rows["uri"].to_pylist()
    first: dict[str, str] = {}
    for reason, uri in zip(reasons, uris, strict=True):
        first.setdefault(reason, uri)
    counts = sorted(Counter(reasons).items(), key=lambda item: (-item[1], item[0]))
    return [
        f"{count} of {images.num_rows} images quarantined: {reason}, e.g. {first[reason]}" for reason, count in counts
    ]


def require_usable(images: pa.Table, *, min_share: float, where: str) -> None:
    """Raise SourceError when no image, or a smaller share than stated, is usable.  where: the source, for messages."""
    num_usable = pc.sum(pc.equal(images["status"], "ok")).as_py() or 0
    if images.num_rows and (not num_usable or num_usable < min_share * images.num_rows):
        raise SourceError(
            f"{where}: {num_usable or 'none'} of its {images.num_rows} images usable: {quarantine_lines(images)[0]}. "
            "Correct the folder in params.yaml, or lower ingest.min_usable_share."
        )


# ---------------------------------------------------------------- cache


def _fingerprints(locations: list[str]) -> list[str | None]:
    """What changes when a file does; None where nothing tells, so that it is opened every time."""
    if all(map(is_local, locations)):
        return [_local_fingerprint(location) for location in locations]
    with ThreadPoolExecutor(REMOTE_THREADS) as threads:
        return list(threads.map(_fingerprint, locations))


def _fingerprint(location: str) -> str | None:
    return _local_fingerprint(location) if is_local(location) else _remote_fingerprint(location)


def _local_fingerprint(location: str) -> str | None:
    try:
        stat = os.stat(local_path(location))
    except OSError:
        return None
    return f"{stat.st_size} {stat.st_mtime_ns} {stat.st_ino}"


def _remote_fingerprint(location: str) -> str | None:
    try:
        file_system, path = fsspec.url_to_fs(location)
        info = file_system.info(path)
    except Exception:  # opening it will say what is wrong
        return None
    etag = next((info[name] for name in ETAGS if info.get(name)), None)
    return f"{info.get('size')} {etag}" if etag else None


def _key(table: pa.Table) -> pa.ChunkedArray:
    """Null, which no cached row has, where the fingerprint is."""
    return pc.binary_join_element_wise(table["location"], table["fingerprint"], "\n")


def _read_cache(path: Path | None, settings: dict[str, str]) -> pa.Table:
    """Earlier results under the same settings; empty when there are none, or none that can be read."""
    if path is None or not Path(path).exists():
        return CACHE.empty_table()
    try:
        table = read_table(path, CACHE)
    except TableError:
        return CACHE.empty_table()
    metadata = {k.decode(): v.decode() for k, v in (table.schema.metadata or {}).items()}
    return table if metadata.items() >= settings.items() else CACHE.empty_table()


def _write_cache(path: Path, parts: list[pa.Table], settings: dict[str, str]) -> None:
    """Only results that hold as long as the fingerprint does: not those of files that could not be read at all."""
    table = pa.concat_tables(parts)
    table = table.filter(pc.and_(table["fingerprint"].is_valid(), table["sha256"].is_valid()))
    write_table(Path(path), table.replace_schema_metadata(settings), CACHE)
