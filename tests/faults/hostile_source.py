"""A source in which some pictures are bombs, liars, loops and crashers: the others are used, these are named.

    python -m tests.faults --pictures 1000

Bombs and liars are files. No decoder here is known to loop or to crash, so that names stand in for it.
"""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pyarrow as pa

from tasks.core.isolation import RowLimits
from tasks.images import checks
from tests.images import pictures

REASONS = {
    "bomb": "decompression bomb: more than 178,956,970 px",
    "hog": "needs more than 300 MB",
    "liar": "truncated or damaged",
    "loop": "took longer than 3 s",
    "crash": "crashed the decoder",
    "icns": "format not allowed: ICNS",
}
LIMITS = RowLimits(seconds=3, memory_mb=300)
MOST_MB = 1500
check_batch = checks._check_batch


def treacherous(batch: pa.Table, **options) -> pa.Table:
    """As `ingest` checks pictures, but some names crash the process, or keep it for ever."""
    name = Path(batch["location"][0].as_py()).name
    if name.startswith("crash"):
        os.kill(os.getpid(), signal.SIGSEGV)
    while name.startswith("loop"):
        pass
    return check_batch(batch, **options)


@dataclass(frozen=True)
class Result:
    """used, quarantined: names.  reasons: counted.  seconds, peak_mb: of the whole process tree."""

    used: set[str]
    reasons: dict[str, str]
    seconds: float
    peak_mb: float


def write(folder: Path, num_good: int, num_bad: int, *, size: tuple[int, int]) -> tuple[list[str], list[str]]:
    """Names of good and of bad pictures, both written to the folder; the bad ones are spread over all kinds."""
    folder.mkdir(parents=True, exist_ok=True)
    some = [pictures.encode(pictures.scene(*size, seed=n), "JPEG") for n in range(min(num_good, 8))]
    good, bad = [f"good-{n:05}.jpg" for n in range(num_good)], []
    for n, name in enumerate(good):
        (folder / name).write_bytes(some[n % len(some)])
    contents = {
        "bomb": pictures.huge_png(14_000),
        "hog": pictures.huge_png(13_000),
        "liar": some[0][: len(some[0]) // 2],
        "icns": pictures.icns_around(pictures.huge_png(14_000)),
        "crash": some[0],
        "loop": some[0],
    }
    kinds = [kind for kind in contents if kind != "loop"]
    for n in range(num_bad):
        kind = "loop" if n == 0 else kinds[n % len(kinds)]
        bad.append(f"{kind}-{n:02}.jpg")
        (folder / bad[-1]).write_bytes(contents[kind])
    return good, bad


def ingested(folder: Path, names: list[str], *, workers: int) -> Result:
    """The pictures through `ingest`'s check, with the treacherous names."""
    table = pa.table({"image_id": names, "uri": names})
    checks._check_batch = treacherous
    begin = time.monotonic()
    try:
        with _peak_memory() as peak:
            checked = checks.check_images(table, root=folder, workers=workers, limits=LIMITS)
    finally:
        checks._check_batch = check_batch
    seconds = time.monotonic() - begin
    rows = zip(names, checked["status"].to_pylist(), checked["reason"].to_pylist(), strict=True)
    by_status = {name: (status, reason) for name, status, reason in rows}
    used = {name for name, (status, _) in by_status.items() if status == "ok"}
    return Result(used, {n: r for n, (s, r) in by_status.items() if s != "ok"}, seconds, peak[0])


@contextmanager
def _peak_memory() -> Iterator[list[float]]:
    """[MB]: the most that this process and all below it held at once, shared pages counted once."""
    peak, stop = [0.0], threading.Event()

    def watch() -> None:
        while not stop.wait(0.1):
            total = 0
            for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
                try:
                    total += process.memory_full_info().pss
                except psutil.Error:
                    continue
            peak[0] = max(peak[0], total / 2**20)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peak
    finally:
        stop.set()
        watcher.join()


def run(folder: Path, num: int, num_bad: int, *, size: tuple[int, int] = (2000, 1500), workers: int = 2) -> int:
    """Print what becomes of the good ones alone and of all together.

    Returns how many pictures ended otherwise, and one for more than MOST_MB or more than twice the time.
    """
    good, bad = write(folder, num - num_bad, num_bad, size=size)
    mixed = sorted(good + bad, key=lambda name: name[-9:])
    alone, together = (ingested(folder, names, workers=workers) for names in (good, mixed))
    wrong = {name: reason for name, reason in together.reasons.items() if reason != REASONS[name.split("-")[0]]}
    too_much = together.peak_mb > MOST_MB or together.seconds > 2 * alone.seconds
    failures = len(set(good) ^ together.used) + len(wrong) + too_much
    print(f"{len(good)} good pictures alone: {alone.seconds:.1f} s, peak {alone.peak_mb:,.0f} MB")
    print(f"with {len(bad)} bad ones: {together.seconds:.1f} s, peak {together.peak_mb:,.0f} MB")
    print(f"{len(together.used)} used, {len(together.reasons)} quarantined by name:")
    for reason, count in Counter(together.reasons.values()).most_common():
        print(f"  {count:>3} {reason}")
    if too_much:
        print(f"  FAILED more than {MOST_MB:,} MB, or more than twice as long")
    for name, reason in wrong.items():
        print(f"  FAILED {name}: {reason}")
    shutil.rmtree(folder)
    return failures
