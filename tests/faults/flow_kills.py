"""The flow, `dvc repro` and DVC's hashing killed at random moments, in a small repository whose stages are recorded.

    python -m tests.faults --flow-kills 15

Then the same command, at once. It must end well and leave the files and dvc.lock of an undisturbed run, no other file,
no lock of DVC's that a dead process holds, no run that is Running in Prefect or MLflow, no stage's run that stays
killed, no two runs of one journal; and in the end no process.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import yaml

from tests.faults.kills import LEAVING_S, PATIENCE_S, SIGNALS, Tally, cpu_s, has_ended, kill_at
from tests.imports import ROOT

STAGE = """
import sys, hashlib
from pathlib import Path
from tasks import tracking
from tasks.core.tables import write_text

name, megabytes, out, *read = sys.argv[1:]
with tracking.stage_run(name, {"megabytes": megabytes}):
    text = hashlib.sha256("".join(map(str, (name, *(len(Path(p).read_bytes()) for p in read)))).encode()).hexdigest()
    tracking.log_metrics({"letters": len(text)})
    write_text(Path(out), text * (int(megabytes) * 16_384))
"""
NUM_PARTS = 200
"""Files that the first stage reads, each an entry of dvc.lock: a long one takes DVC as long to write as a real one."""
CHAIN = {"large": ("96",), "middle": ("1", "large.txt"), "small": ("1", "middle.txt")}
"""{stage: megabytes, what it reads}: DVC hashes a large file for as long as it does anything else."""

MARK = "TAGWRIGHT_FAULTS_HOME"
"""In the environment of all that a command starts, whatever session it is in."""


@dataclass
class Command:
    """What is killed. tracked: recorded in MLflow.  server: a permanent Prefect server.  turns: of each round.
    since: as a share of the processor's time of an undisturbed run.  cpu_s, wall_s: of that run.
    mended: how often it left a file of DVC's half written that stopped the next `dvc`, until `flows plan`."""

    name: str
    argv: tuple[str, ...]
    tracked: bool = True
    server: bool = False
    hashing: bool = False
    turns: int = 1
    since: float = 0.0
    cpu_s: float = 0.0
    wall_s: float = 0.0
    mended: int = 0


def commands() -> list[Command]:
    return [
        Command("flows run", ("flows", "run"), server=True, turns=2),
        Command("dvc repro, while it hashes", ("dvc", "repro"), tracked=False, hashing=True, turns=2),
        Command("dvc repro", ("dvc", "repro")),
        Command("flows run, temporary server", ("flows", "run"), tracked=False),
    ]


def new_repository(folder: Path) -> None:
    """A chain of three stages, the first of which writes a large file."""
    (folder / ".dvc").mkdir(parents=True)
    (folder / ".dvc/config").write_text("[core]\n  no_scm = true\n  analytics = false\n  check_update = false\n")
    (folder / "stage.py").write_text(STAGE)
    parts = [f"parts/{n}.txt" for n in range(NUM_PARTS)]
    (folder / "parts").mkdir()
    for part in parts:
        (folder / part).write_text(part)
    stages = {
        name: {
            "cmd": f"python stage.py {name} {size} {name}.txt {' '.join(read)}",
            "deps": [*read, *(parts if name == "large" else [])],
            "outs": [f"{name}.txt"],
        }
        for name, (size, *read) in CHAIN.items()
    }
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}, sort_keys=False))
    (folder / "params.yaml").write_text("{}\n")


def result(home: Path) -> dict[str, str]:
    """{file: sha256} of all that is not a tool's own."""
    paths = [p for p in home.iterdir() if p.is_file() and not p.name.endswith(".lock.lock")]
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in paths if not p.name.endswith(".log")}


def forget(home: Path) -> None:
    """As before the first run, but for MLflow's and Prefect's databases."""
    for path in (*(home / f"{name}.txt" for name in CHAIN), home / "dvc.lock"):
        path.unlink(missing_ok=True)
    for path in (home / ".dvc/cache", home / ".cache"):
        shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def started(command: Command, home: Path, server: str) -> Iterator[psutil.Process]:
    """The command in a session of its own; its output goes to command.log."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_API", "MLFLOW_"))},
        **{MARK: str(home), "PYTHONPATH": str(ROOT), "PREFECT_HOME": str(home.parent / "prefect")},
        **{"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "PREFECT_LOGGING_LEVEL": "ERROR"},
        **{"PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "300", "OMP_NUM_THREADS": "1"},
        "TAGWRIGHT_TRACKING": "on" if command.tracked else "off",
        **({"PREFECT_API_URL": server} if command.server else {}),
    }
    with open(home / "command.log", "wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *command.argv],
            cwd=home,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield psutil.Process(process.pid)
    finally:
        process.kill()
        process.wait()


def run_undisturbed(command: Command, home: Path, server: str) -> dict[str, str]:
    """What it leaves; notes how long it takes, and when it begins to hash."""
    forget(home)
    begin, hashes_at = time.monotonic(), 0.0
    with started(command, home, server) as process:
        while not has_ended(process.pid):
            command.cpu_s = cpu_s(process.pid)
            if not hashes_at and (home / "large.txt").exists():
                hashes_at = command.cpu_s
            time.sleep(0.005)
        assert process.wait() == 0, f"{command.name}, undisturbed: {said(home)[-600:]}"
    command.wall_s = time.monotonic() - begin
    assert not (left := left_of(home)), f"{command.name}, undisturbed: {left}"
    print(f"undisturbed: {command.name}, {command.wall_s:.0f} s", file=sys.stderr, flush=True)
    if command.hashing:
        command.since = hashes_at / command.cpu_s
    return result(home)


def kill(command: Command, home: Path, server: str, rng: random.Random) -> tuple[str, str, bool]:
    """(what was done, name of the signal, whether the command was still there)."""
    forget(home)
    signal_number, alone, by_clock = rng.choice(SIGNALS), rng.random() < 0.5, rng.random() < 0.5
    moment = command.since + rng.random() * (1 - command.since)
    what = f"{command.name}, {signal_number.name}{' to it alone' if alone else ''} at {moment:.2f}"
    with started(command, home, server) as process:
        if by_clock and not command.hashing:  # the flow itself works little while its stages run
            time.sleep(moment * command.wall_s)
            landed = kill_at(process, 0.0, signal_number, alone=alone)
        else:
            landed = kill_at(process, moment * command.cpu_s, signal_number, alone=alone)
        process.wait(PATIENCE_S)
    return what, signal_number.name, landed


def after(command: Command, home: Path, server: str, wanted: dict[str, str]) -> Iterator[str]:
    """Run the command again, and say what is not as it should be."""
    status = status_of(command, home, server)
    half_written = status != 0 and any(name in said(home) for name in ("RWLock-file", "dvc.lock"))
    if command.argv[0] == "dvc" and (half_written or any(home.glob(".*.tmp"))):
        command.mended += 1
        status_of(Command("flows plan", ("flows", "plan"), tracked=False), home, server)
        status = status_of(command, home, server)
    if status != 0:
        yield f"status {status} when run again: {said(home)[-600:]}"
    now = result(home)
    yield from (f"{name} is {'left over' if name in now else 'missing'}" for name in now.keys() ^ wanted.keys())
    yield from (f"{name} differs" for name in now.keys() & wanted.keys() if now[name] != wanted[name])
    yield from (f"process left: {line}" for line in left_of(home))
    locks = home / ".dvc/tmp/rwlock"
    if command.argv[0] == "flows" and locks.exists():  # `dvc` alone forgets the dead when it needs their paths
        held = [name for holders in json.loads(locks.read_text()).values() for name, held in holders.items() if held]
        yield from [f"DVC's rwlock holds {len(held)} paths, e.g. {held[0]}"] if held else []
    yield from runs_wrong(home)
    if command.server:
        running = {"flow_runs": {"state": {"type": {"any_": ["RUNNING", "PENDING", "CANCELLING"]}}}}
        runs = httpx.post(f"{server}/flow_runs/filter", json=running, timeout=60).raise_for_status().json()
        yield from (f"Prefect: run {run['name']} is {run['state_name']}" for run in runs)


def status_of(command: Command, home: Path, server: str) -> int | str:
    """Run it to its end."""
    with started(command, home, server) as process:
        try:
            return process.wait(PATIENCE_S)
        except psutil.TimeoutExpired:
            return f"none within {PATIENCE_S} s"


def left_of(home: Path) -> list[str]:
    """Command lines of processes that a command has started and that do not end by themselves."""
    deadline = time.monotonic() + 2 * LEAVING_S
    while left := [p for p in psutil.process_iter() if _is_marked(p, home)]:
        if time.monotonic() > deadline:
            lines = [" ".join(p.cmdline()[:5]) for p in left]
            for process in left:
                process.kill()
            return lines
        time.sleep(0.2)
    return []


def _is_marked(process: psutil.Process, home: Path) -> bool:
    with contextlib.suppress(psutil.Error):
        return process.environ().get(MARK) == str(home) and process.status() != psutil.STATUS_ZOMBIE
    return False


def runs_wrong(home: Path) -> Iterator[str]:
    """Runs of MLflow's that are not over, stages' that stay killed, and two of one journal; what was not recorded."""
    path = home / ".mlflow/mlflow.db"
    if not path.exists():
        return
    with contextlib.closing(sqlite3.connect(path)) as database:
        tags = "select run_uuid from tags where key = 'kind' and value = 'stage'"
        for name, status in database.execute(
            f"select name, status from runs where status = 'RUNNING' or (status = 'KILLED' and run_uuid in ({tags}))"
        ):
            yield f"MLflow: {name} is {status}"
        twice = "select value, count(*) from tags where key = 'journal' group by value having count(*) > 1"
        yield from (f"MLflow: {count} runs of journal {journal}" for journal, count in database.execute(twice))
    yield from (f"MLflow: {p.name} is not recorded" for p in (home / ".mlflow/journal").glob("[!.]*"))


def said(home: Path) -> str:
    return (home / "command.log").read_text(encoding="utf-8", errors="replace")


@contextlib.contextmanager
def permanent_server(folder: Path) -> Iterator[str]:
    """Its address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = {**os.environ, "PREFECT_HOME": str(folder), "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
    environment = {name: value for name, value in environment.items() if name != "PREFECT_API_URL"}
    line = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with open(folder / "server.log", "wb") as log:
        process = subprocess.Popen(line, env=environment, stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}/api"
    try:
        deadline = time.monotonic() + 300
        while True:
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{address}/health").is_success:
                    break
            assert process.poll() is None, (folder / "server.log").read_text()[-600:]
            assert time.monotonic() < deadline
            time.sleep(0.5)
        yield address
    finally:
        process.terminate()
        process.wait()


def run(num_kills: int, *, seed: int = 0) -> Tally:
    """Each of the commands in turn."""
    tally, rng = Tally(), random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        home, prefect = Path(folder) / "home", Path(folder) / "server"
        prefect.mkdir()
        new_repository(home)
        with permanent_server(prefect) as server:
            wanted: dict[str, str] = {}
            for command in (all_of_them := commands()):
                wanted = run_undisturbed(command, home, server)
            turns = [command for command in all_of_them for _ in range(command.turns)]
            for attempt in range(2 * num_kills):
                if tally.kills.total() == num_kills:
                    break
                command, known = turns[attempt % len(turns)], len(tally.failures)
                what, signal_name, landed = kill(command, home, server, rng)
                if landed and command.argv[0] == "flows" and "Traceback" in said(home):
                    tally.failures.append(f"{what}: a traceback: {said(home)[-2000:]}")
                tally.failures += [f"{what}: {wrong}" for wrong in after(command, home, server, wanted)]
                tally.kills[command.name, signal_name] += landed
                tally.tell(what, known)
    for command in all_of_them:
        if command.mended:
            print(f"{command.name}: {command.mended} times `flows plan` had to mend a file of DVC's first")
    return tally
