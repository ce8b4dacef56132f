"""One download that survives what happens to downloads: lost connections, busy servers, kills, and wrong bytes.

A file is written beside its place under a `.part` name and moved there when it is whole, so what has its final name is
complete. A partial one is continued with a Range request, and only if the server still has the same version (If-Range).
"""

from __future__ import annotations

import http.client
import logging
import os
import re
import ssl
import time
import urllib.error
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from tasks.core.engine import progress
from tasks.core.errors import SourceError
from tasks.core.tables import sha256_of
from tasks.sources.transfer.addresses import is_web, opener, request_for, shown

log = logging.getLogger(__name__)

CHUNK_BYTES = 1 << 18
MB = 1_000_000
RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504})
GONE = frozenset({401, 403, 404, 410, 451})


@dataclass(frozen=True)
class RetryPolicy:
    """When a download is tried again and how often a host is asked, with the limits of one file. Times in seconds.

    retries: further attempts after a failure that may pass.  backoff_s: pause before the first, doubled before each
    next one; a Retry-After header wins, up to `longest_pause_s`.  min_delay_s: between two requests to one host.
    """

    user_agent: str = "tagwright (image dataset downloader)"
    retries: int = 5
    backoff_s: float = 1.0
    longest_pause_s: float = 120.0
    timeout_s: float = 30.0
    min_delay_s: float = 0.0
    max_bytes: int = 0  # refuse larger files; 0 = no limit


@dataclass(frozen=True)
class Request:
    """One file to download: its URL, the path it gets, and its SHA-256 in hex where known."""

    url: str
    path: Path
    sha256: str = ""


@dataclass(frozen=True)
class Result:
    """What became of a request; a line of the journal. url: as `shown`, without secrets.

    status: ok | gone (not asked for again) | failed (asked for again at the next run).
    """

    url: str
    status: str
    path: str = ""
    sha256: str = ""
    num_bytes: int = 0
    reason: str = ""


class _PassingError(Exception):
    """A failure that another attempt may mend. pause_s: what the server asked for, None when it did not."""

    def __init__(self, reason: str, pause_s: float | None = None) -> None:
        super().__init__(reason)
        self.pause_s = pause_s


class GoneError(SourceError):
    """The server says that this will not come back."""


def fetch(request: Request, policy: RetryPolicy = RetryPolicy(), *, show: bool = False) -> Result:
    """Download one file, or find that it is already there (whole files only have that name).

    show: the progress of this one file, in MB; for a file that comes alone.
    Raises SourceError with the URL when it cannot be had, is too large, or is not what its checksum says.
    """
    path, name = Path(request.path), shown(request.url)
    if not is_web(request.url):
        raise SourceError(f"{name}: refused: not an http or https address.")
    if path.exists() and request.sha256 in ("", sha256_of(path)):
        return Result(name, "ok", str(path), sha256_of(path), path.stat().st_size)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    mismatched = False
    for attempt in range(policy.retries + 1):
        try:
            _transfer(request.url, part, policy, show)
            digest = sha256_of(part)
            if request.sha256 and digest != request.sha256:
                part.unlink()
                if mismatched:  # once may be a fault of the line, twice is another file
                    raise SourceError(
                        f"{name}: SHA-256 is {digest}, expected {request.sha256}. Correct the address or checksum."
                    )
                mismatched = True
                raise _PassingError(f"SHA-256 is {digest}, expected {request.sha256}")
            os.replace(part, path)
            _version_file(part).unlink(missing_ok=True)
            return Result(name, "ok", str(path), digest, path.stat().st_size)
        except _PassingError as problem:
            if attempt == policy.retries:
                raise SourceError(
                    f"{name}: {problem}, after {attempt + 1} attempts. Try again later, or correct the address."
                ) from problem
            pause_s = policy.backoff_s * 2**attempt if problem.pause_s is None else problem.pause_s
            log.info("%s: %s; attempt %d of %d follows", name, problem, attempt + 2, policy.retries + 1)
            time.sleep(min(pause_s, policy.longest_pause_s))
    raise AssertionError("unreachable")


def _transfer(url: str, part: Path, policy: RetryPolicy, show: bool) -> None:
    """Bring `part` to the full length, from where an earlier attempt stopped.

    Raises _PassingError when another attempt may do better, else GoneError or SourceError.
    """
    version = _version_file(part)
    begun = version.read_text(encoding="utf-8") if part.exists() and version.exists() else ""
    have = part.stat().st_size if begun else 0  # without a known version there is no telling what was begun
    headers = {"User-Agent": policy.user_agent}
    if have:
        headers |= {"Range": f"bytes={have}-", "If-Range": begun}
    try:
        with opener.open(request_for(url, headers), timeout=policy.timeout_s) as reply:
            resumed = reply.status == 206
            if resumed and (_range_start(reply) != have or _version(reply) not in ("", begun)):
                part.unlink()
                raise _PassingError("the server continued another file than the one begun")
            if not resumed:
                part.unlink(missing_ok=True)  # first: a kill in between must not leave old bytes under a new version
                version.write_text(_version(reply), encoding="utf-8")
            _copy(reply, part, start=have if resumed else 0, max_bytes=policy.max_bytes, show=show)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:  # nothing behind what we have: the file changed, or it is whole; start over to be sure
            part.unlink(missing_ok=True)
            raise _PassingError("HTTP 416 for a continued download") from error
        if error.code in RETRIED:
            raise _PassingError(f"HTTP {error.code}", _retry_after(error.headers)) from error
        kind = GoneError if error.code in GONE else SourceError
        raise kind(f"{shown(url)}: HTTP {error.code} {error.reason}. Check the address.") from error
    except (urllib.error.URLError, ConnectionError, TimeoutError, ssl.SSLError, http.client.HTTPException) as error:
        raise _PassingError(f"connection failed ({error or type(error).__name__})") from error
    except OSError as error:
        raise SourceError(
            f"{part}: cannot be written ({error.strerror}). What is there is kept; run it again."
        ) from error


def _copy(reply: http.client.HTTPResponse, part: Path, *, start: int, max_bytes: int, show: bool) -> None:
    """Append the reply's body at `start`. Raises _PassingError when it ends before its Content-Length."""
    length = reply.headers.get("Content-Length")
    expected = start + int(length) if length is not None else None
    written = start
    bar = (
        progress(f"{part.name[1:].removesuffix('.part')}, MB", (expected or 0) // MB)
        if show
        else nullcontext(_show_nothing)
    )
    with bar as advance, open(part, "r+b" if start else "wb") as file:
        file.seek(start)
        file.truncate()
        advance(start // MB)
        while chunk := reply.read(CHUNK_BYTES):
            if max_bytes and written + len(chunk) > max_bytes:
                raise SourceError(
                    f"{shown(reply.url)}: larger than max_bytes = {max_bytes}. Raise the limit, or leave it out."
                )
            file.write(chunk)
            advance((written + len(chunk)) // MB - written // MB)
            written += len(chunk)
    if expected is not None and written != expected:
        raise _PassingError(f"ended after {written} of {expected} bytes")


def _show_nothing(count: int) -> None:
    pass


def _version_file(part: Path) -> Path:
    return part.with_suffix(".version")


def _version(reply: http.client.HTTPResponse) -> str:
    """Which version of the file this is, "" where the server gives none; a weak ETag does not mean equal bytes."""
    tag = reply.headers.get("ETag", "")
    return tag if tag and not tag.startswith("W/") else reply.headers.get("Last-Modified", "")


def _range_start(reply: http.client.HTTPResponse) -> int:
    match = re.match(r"bytes (\d+)-", reply.headers.get("Content-Range", ""))
    return int(match.group(1)) if match else -1


def _retry_after(headers: http.client.HTTPMessage) -> float | None:
    value = headers.get("Retry-After", "")
    return float(value) if value.isdigit() else None
