"""Downloads of many files: parallel, polite, and resumed where they stopped by a journal."""

from __future__ import annotations

import json
import logging
import threading
import time
import urllib.parse
from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, replace
from itertools import chain, zip_longest
from pathlib import Path

import msgspec

from tasks.core.engine import progress
from tasks.core.errors import SourceError
from tasks.core.tables import write_text
from tasks.sources.transfer.addresses import shown
from tasks.sources.transfer.fetch import GoneError, Request, Result, RetryPolicy, fetch

log = logging.getLogger(__name__)


class RateLimiter:
    """One request to a host at least `min_delay_s` after the one before, whichever thread makes it."""

    def __init__(self, min_delay_s: float) -> None:
        self._min_delay_s = min_delay_s
        self._next: dict[str, float] = defaultdict(float)
        self._lock = threading.Lock()

    def wait(self, url: str) -> None:
        host = urllib.parse.urlsplit(url).netloc
        with self._lock:
            now = time.monotonic()
            turn = max(now, self._next[host])
            self._next[host] = turn + self._min_delay_s
        time.sleep(turn - now)


def fetch_all(
    requests: Sequence[Request],
    journal: Path,
    policy: RetryPolicy = RetryPolicy(),
    *,
    connections: int = 8,
    what: str = "download",
) -> list[Result]:
    """Download many files; one result each, in the order given. A file that cannot be had is a result, not an error.

    journal: JSON lines, one added per attempt; what it calls ok (and is still there) or gone is not asked for again.
    connections: at a time, spread over hosts.
    """
    before = read_journal(journal)
    names = {r.url: shown(r.url) for r in requests}
    done = {name: before[name] for r in requests if (name := names[r.url]) in before and _is_done(r, before[name])}
    todo = alternate_hosts([r for r in {r.url: r for r in requests}.values() if names[r.url] not in done])
    limiter = RateLimiter(policy.min_delay_s)
    # Written anew: without repeated attempts, and without a line that a kill cut, which the next one would be glued to.
    write_text(journal, "".join(_line(result) for result in before.values()))

    def attempt(request: Request) -> Result:
        limiter.wait(request.url)
        try:
            return fetch(request, policy)
        except GoneError as error:
            return Result(names[request.url], "gone", reason=str(error))
        except SourceError as error:
            return Result(names[request.url], "failed", reason=str(error))

    with (
        open(journal, "a", encoding="utf-8") as lines,
        progress(what, len(todo)) as advance,
        ThreadPoolExecutor(connections) as pool,
    ):
        futures = [pool.submit(attempt, request) for request in todo]
        try:
            for future in as_completed(futures):
                result = future.result()
                done[result.url] = result
                lines.write(_line(result))
                lines.flush()
                advance(1)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)  # Ctrl-C: finish what is in flight, start nothing new
    failed = [result for result in done.values() if result.status != "ok"]
    if failed:
        log.warning("%s: %d of %d could not be downloaded, e.g. %s", what, len(failed), len(done), failed[0].reason)
    return [done[names[request.url]] for request in requests]


def _line(result: Result) -> str:
    return json.dumps(asdict(result), ensure_ascii=False) + "\n"


def read_journal(path: Path) -> dict[str, Result]:
    """The last result of each URL, as `shown`. A last line cut by a kill is passed over.

    Raises SourceError when another line is not a result.
    """
    if not path.exists():
        return {}
    lines = path.read_bytes().split(b"\n")
    results = {}
    for number, line in enumerate(lines, start=1):
        try:
            if line:
                result = msgspec.json.decode(line, type=Result)
                results[shown(result.url)] = replace(result, url=shown(result.url))
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            if number < len(lines):  # a whole line ends with a line break, so only the last one can be a torn one
                raise SourceError(f"{path}:{number}: not a download record ({error}). Remove the line.") from error
    return results


def _is_done(request: Request, result: Result) -> bool:
    """Whether the result of an earlier run still holds."""
    if result.status != "ok":
        return result.status == "gone"
    path = Path(request.path)
    same = not request.sha256 or request.sha256 == result.sha256
    return same and path.is_file() and path.stat().st_size == result.num_bytes


def alternate_hosts(requests: Iterable[Request]) -> list[Request]:
    """Reordered so that consecutive requests go to different hosts where they can: waiting on one delays no other."""
    by_host: dict[str, list[Request]] = defaultdict(list)
    for request in requests:
        by_host[urllib.parse.urlsplit(request.url).netloc].append(request)
    return [r for r in chain.from_iterable(zip_longest(*by_host.values())) if r is not None]
