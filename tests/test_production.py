"""docs/production.md, command by command: PostgreSQL, S3, Prefect's and MLflow's servers, workers in separate clones.

The clones have the real flows and prefect.yaml around a graph of three `echo`s, each of which says who ran it.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.homes import new_home
from tests.imports import ROOT

PAGE = (ROOT / "docs/production.md").read_text(encoding="utf-8")
COMMANDS = [
    line for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines() if line.strip()
]
ELSEWHERE = (
    "pip install",
    "make test",
    "export TAGWRIGHT_WEBHOOK",
)  # installed here; the suite; tests/flows/test_alerts.py
SERVERS = ("prefect server start", "mlflow server", "prefect worker start")
STAGES = {"shard": ["raw"], "predict": ["shard.txt"], "report": ["predict.txt"]}
START_S, RUN_S = 1200, 1200

POSTGRES = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), None)
MOTO = shutil.which("moto_server")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_for(port: int, process: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()[-3000:]
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.5)
    raise AssertionError(f"nothing listens on {port}: {log.read_text()[-3000:]}")


class Site:
    """The machines of the page, on this one: a folder a clone, a log a server, the environment that `export` made."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = {name: free_port() for name in ("4200", "5000", "5432", "9000")}
        self.environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{POSTGRES}{os.pathsep}{os.environ['PATH']}",
            "PGHOST": "127.0.0.1",
            "PGUSER": "postgres",
            "PGPORT": str(self.ports["5432"]),
            "PREFECT_SERVER_API_PORT": str(self.ports["4200"]),
            "PREFECT_HOME": str(folder / "prefect"),
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
            "DO_NOT_TRACK": "1",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        }
        self.servers: list[subprocess.Popen] = []

    def here(self, command: str) -> str:
        """The page's command with this site's ports."""
        command = command.removeprefix("sudo -u postgres ")
        for written, port in self.ports.items():
            command = re.sub(rf"(?<=[: ]){written}\b", str(port), command)
        return command

    def start(self, command: list[str], port: int | None = None, *, who: str = "") -> None:
        log = self.folder / f"{len(self.servers)}.log"
        with open(log, "wb") as output:
            process = subprocess.Popen(
                command,
                cwd=self.folder / who,
                env={**self.environment, "WHO": who},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.servers.append(process)
        if port:
            wait_for(port, process, log)

    def do(self, command: str) -> None:
        """One line of the page."""
        words = shlex.split(self.here(command))
        if words[0] == "export":
            name, _, value = words[1].partition("=")
            self.environment[name] = value
        elif command.startswith("prefect server start"):
            self.start(words, self.ports["4200"])
        elif command.startswith("mlflow server"):
            self.start([*words, "--workers", "1"], self.ports["5000"])
        elif command.startswith("prefect worker start"):
            self.start(words, who={"tagwright": "desk"}.get(words[-1], words[-1]))
        else:
            done = subprocess.run(
                words, cwd=self.folder / "desk", env=self.environment, capture_output=True, text=True, timeout=RUN_S
            )
            assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}{done.stderr[-2000:]}{self.logs()}"

    def logs(self) -> str:
        return "".join(f"\n--- {log.name}\n{log.read_text()[-1500:]}" for log in sorted(self.folder.glob("*.log")))

    def stop(self) -> None:
        for server in reversed(self.servers):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGTERM)
        for server in self.servers:
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.wait(timeout=30)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGKILL)


@pytest.fixture
def site(tmp_path) -> Iterator[Site]:
    """PostgreSQL and S3 run; three clones of one repository: desk, cpu, gpu."""
    if "TAGWRIGHT_LONG_TESTS" not in os.environ:
        pytest.skip("takes many minutes: set TAGWRIGHT_LONG_TESTS=1")
    if POSTGRES is None:
        pytest.skip("needs PostgreSQL: apt-get install postgresql")
    if MOTO is None:
        pytest.skip("needs moto's S3: pip install 'moto[s3,server]'")
    site = Site(tmp_path)
    database = tempfile.TemporaryDirectory()  # not in pytest's folder, which the next pytest closes to other users
    start_database(site, Path(database.name))
    site.start([MOTO, "-H", "127.0.0.1", "-p", str(site.ports["9000"])], site.ports["9000"])
    for bucket in ("tagwright", "mlflow"):
        request = urllib.request.Request(f"http://127.0.0.1:{site.ports['9000']}/{bucket}", method="PUT")
        urllib.request.urlopen(request).close()
    make_clones(tmp_path)
    yield site
    site.stop()
    database.cleanup()


def start_database(site: Site, data: Path) -> None:
    """A cluster in the empty folder `data`, as another user where this one is root: PostgreSQL refuses root."""
    as_user: list[str] = []
    if os.getuid() == 0:
        as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        shutil.chown(data, "postgres")
    initdb = [*as_user, str(POSTGRES / "initdb"), "-D", str(data), "-U", "postgres", "-A", "trust", "--no-sync"]
    subprocess.run(initdb, check=True, capture_output=True, cwd="/")
    port = site.ports["5432"]
    server = [str(POSTGRES / "postgres"), "-D", str(data), "-p", str(port), "-h", "127.0.0.1", "-k", "", "-F"]
    site.start([*as_user, *server], port)


def make_clones(folder: Path) -> None:
    desk = new_home(folder / "desk", {})
    stages = {
        name: {"cmd": f"cat {' '.join(deps)} > {name}.txt && echo {name}: $WHO >> {name}.txt", "deps": deps}
        for name, deps in STAGES.items()
    }
    stages = {name: {**stage, "outs": [f"{name}.txt"]} for name, stage in stages.items()}
    (desk / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}), encoding="utf-8")
    (desk / "raw").write_text("", encoding="utf-8")
    for command in (
        "git config user.name t",
        "git config user.email t@t",
        "git add -A",
        "git commit -qm toy",
        "git clone -q --bare . ../origin.git",
        "git remote add origin ../origin.git",
        "git push -q -u origin HEAD",
    ):
        subprocess.run(command.split(), cwd=desk, check=True, capture_output=True)
    for worker in ("cpu", "gpu"):
        subprocess.run(["git", "clone", "-q", "origin.git", worker], cwd=folder, check=True)


def test_the_page_shows_commands():
    assert len(COMMANDS) >= 30
    assert sum(command.startswith(SERVERS) for command in COMMANDS) == 5


@pytest.mark.e2e
@pytest.mark.timeout(7200)
def test_every_command_of_the_page_runs_and_two_workers_share_one_pass_through_the_remote_alone(site):
    for command in COMMANDS:
        if not command.startswith(ELSEWHERE):
            site.do(command)
    # The worker of the pool `cpu` made the first and the last, that of `gpu` what lies between.
    made = (site.folder / "cpu/report.txt").read_text().splitlines()
    assert made == ["shard: cpu", "predict: gpu", "report: cpu"]
    assert (site.folder / "gpu/predict.txt").read_text().splitlines() == made[:2]
    assert not (site.folder / "gpu/report.txt").exists()
    assert recorded_runs(site) == 3
    assert (site.folder / "desk/prefect.dump").stat().st_size > 10_000


def recorded_runs(site: Site) -> int:
    """Finished pipeline runs in MLflow."""
    query = json.dumps({"experiment_ids": ["1"], "filter": "tags.kind = 'pipeline' and attributes.status = 'FINISHED'"})
    request = urllib.request.Request(
        f"http://127.0.0.1:{site.ports['5000']}/api/2.0/mlflow/runs/search",
        query.encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request) as answer:
        return len(json.load(answer).get("runs", []))
