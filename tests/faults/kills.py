"""Stages and commands killed at random moments: run again, they leave every byte as if nothing had happened.

    python -m tests.faults --kills 200

A stage runs in a child that was forked after all imports, so that the moment, a share of the processor's time that its
undisturbed run took, falls into its work. It gets SIGKILL, SIGTERM or SIGINT, alone or with all that it has started.
No file may be half written then, and no process left. The same stage runs to its end, and the folder is held against
that of an undisturbed run, file by file: nothing missing, no temporary file.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import torch

from tasks.commands.draft import draft
from tasks.commands.migrate import migrate
from tasks.commands.recipe import apply_recipe
from tasks.core import checked, tables
from tasks.core.error_lines import one_line
from tasks.evaluation.accepted import accept
from tasks.params import load_params
from tasks.review.verdicts import Verdict, append_verdicts, read_verdicts
from tasks.stages import run_stage
from tests.homes import SMALL, merged

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
PATIENCE_S = 300
LEAVING_S = 60
"""Workers of a loader look every 5 s whether their parent lives."""
CHEAP = ("ingest", "map_labels", "deduplicate", "split", "shard", "verdicts")
TRAINING = ("pretrain", "out_of_fold", "finetune")
COMMANDS = ("verdicts", "accept", "recipe", "draft", "migrate")
STAGES = (
    *("make_demo", "ingest", "map_labels", "deduplicate", "split", "shard", "pretrain", "out_of_fold", "clean"),
    *("resample", "finetune", "predict", "calibrate", "evaluate", "export", "report", "gate", *COMMANDS),
)
COMPARED = ("data", "params.yaml", "verdicts.jsonl")
VERDICTS = Path("verdicts.jsonl")

TINY = merged(
    SMALL,
    {
        "make_demo": {"sets": {"digits": {"num_coco": 120, "num_test": 30, "num_openimages": 40}}},
        "finetune": {"epochs": 2},
        "calibrate": {"bootstrap": 5},
        "evaluate": {"bootstrap": 5},
    },
)
"""Over params.yaml: each stage takes a second or two."""

Tree = dict[str, str]
"""{path: sha256}"""


@dataclass
class Job:
    """What is killed. wrote: files of its undisturbed run.  cpu_s: that the run took, workers left out."""

    name: str
    run: Callable[[], object]
    wrote: list[str] = field(default_factory=list)
    cpu_s: float = 0.0


@dataclass
class Tally:
    """kills: by job and signal.  failures: what differed, in words."""

    kills: Counter[tuple[str, str]] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    def tell(self, what: str, known: int) -> None:
        """A line for who waits: the last kill, and the failures beyond those known."""
        print(f"{self.kills.total()} {what}", *self.failures[known:], sep="\n  FAILED ", file=sys.stderr, flush=True)


def tree(folder: Path = Path()) -> Tree:
    """What a person or a later stage reads, and anything that lies beside it; lock files stay, and say nothing."""
    paths = [p for top in COMPARED for p in ([folder / top] if (folder / top).is_file() else (folder / top).rglob("*"))]
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in paths
        if path.is_file() and not (path.name.startswith(".") and path.name.endswith(".lock"))
    }


def jobs_of(names: Sequence[str]) -> list[Job]:
    """The stages of these names, `ingest` for every source, and the writing commands among them."""
    params, jobs = load_params(), []
    for name in names:
        if name == "ingest":
            jobs += [Job(f"ingest@{s}", lambda s=s: run_stage(f"ingest@{s}")) for s in params.sources]
        elif name in COMMANDS:
            jobs.append(Job(name, COMMAND[name]))
        else:
            jobs.append(Job(name, lambda name=name: run_stage(name)))
        if name not in COMMANDS:
            importlib.import_module(f"tasks.stages.{name}")
    return jobs


def _write_verdicts() -> None:
    for n in range(40):
        when = f"2026-05-01T09:{n:02}:00+00:00"
        append_verdicts(VERDICTS, [Verdict(f"coco/{n}", "cat", "present", "ann", when)])


def _accept() -> None:
    paths = load_params().paths
    accept(paths.metrics, paths.evaluation, Path("data/accepted_here"))  # not what `evaluate` compares with


def _apply_recipe() -> None:
    path = Path("data/recipe/params.yaml")
    if not path.exists():
        tables.write_text(path, Path("params.yaml").read_text(encoding="utf-8"))
    apply_recipe("photos", path)


def _draft() -> None:
    params = load_params()
    tables.write_text(Path("data/draft.yaml"), draft(params, next(iter(params.sources)), None))


COMMAND = {
    "verdicts": _write_verdicts,
    "accept": _accept,
    "recipe": _apply_recipe,
    "draft": _draft,
    "migrate": lambda: migrate(load_params(), Path("data/migrated")) and None,
}


def run_undisturbed(jobs: Sequence[Job]) -> Tree:
    """Run all once, each in a child; returns the folder that they leave, and notes what each wrote."""
    before = tree()
    for job in jobs:
        with child_of(job) as child:
            while not has_ended(child.pid):
                job.cpu_s = cpu_s(child.pid)
                time.sleep(0.001)
            assert child.wait() == 0, f"{job.name}, undisturbed: {log_of(job)[-600:]}"
        after = tree()
        job.wrote = [path for path in after if after[path] != before.get(path)]
        before = after
    return before


def kill_at_random(jobs: Sequence[Job], wanted: Tree, num_kills: int, *, seed: int = 0) -> Tally:
    """So many kills, spread over the jobs in turn; one that came too late is not counted."""
    tally, rng = Tally(), random.Random(seed)
    for attempt in range(2 * num_kills):
        if tally.kills.total() == num_kills:
            break
        job, signal_number, known = jobs[attempt % len(jobs)], rng.choice(SIGNALS), len(tally.failures)
        alone, removed, moment = rng.random() < 0.5, rng.random() < 0.5, rng.random()
        shutil.rmtree(".cache/images", ignore_errors=True)  # or ingest would open none again
        if removed or job.name in COMMANDS:  # as DVC does before it runs a stage
            for path in job.wrote:
                Path(path).unlink(missing_ok=True)
        what = f"{job.name}, {signal_number.name}{' to it alone' if alone else ''} at {moment:.2f}"
        with child_of(job) as child:
            killed = kill_at(child, moment * job.cpu_s, signal_number, alone=alone)
            try:
                child.wait(PATIENCE_S)
            except psutil.TimeoutExpired:
                tally.failures.append(f"{what}: goes on")
                child.kill()
            if left := _left(child.pid):
                tally.failures.append(f"{what}: {len(left)} processes left, e.g. {left[0]}")
        if "Traceback" in log_of(job):
            tally.failures.append(f"{what}: a traceback: {log_of(job)[-2000:]}")
        tally.failures += [f"{what}: {half}" for half in half_written(tree(), wanted, job)]
        with child_of(job) as child:
            if child.wait() != 0:
                tally.failures.append(f"{what}: fails when run again: {log_of(job)[-600:]}")
        if len(folders := [p.name for p in Path(tempfile.gettempdir()).iterdir()]) > 1:  # that of the last run, which
            tally.failures.append(f"{what}: temporary folders are left: {', '.join(folders)}")  # ended by os._exit
        now = differences(tree(), wanted)
        if now:
            tally.failures.append(f"{what}: {'; '.join(now[:3])}")
        tally.kills[job.name, signal_number.name] += killed
        tally.tell(what, known)
        if now:
            break  # what follows would differ with it
    return tally


def half_written(now: Tree, wanted: Tree, job: Job) -> list[str]:
    """Files that are neither as they were nor as they shall be; temporary ones and a training's own state aside."""
    whole = set(wanted.values())
    if job.name == "verdicts":
        read_verdicts(VERDICTS)  # every line is whole
        now = {path: content for path, content in now.items() if path != str(VERDICTS)}
    elif job.name in TRAINING:
        now = {path: content for path, content in now.items() if path in wanted}
    return [
        f"{path} is half written"
        for path, content in now.items()
        if content not in whole and not Path(path).name.startswith(".")
    ]


def kill_at(child: psutil.Process, seconds: float, signal_number: int, *, alone: bool) -> bool:
    """Whether the child was still there when it had had so much of the processor's time."""
    while not has_ended(child.pid):
        if cpu_s(child.pid) >= seconds:
            os.kill(child.pid, signal_number) if alone else os.killpg(child.pid, signal_number)
            return True
        time.sleep(0.001)
    return False


def cpu_s(pid: int) -> float:
    """Processor's time of a process so far, s; see clock_getcpuclockid(3)."""
    return time.clock_gettime((~pid << 3) | 2)


def has_ended(pid: int) -> bool:
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


@contextlib.contextmanager
def child_of(job: Job) -> Iterator[psutil.Process]:
    """A forked process, leader of a session of its own, that does the job; its output goes to a file."""
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # none reaches the child before it is ready to die
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.setsid()
            signal.signal(signal.SIGINT, signal.default_int_handler)
            log = os.open(_log_path(job), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(log, 1)
            os.dup2(log, 2)
            sys.stdout, sys.stderr = (open(n, "w", buffering=1, closefd=False) for n in (1, 2))  # noqa: SIM115
            with one_line():
                signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
                result = job.run()
            status = result if isinstance(result, int) else 0
        except SystemExit as error:
            status = error.code if isinstance(error.code, int) else 1
        finally:
            os._exit(status)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    process = psutil.Process(pid)
    try:
        while os.getsid(pid) != pid:  # or killpg finds no group
            time.sleep(0.001)
        yield process
    finally:
        with contextlib.suppress(psutil.Error):
            process.kill()
            process.wait()


def _left(session: int) -> list[str]:
    """Processes of a session whose leader is gone, that do not end by themselves."""
    deadline = time.monotonic() + LEAVING_S
    while left := [p for p in psutil.process_iter() if p.pid != session and _session_of(p) == session]:
        if time.monotonic() > deadline:
            return [" ".join(p.cmdline()[:4]) for p in left]
        time.sleep(0.2)
    return []


def _session_of(process: psutil.Process) -> int | None:
    with contextlib.suppress(psutil.Error, OSError):
        return os.getsid(process.pid) if process.status() != psutil.STATUS_ZOMBIE else None
    return None


def differences(now: Tree, wanted: Tree) -> list[str]:
    return [
        *(f"{path} is left over" for path in now.keys() - wanted.keys()),
        *(f"{path} is missing" for path in wanted.keys() - now.keys()),
        *(f"{path} differs" for path in now.keys() & wanted.keys() if now[path] != wanted[path]),
    ]


def _log_path(job: Job) -> Path:
    return Path(f"{job.name}.log")


def log_of(job: Job) -> str:
    """All that it said."""
    return _log_path(job).read_text(encoding="utf-8", errors="replace")


@contextlib.contextmanager
def inside(folder: Path) -> Iterator[None]:
    """Work in the folder, untracked, on one core, with a temporary folder of its own."""
    (temporary := folder.resolve() / "tmp").mkdir()
    variables = {"TAGWRIGHT_TRACKING": "off", "OMP_NUM_THREADS": "1", "TAGWRIGHT_WORKERS": "2"}
    variables["TMPDIR"] = tempfile.tempdir = str(temporary)
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        with contextlib.chdir(folder):
            checked.mark_valid(checked.state())  # the check imports what trains
            torch.set_num_threads(1)
            yield
    finally:
        tempfile.tempdir = None
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})


def run(folder: Path, names: Sequence[str], num_kills: int, *, seed: int = 0) -> Tally:
    """In a home (tests/homes.py): run the jobs once undisturbed, then kill them."""
    with inside(folder):
        jobs = jobs_of(names)
        wanted = run_undisturbed(jobs)
        return kill_at_random(jobs, wanted, num_kills, seed=seed)


def show(tally: Tally) -> int:
    """Print kills by job and signal, and each failure; returns how many."""
    names = list(dict.fromkeys(name for name, _ in tally.kills))
    print(f"{'killed':<28}" + "".join(f"{number.name:>10}" for number in SIGNALS))
    for name in names:
        print(f"{name:<28}" + "".join(f"{tally.kills[name, number.name]:>10}" for number in SIGNALS))
    print(f"{tally.kills.total()} kills, {len(tally.failures)} failures")
    for failure in tally.failures:
        print(f"  {failure}")
    return len(tally.failures)
