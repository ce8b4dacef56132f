"""What a machine does to a run: full disks, killed workers, dead servers, a clock that goes back, and so on.

    python -m tests.faults --faults

Each fault is laid upon one stage, in a child that was forked for it. The stage then does its work all the same, or says
in one line what is wrong; and when the fault is lifted it leaves every byte as if nothing had happened.

To add one: a function that breaks something in the child, and a line in FAULTS.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil

from tasks.core import atomic_files
from tasks.params import load_params
from tests.faults.kills import Job, Tree, child_of, differences, log_of, tree

LIMIT_S = 120
"""For a stage under a fault."""

Expected = Literal["works", "one line", "either"]


@dataclass(frozen=True)
class Fault:
    """breaks: called in the child before the stage; or a context around both, in the parent, if `outside`.

    expected: of the stage under it.
    """

    stage: str
    breaks: Callable
    expected: Expected
    outside: bool = False


@dataclass(frozen=True)
class Result:
    """ends: works, one line, or what is wrong.  line: what was said.  after: differences when the fault is lifted."""

    name: str
    ends: str
    seconds: float
    line: str
    after: Sequence[str]
    good: bool


# ---------------------------------------------------------------- in the child


def small_files() -> None:
    """As on a full disk: no file may grow beyond 2 KB."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2048, 2048))


def few_handles(most: int) -> None:
    """`ulimit -n`."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def little_memory(megabytes: int) -> None:
    """`ulimit -v`, so much beyond what is taken already."""
    begin = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (begin + megabytes * 2**20,) * 2)


def somebody_else() -> None:
    """Who may read everything here and write nothing."""
    if os.getuid() == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
    else:
        for folder in ("data", "data/interim", "data/interim/mapped", "data/reports", "data/reports/ledger"):
            os.chmod(folder, 0o555)


def no_temporary_folder() -> None:
    """TMPDIR that went away."""
    os.environ["TMPDIR"] = tempfile.tempdir = "/nowhere"


def clock_back() -> None:
    """A day earlier than all files are."""
    now, now_ns = time.time, time.time_ns
    time.time, time.time_ns = (lambda: now() - 86_400), (lambda: now_ns() - 86_400 * 10**9)


def tracked_at(address: str) -> None:
    """Recorded by an MLflow server at this address."""
    os.environ.update(MLFLOW_TRACKING_URI=address, TAGWRIGHT_TRACKING="on")


def nobody_reads() -> None:
    """As in `… | head -0`."""
    reading, writing = os.pipe()
    os.close(reading)
    os.dup2(writing, 1)


def old_locale() -> None:
    """A terminal that knows ASCII alone."""
    sys.stdout.reconfigure(encoding="ascii", errors="strict")
    sys.stderr.reconfigure(encoding="ascii", errors="backslashreplace")


# ---------------------------------------------------------------- in the child, with mounts of its own


def mounted(kind: str, path: Path, options: str) -> None:
    """A file system at the path that only this process and its children see. Needs root, as in a container."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(0x00020000):  # CLONE_NEWNS
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(path))
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    device = str(path) if kind == "bind" else "none"
    types = ["--bind"] if kind == "bind" else ["-t", kind]
    subprocess.run(["mount", *types, *(["-o", options] if kind != "bind" else []), device, str(path)], check=True)
    if kind == "bind":
        subprocess.run(["mount", "-o", f"remount,bind,{options}", str(path)], check=True)


def may_mount() -> bool:
    """Whether this machine lets a process have mounts of its own."""
    line = ["unshare", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"]
    return shutil.which("unshare") is not None and subprocess.run(line, capture_output=True).returncode == 0


# ---------------------------------------------------------------- around it


@contextlib.contextmanager
def moved_away(path: Path, instead: Callable[[Path], object] = lambda path: None) -> Iterator[None]:
    """A file or folder that vanished, or something else in its place."""
    aside = path.with_name(f"aside-{path.name}")
    os.rename(path, aside)
    instead(path)
    try:
        yield
    finally:
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)
        os.rename(aside, path)


@contextlib.contextmanager
def worker_killed() -> Iterator[None]:
    """SIGKILL to the first process without children of its own, below the stage, that has begun to work."""
    stop = threading.Event()

    def hunt() -> None:
        while not stop.wait(0.02):
            stages = psutil.Process().children()
            for process in (p for stage in stages for p in stage.children(recursive=True)):
                with contextlib.suppress(psutil.Error):
                    helper = any("resource_tracker" in part for part in process.cmdline())
                    if not helper and not process.children() and process.cpu_times().user > 0.05:
                        process.kill()
                        return

    hunter = threading.Thread(target=hunt)
    hunter.start()
    try:
        yield
    finally:
        stop.set()
        hunter.join()


@contextlib.contextmanager
def held_lock(path: Path) -> Iterator[None]:
    """Another command that changes the file, and does not end."""
    before, atomic_files.LOCK_TIMEOUT_S = atomic_files.LOCK_TIMEOUT_S, 1
    try:
        with atomic_files.locked(path):
            yield
    finally:
        atomic_files.LOCK_TIMEOUT_S = before


@contextlib.contextmanager
def silent_server() -> Iterator[None]:
    """An MLflow server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        os.environ.update(MLFLOW_TRACKING_URI=f"http://127.0.0.1:{server.getsockname()[1]}", TAGWRIGHT_TRACKING="on")
        try:
            yield
        finally:
            os.environ.pop("MLFLOW_TRACKING_URI")
            os.environ["TAGWRIGHT_TRACKING"] = "off"
            _end_recorders()


def _end_recorders() -> None:
    """Recorders of this folder, which go on by themselves, and what they have not recorded."""
    here = Path.cwd()
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if "tasks.tracking.recorder" in process.cmdline() and Path(process.cwd()) == here:
                process.kill()
                process.wait()
    shutil.rmtree(".mlflow", ignore_errors=True)


def faults() -> dict[str, Fault]:
    """Those of this home."""
    paths = load_params().paths
    source = next(iter(load_params().sources))
    mapped, ingested = paths.mapped / "labels.parquet", paths.ingested / source
    raw = next(iter(load_params().sources.values())).path
    shm, training = Path("/dev/shm"), "pretrain"
    with_mounts = {
        "disk full, a disk of 8 KB": Fault("map_labels", lambda: mounted("tmpfs", paths.mapped, "size=8k"), "one line"),
        "read-only disk": Fault("map_labels", lambda: mounted("bind", paths.mapped, "ro"), "one line"),
        "64 MB of /dev/shm": Fault(training, lambda: mounted("tmpfs", shm, "size=64m"), "works"),
        "no room in /dev/shm": Fault(training, lambda: mounted("tmpfs", shm, "size=4k"), "either"),
    }
    return {
        **(with_mounts if may_mount() else {}),
        "loader worker killed": Fault(training, worker_killed, "either", outside=True),
        "disk full, a table": Fault("map_labels", small_files, "one line"),
        "disk full, the image cache": Fault(f"ingest@{source}", small_files, "one line"),
        "disk full, shards": Fault("shard", small_files, "one line"),
        "64 file handles": Fault(f"ingest@{source}", lambda: few_handles(64), "works"),
        "4 file handles": Fault("map_labels", lambda: few_handles(4), "one line"),
        "no memory": Fault("map_labels", lambda: little_memory(1), "either"),
        "folder of somebody else": Fault("map_labels", somebody_else, "one line"),
        "no temporary folder": Fault("map_labels", no_temporary_folder, "either"),
        "clock goes back": Fault(f"ingest@{source}", clock_back, "works"),
        "nobody reads the output": Fault("map_labels", nobody_reads, "either"),
        "terminal of ASCII alone": Fault("map_labels", old_locale, "works"),
        "ingest worker killed": Fault(f"ingest@{source}", worker_killed, "works", outside=True),
        "raw folder vanished": Fault(f"ingest@{source}", lambda: moved_away(raw), "one line", outside=True),
        "table vanished": Fault("deduplicate", lambda: moved_away(mapped), "one line", outside=True),
        "folder in place of a table": Fault(
            "deduplicate", lambda: moved_away(mapped, Path.mkdir), "one line", outside=True
        ),
        "empty table": Fault("deduplicate", lambda: moved_away(mapped, Path.touch), "one line", outside=True),
        "link to itself in place of a folder": Fault(
            "map_labels", lambda: moved_away(ingested, lambda p: p.symlink_to(p)), "one line", outside=True
        ),
        "verdicts locked for ever": Fault(
            "verdicts", lambda: held_lock(Path("verdicts.jsonl")), "one line", outside=True
        ),
        "MLflow server dead": Fault("map_labels", lambda: tracked_at("http://127.0.0.1:9"), "works"),
        "MLflow server silent": Fault("map_labels", silent_server, "works", outside=True),
    }


# ---------------------------------------------------------------- trying them


def try_all(jobs: Sequence[Job], wanted: Tree, names: Collection[str]) -> Iterator[Result]:
    """The faults of these names whose stage is among the jobs."""
    by_name = {job.name: job for job in jobs}
    for name, fault in faults().items():
        if fault.stage in by_name and name in names:
            yield _tried(name, fault, by_name[fault.stage], wanted)


def _tried(name: str, fault: Fault, job: Job, wanted: Tree) -> Result:
    def broken() -> object:
        if not fault.outside:
            fault.breaks()
        return job.run()

    shutil.rmtree(".cache/images", ignore_errors=True)  # or ingest would open none again
    begin = time.monotonic()
    with fault.breaks() if fault.outside else contextlib.nullcontext():
        broken_job = Job(job.name, broken)
        with child_of(broken_job) as child:
            try:
                status = child.wait(LIMIT_S)
            except psutil.TimeoutExpired:
                status = -signal.SIGALRM
    seconds, said = time.monotonic() - begin, log_of(broken_job).splitlines()
    errors = [line for line in said if line.startswith("error: ")]
    if "Traceback" in log_of(broken_job) or status < 0:
        ends = f"status {status}, with a traceback" if status >= 0 else f"signal {-status}"
    else:
        ends = "works" if status == 0 else "one line" if len(errors) == 1 else f"status {status}, without a word"
    _end_recorders()
    with child_of(job) as child:
        again = child.wait()
    after = [*([] if again == 0 else [f"fails when run again: {log_of(job)[-600:]}"]), *differences(tree(), wanted)]
    fits = ends == fault.expected or (fault.expected == "either" and ends in ("works", "one line"))
    return Result(name, ends, seconds, (errors or said or [""])[-1], after, fits and not after)


def show(results: Iterator[Result]) -> int:
    """Print a row a fault; returns how many did not end as they should."""
    failures = count = 0
    print(f"{'fault':<38}{'ends':<12}{'seconds':>8}  what was said")
    for result in results:
        count += 1
        failures += not result.good
        mark = "" if result.good else "FAILED "
        print(f"{result.name:<38}{result.ends:<12}{result.seconds:>8.1f}  {mark}{result.line[:150]}", flush=True)
        for difference in result.after:
            print(f"    afterwards: {difference}")
    print(f"{count} faults, {failures} failures")
    return failures
