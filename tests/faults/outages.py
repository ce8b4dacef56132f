"""Servers that go away in the middle of a run and come back: the S3 remote of DVC, the tracking server of MLflow.

    python -m tests.faults --faults --only outage

Between a run and its server stands a door that is shut after some bytes: what is under way is dropped, and what comes
then too. The run ends well, or in one line; and when the door is open again the next ends well, and nothing is lost.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Collection, Iterator
from pathlib import Path

import yaml

from tests.faults.machine import Result
from tests.imports import ROOT

START_S = 300
SHARE = "import sys\nfrom flows import repro\nfrom tasks.core.error_lines import one_line\n"
SHARE += "with one_line():\n    repro.share(sys.argv[1])"
FILES, FILE_MB = 6, 2
STEPS = 20
STAGE = f"""
    import time
    from pathlib import Path
    from tasks import tracking
    with tracking.stage_run("train", {{"lr": 1}}):
        for step in range({STEPS}):
            tracking.log_metrics({{"loss": float(step)}}, step=step)
            while step == 4 and not Path("cut").exists():
                time.sleep(0.1)
"""


class Door:
    """A port that leads to a server's, until so many bytes have gone to it: after that every connection is dropped."""

    def __init__(self, server: int) -> None:
        self.server, self.bytes_left = server, float("inf")
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def shut_after(self, num_bytes: float) -> None:
        self.bytes_left = num_bytes

    @property
    def is_shut(self) -> bool:
        return self.bytes_left <= 0

    def _serve(self) -> None:
        while True:
            client, _ = self.listener.accept()
            with contextlib.suppress(OSError):
                if not self.is_shut:
                    server = socket.create_connection(("127.0.0.1", self.server))
                    for pair in ((client, server), (server, client)):
                        threading.Thread(target=self._pass_on, args=(*pair, pair[1] is server), daemon=True).start()
                    continue
            client.close()

    def _pass_on(self, source: socket.socket, target: socket.socket, to_server: bool) -> None:
        with contextlib.suppress(OSError):
            while (data := source.recv(65536)) and not self.is_shut:
                self.bytes_left -= len(data) * to_server
                target.sendall(data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def server(line: list[str], folder: Path) -> Iterator[int]:
    """Its port, which the line has as `PORT`, once it answers."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with open(folder / "server.log", "wb") as log:
        command = [part.replace("PORT", str(port)) for part in line]
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, start_new_session=True)
    try:
        deadline = time.monotonic() + START_S
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            assert process.poll() is None, (folder / "server.log").read_text()[-600:]
            assert time.monotonic() < deadline
            time.sleep(0.2)
        yield port
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 15)
        process.wait()


# ---------------------------------------------------------------- an S3 remote


def s3_remote(folder: Path) -> Result:
    """One clone pushes, is cut off, and pushes again; another fetches, is cut off, and fetches again."""
    with server([shutil.which("moto_server"), "-H", "127.0.0.1", "-p", "PORT"], folder) as port:
        urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{port}/bucket", method="PUT")).close()
        door = Door(port)
        desk, other = folder / "desk", folder / "other"
        _new_clone(desk, door.port)
        _python(desk, "-m", "dvc", "repro", "--quiet", check=True)
        shutil.copytree(desk, other, ignore=shutil.ignore_patterns("cache", "tmp", "*.bin"))
        begin, ends = time.monotonic(), []
        for clone, direction in ((desk, "push"), (other, "fetch")):
            door.shut_after(FILES * FILE_MB * 2**20 / 2 if direction == "push" else 8000)
            ends.append(_python(clone, "-c", SHARE, direction))
            assert door.is_shut, "it was cut off"
            door.shut_after(float("inf"))
            ends.append(_python(clone, "-c", SHARE, direction))
        seconds = time.monotonic() - begin
        checked_out = _python(other, "-m", "dvc", "checkout", "--quiet")
    lines = [ends[0].stderr.splitlines(), ends[2].stderr.splitlines()]
    statuses = [end.returncode for end in ends]
    ended = "one line" if statuses == [1, 0, 1, 0] and [*map(len, lines)] == [1, 1] else f"statuses {statuses}"
    wrong = [] if _bytes(desk) == _bytes(other) else [f"the clones differ: {checked_out.stderr[-300:]}"]
    return Result("outage of the S3 remote", ended, seconds, lines[0][-1], wrong, ended == "one line" and not wrong)


def _new_clone(folder: Path, port: int) -> None:
    (folder / ".dvc").mkdir(parents=True)
    (folder / ".dvc/config").write_text(
        "[core]\n  no_scm = true\n  analytics = false\n  check_update = false\n  remote = store\n"
        f"['remote \"store\"']\n  url = s3://bucket/dvc\n  endpointurl = http://127.0.0.1:{port}\n"
    )
    write = "import random, sys; open(sys.argv[1], 'wb').write(random.Random(sys.argv[1]).randbytes(%d))"
    (folder / "write.py").write_text(write % (FILE_MB * 2**20))
    names = [f"{n}.bin" for n in range(FILES)]
    stages = {name[0]: {"cmd": f"python write.py {name}", "outs": [name]} for name in names}
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": {f"s{name}": stage for name, stage in stages.items()}}))


def _python(folder: Path, *line: str, check: bool = False, **more: str) -> subprocess.CompletedProcess:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    keys = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}
    keys["AWS_MAX_ATTEMPTS"] = "1"  # of 5, each after a longer pause
    environment = {**os.environ, **keys, "PATH": path, "PYTHONPATH": str(ROOT), **more}
    done = subprocess.run([sys.executable, *line], cwd=folder, env=environment, capture_output=True, text=True)
    assert not check or done.returncode == 0, done.stderr[-600:]
    return done


def _bytes(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*.bin")}


# ---------------------------------------------------------------- a tracking server


def tracking_server(folder: Path) -> Result:
    """A stage whose tracking server goes away after its first figures; the next stage delivers the rest."""
    mlflow = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", "PORT", "--workers", "1"]
    mlflow += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", str(folder / "files")]
    with server(mlflow, folder) as port:
        door = Door(port)
        home, address = folder / "home", f"http://127.0.0.1:{door.port}"
        home.mkdir()
        own = {"MLFLOW_TRACKING_URI": address, "TAGWRIGHT_TRACKING": "on", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}
        begin = time.monotonic()
        cutter = threading.Thread(target=lambda: (_wait_for_figures(port), door.shut_after(0), (home / "cut").touch()))
        cutter.start()
        first = _python(home, "-c", textwrap.dedent(STAGE), **own)
        seconds = time.monotonic() - begin
        cutter.join()
        missing = STEPS - len(_figures(port))
        door.shut_after(float("inf"))
        _python(home, "-c", textwrap.dedent(STAGE).replace('"train"', '"predict"'), **own)
        deadline = time.monotonic() + 60
        while any((home / ".mlflow/journal").glob("[!.]*")) and time.monotonic() < deadline:
            time.sleep(0.2)
        runs, steps = _runs(port), sorted(_figures(port))
    ended = "works" if first.returncode == 0 and "Traceback" not in first.stderr else f"status {first.returncode}"
    wrong = [] if steps == [*range(STEPS)] else [f"steps recorded: {steps}"]
    wrong += [] if sorted(runs) == ["predict FINISHED", "train FINISHED"] else [f"runs: {runs}"]
    wrong += [] if missing else ["nothing was missing when the stage had ended: it was not cut"]
    said = f"{missing} of {STEPS} steps were recorded after the server was back"
    return Result("outage of the tracking server", ended, seconds, said, wrong, ended == "works" and not wrong)


def _wait_for_figures(port: int) -> None:
    deadline = time.monotonic() + START_S
    while not _figures(port) and time.monotonic() < deadline:
        time.sleep(0.1)


def _ask(port: int, path: str, query: dict | None = None) -> dict:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/api/2.0/mlflow/{path}",
        json.dumps(query).encode() if query else None,
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def _search(port: int) -> list[dict]:
    with contextlib.suppress(urllib.error.HTTPError):  # nothing was recorded yet
        return _ask(port, "runs/search", {"experiment_ids": ["1"]}).get("runs", [])
    return []


def _runs(port: int) -> list[str]:
    """What was recorded, and how it ended."""
    return [f"{run['info']['run_name']} {run['info']['status']}" for run in _search(port)]


def _figures(port: int) -> list[int]:
    """Steps of the first stage that the server has."""
    for run in _search(port):
        if run["info"]["run_name"] == "train":
            path = f"metrics/get-history?run_id={run['info']['run_id']}&metric_key=loss"
            return [metric["step"] for metric in _ask(port, path).get("metrics", [])]
    return []


OUTAGES = {"outage of the tracking server": tracking_server}
if shutil.which("moto_server"):  # pip install 'moto[s3,server]'
    OUTAGES["outage of the S3 remote"] = s3_remote


def try_all(names: Collection[str]) -> Iterator[Result]:
    for name, outage in OUTAGES.items():
        if name in names:
            with tempfile.TemporaryDirectory() as folder:
                yield outage(Path(folder))
