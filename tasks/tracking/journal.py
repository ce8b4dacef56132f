"""A journal: what one process wants recorded, as lines in a folder of its own.

    .mlflow/journal/<name>/events.jsonl    one JSON object a line; the first is the header
    .mlflow/journal/<name>/files/          copies of the tables and models that the lines name

Header: kind (`stage` or `pipeline`), name, time_ms, pid of the process it speaks for and pid_started, its start in
seconds since the epoch; both together name a process for good. dvc_lock: where DVC keeps what it knows of the stages.
And what MLflow should know from the start: tags, params, the pipeline's journal. Then any of

    metrics   values {name: float}, step
    tags      values {name: text}
    table     file
    file      file: for a person to open; the pipeline's run gets it too
    model     file, aliases, tags {name: text}: an exported model for the registry
    link      stage: DVC had its result already
    end       status: FINISHED, FAILED or KILLED

A journal without `end` whose process is gone belongs to something that was killed. Reading a journal twice is
harmless: its lines say what is so, not what to add.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any


def lasting(path: Path) -> Path:
    """The repository of a path in a workspace that `dvc exp run --temp` deletes when it is done; else the path."""
    for parent in path.parents:
        if parent.parts[-3:] == (".dvc", "tmp", "exps"):
            return parent.parents[2]
    return path


FOLDER = Path(".mlflow") if lasting(Path.cwd()) == Path.cwd() else lasting(Path.cwd()) / ".mlflow"
"""Everything tracking writes, relative to the repository root; git and DVC ignore it."""


def now_ms() -> int:
    """Milliseconds since the epoch, MLflow's clock."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True)
class Journal:
    """One journal; it exists once `start` has returned."""

    folder: Path

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def files(self) -> Path:
        return self.folder / "files"

    def start(self, **header: Any) -> None:
        """Create the folder with its header, whole or not at all. Raises FileExistsError if it is there already."""
        temporary = self.folder.with_name(f".{self.name}.{os.getpid()}")
        (temporary / "files").mkdir(parents=True)
        line = json.dumps({"time_ms": now_ms(), **header}) + "\n"
        (temporary / "events.jsonl").write_text(line, encoding="utf-8")
        try:
            os.rename(temporary, self.folder)  # atomic; refuses to replace a folder that holds something
        except OSError as error:
            shutil.rmtree(temporary)
            raise FileExistsError(self.folder) from error

    def write(self, op: str, **fields: Any) -> None:
        """Append one event. Processes and threads may share a journal: a line is one write to an appended file."""
        line = json.dumps({"op": op, "time_ms": now_ms(), **fields}) + "\n"
        with open(self.folder / "events.jsonl", "ab", buffering=0) as file:
            file.write(line.encode("utf-8"))

    def header(self) -> dict[str, Any]:
        """The first line."""
        with open(self.folder / "events.jsonl", encoding="utf-8") as file:
            return json.loads(file.readline())

    def events(self, offset: int = 0) -> tuple[list[dict[str, Any]], int]:
        """Whole lines from byte `offset` on, the header left out, and the offset of what follows them."""
        with open(self.folder / "events.jsonl", "rb") as file:
            file.seek(offset)
            text = file.read()
        lines = text[: text.rfind(b"\n") + 1]
        events = [json.loads(line) for line in lines.splitlines()]
        return [event for event in events if "op" in event], offset + len(lines)

    def set_aside(self, folder: Path) -> None:
        """Move the journal to `folder`: MLflow refuses it, and a person may want to see why."""
        folder.mkdir(parents=True, exist_ok=True)
        os.rename(self.folder, folder / self.name)

    def remove(self) -> None:
        """Delete the journal, out of sight first: it is never seen half deleted."""
        aside = self.folder.with_name(f".done-{self.name}")
        os.rename(self.folder, aside)
        shutil.rmtree(aside)


def open_journals(root: Path) -> list[Journal]:
    """Journals under `root` that are not recorded to their end yet: pipelines first, then by age."""
    journals = [Journal(f) for f in (root / "journal").glob("[!.]*") if f.is_dir()]
    headers = {j: j.header() for j in journals}
    return sorted(journals, key=lambda j: (headers[j]["kind"] != "pipeline", headers[j]["time_ms"], j.name))


def is_alive(header: dict[str, Any]) -> bool:
    """Whether the process a journal speaks for still runs; a reused pid does not count."""
    import psutil

    try:
        process = psutil.Process(header["pid"])
        # Half a second: the clock behind create_time may be adjusted while a training runs.
        return abs(process.create_time() - header["pid_started"]) < 0.5 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def dvc_ancestor() -> Any | None:
    """The nearest ancestor process that is DVC (a psutil.Process), None outside of `dvc repro`."""
    import psutil

    for process in psutil.Process().parents():
        with contextlib.suppress(psutil.Error):
            if names_dvc(process.cmdline()):
                return process
    return None


def names_dvc(command: list[str]) -> bool:
    """Whether a command line is `dvc …`, `python …/bin/dvc …` or `python -m dvc …`."""
    scripts = {Path(argument).name for argument in command[:2]}
    return bool(scripts & {"dvc", "dvc.exe"}) or command[1:3] == ["-m", "dvc"]
