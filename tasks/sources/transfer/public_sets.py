"""Downloads of many files, and of whole data sets: parallel, polite, and resumed where they stopped.

    fetch_all      many addresses, with a journal: a second run asks only for what is missing
    coco           archives of COCO, unpacked
    openimages     tables of Open Images, and the images that a table names

Nothing here knows an address: locations are options.
"""

from __future__ import annotations

import json
import logging
import stat
import threading
import time
import urllib.parse
import zipfile
from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, replace
from itertools import chain, zip_longest
from pathlib import Path

from tasks.core.engine import progress
from tasks.core.errors import SourceError
from tasks.core.tables import atomic_path, write_text
from tasks.sources.files import csv_records, image_uri
from tasks.sources.transfer.fetch import CHUNK_BYTES, GoneError, Request, Result, RetryPolicy, fetch

log = logging.getLogger(__name__)

# ---------------------------------------------------------------- many files


class _Turns:
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
    wanted: Sequence[Request],
    journal: Path,
    manners: RetryPolicy = RetryPolicy(),
    *,
    connections: int = 8,
    what: str = "download",
) -> list[Result]:
    """Download many files; one outcome each, in the order given. A file that cannot be had is an outcome, not an error.

    journal: JSON lines, one added per attempt; what it calls ok (and is still there) or gone is not asked for again.
    connections: at a time, spread over hosts.
    """
    before = read_journal(journal)
    done = {w.url: before[w.url] for w in wanted if w.url in before and _is_settled(w, before[w.url])}
    todo = _hosts_in_turn([w for w in {w.url: w for w in wanted}.values() if w.url not in done])
    turns = _Turns(manners.min_delay_s)
    # Written anew: without repeated attempts, and without a line that a kill cut, which the next one would be glued to.
    write_text(journal, "".join(_line(outcome) for outcome in before.values()))

    def attempt(item: Request) -> Result:
        turns.wait(item.url)
        try:
            return fetch(item, manners)
        except GoneError as error:
            return Result(item.url, "gone", reason=str(error))
        except SourceError as error:
            return Result(item.url, "failed", reason=str(error))

    with (
        open(journal, "a", encoding="utf-8") as lines,
        progress(what, len(todo)) as advance,
        ThreadPoolExecutor(connections) as pool,
    ):
        futures = [pool.submit(attempt, item) for item in todo]
        try:
            for future in as_completed(futures):
                outcome = future.result()
                done[outcome.url] = outcome
                lines.write(_line(outcome))
                lines.flush()
                advance(1)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)  # Ctrl-C: finish what is in flight, start nothing new
    failed = [o for o in done.values() if o.status != "ok"]
    if failed:
        log.warning("%s: %d of %d could not be downloaded, e.g. %s", what, len(failed), len(done), failed[0].reason)
    return [done[item.url] for item in wanted]


def _line(outcome: Result) -> str:
    return json.dumps(asdict(outcome), ensure_ascii=False) + "\n"


def read_journal(path: Path) -> dict[str, Result]:
    """The last outcome of each URL. A last line cut by a kill is passed over.

    Raises SourceError when another line is not an outcome.
    """
    if not path.exists():
        return {}
    lines = path.read_text(encoding="utf-8").split("\n")
    outcomes = {}
    for number, line in enumerate(lines, start=1):
        try:
            if line:
                outcome = Result(**json.loads(line))
                outcomes[outcome.url] = outcome
        except (ValueError, TypeError) as error:
            if number < len(lines):  # a whole line ends with a line break, so only the last one can be a torn one
                raise SourceError(f"{path}:{number}: not a download record ({error}). Remove the line.") from error
    return outcomes


def _is_settled(wanted: Request, outcome: Result) -> bool:
    if outcome.status != "ok":
        return outcome.status == "gone"
    path = Path(wanted.path)
    same = not wanted.sha256 or wanted.sha256 == outcome.sha256
    return same and path.is_file() and path.stat().st_size == outcome.num_bytes


def _hosts_in_turn(wanted: Iterable[Request]) -> list[Request]:
    """Reordered so that consecutive requests go to different hosts where they can: waiting on one delays no other."""
    by_host: dict[str, list[Request]] = defaultdict(list)
    for item in wanted:
        by_host[urllib.parse.urlsplit(item.url).netloc].append(item)
    return [item for item in chain.from_iterable(zip_longest(*by_host.values())) if item is not None]


# ---------------------------------------------------------------- data sets


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
    manners = replace(RetryPolicy(), user_agent=user_agent, retries=retries)
    for url, sha256 in archives.items():
        archive = root / ".downloads" / urllib.parse.urlsplit(url).path.rsplit("/", 1)[-1]
        unpacked = archive.with_name(archive.name + ".unpacked")
        if unpacked.exists():
            continue
        fetch(Request(url, archive, sha256), manners, show=True)
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
    except zipfile.BadZipFile as error:
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
    manners = replace(RetryPolicy(), user_agent=user_agent, retries=retries)
    for name, url in tables.items():
        fetch(Request(url, root / name), manners, show=True)
    wanted = []
    for name, address in (images or {}).items():
        ids = _image_ids(root / name, set(labels))
        for image_id in ids[: max_images or None]:
            path = Path(image_uri(str(root / "images"), f"{image_id}.jpg", where=str(root / name)))
            wanted.append(Request(address.replace("{id}", urllib.parse.quote(image_id)), path))
    fetch_all(
        wanted,
        root / ".downloads" / "images.jsonl",
        manners,
        connections=connections,
        what=f"images of {root.name}",
    )


def _image_ids(path: Path, labels: set[str]) -> list[str]:
    """Distinct ImageIDs of a table in its order, of rows with one of `labels` when there are any."""
    required = ["ImageID", "LabelName"] if labels else ["ImageID"]
    rows = csv_records(path, required)
    return list(dict.fromkeys(row["ImageID"] for _, row in rows if not labels or row["LabelName"] in labels))
