"""What a stage, and the flow, say about their run. Nothing here waits for MLflow, and nothing here imports it."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import logging
import math
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tasks.tracking.journal import FOLDER, Journal, dvc_ancestor, process_start

logger = logging.getLogger(__name__)

PARENT_VARIABLE = "TAGWRIGHT_PARENT_RUN_ID"
"""Hands the pipeline run of the flow to its stages."""

CANDIDATE, ACCEPTED = "candidate", "accepted"
"""Aliases of the registered model: what the last run exported, what a person accepted."""

DELIVERY_TIMEOUT_S = 60.0
"""How long the end of a flow waits for the recorder; an mlflow that starts cold needs a tenth of it."""

_active: Journal | None = None


@contextlib.contextmanager
def stage_run(stage: str, params_section: Mapping[str, Any]) -> Iterator[None]:
    """Record what happens inside the block as the run of `stage`, a child of the pipeline run it belongs to.

    stage: as in dvc.yaml, e.g. `ingest@coco`.  params_section: its section of params.yaml, logged as dotted params.
    An exception ends the run as FAILED. Ctrl-C, SystemExit and SIGKILL leave it KILLED, and the next run of the same
    stage with the same params continues it. The hashes of what the stage read and wrote are added from dvc.lock.
    """
    global _active
    if not _is_on():
        yield
        return
    journal = Journal(FOLDER / "journal" / f"{time.time_ns()}-{os.getpid()}-{stage.replace('/', '_')}")
    journal.start(
        kind="stage",
        name=stage,
        pid=os.getpid(),
        pid_started=process_start(os.getpid()),
        pipeline=_pipeline(),
        tags=_git_tags(),
        params=_flat(params_section, stage.partition("@")[0]),
    )
    _ensure_recorder()
    _active, status = journal, "KILLED"
    try:
        yield
        status = "FINISHED"
    except Exception:
        status = "FAILED"
        raise
    finally:
        _active = None
        journal.write("end", status=status)


def log_metrics(values: Mapping[str, float], step: int | None = None) -> None:
    """Log numbers of the running stage, any names; with `step` (epoch or optimiser step) they make a curve.

    Costs one line in a file, so a training loop may call it every step. Outside of `stage_run` it does nothing.
    """
    if _active is not None:
        _active.write("metrics", values={str(k): float(v) for k, v in values.items()}, step=step or 0)


def set_tags(values: Mapping[str, Any]) -> None:
    """Tag the running stage, e.g. with the reason why a recipe turned it off."""
    if _active is not None:
        _active.write("tags", values={str(k): str(v) for k, v in values.items()})


def log_table(name: str, table: Any) -> None:
    """Show a pyarrow Table or a pandas DataFrame in the running stage's run, as `NAME.json`; NaN becomes null."""
    if _active is None:
        return
    if hasattr(table, "column_names"):
        columns, rows = table.column_names, [list(row.values()) for row in table.to_pylist()]
    else:
        columns, rows = [str(c) for c in table.columns], table.to_numpy(dtype=object).tolist()
    text = json.dumps({"columns": columns, "data": [[_jsonable(v) for v in row] for row in rows]}, ensure_ascii=False)
    (_active.files / f"{name}.json").write_text(text, encoding="utf-8")
    _active.write("table", file=f"{name}.json")


def register_model(path: Path, tags: Mapping[str, Any], *, aliases: Sequence[str] = (CANDIDATE,)) -> None:
    """Make an exported file a version of the project's registered model; see registry.py.

    tags: what it is good for, e.g. mAP and protocol; what the file says of itself is added.
    """
    if _active is not None:
        shutil.copy2(path, _active.files / Path(path).name)
        texts = {str(k): str(v) for k, v in tags.items()}
        _active.write("model", file=Path(path).name, aliases=list(aliases), tags=texts)


def promote(path: Path, alias: str = ACCEPTED, **tags: Any) -> None:
    """Move `alias` of the registered model to the version of an exported file, registering it where it is not yet.

    A run of its own, named after the alias, so that it shows when, by what code and with which tags.
    """
    with stage_run(alias, {}):
        set_tags(tags)
        register_model(path, tags, aliases=[alias])


@contextlib.contextmanager
def pipeline_run(name: str, tags: Mapping[str, str]) -> Iterator[str | None]:
    """One parent run for the stages of a flow; yields what belongs into PARENT_VARIABLE of their environment.

    None where tracking is off. On the way out, but for Ctrl-C, waits until everything logged so far is in MLflow.
    """
    if not _is_on():
        yield None
        return
    pid = os.getpid()
    journal = Journal(FOLDER / "journal" / f"flow-{time.time_ns()}-{pid}")
    _start_pipeline(journal, name, pid, process_start(pid), {"started_by": "flow", **tags})
    status = "KILLED"
    try:
        yield journal.name
        status = "FINISHED"
    except Exception:
        status = "FAILED"
        raise
    finally:
        journal.write("end", status=status)
        if status != "KILLED":
            _wait_until_recorded(journal)


def link_cached(stage: str, parent: str | None) -> None:
    """Show `stage`, whose result DVC had already, in the pipeline run as a link to the run that made the result."""
    if parent:
        Journal(FOLDER / "journal" / parent).write("link", stage=stage)


def _is_on() -> bool:
    if os.environ.get("RANK", "0") != "0" or os.environ.get("TAGWRIGHT_TRACKING") == "off":
        return False
    if importlib.util.find_spec("mlflow") is None:
        logger.warning("mlflow is not installed: this run is not recorded. Everything else works.")
        return False
    return True


def _pipeline() -> str | None:
    """Name of the pipeline journal this stage belongs to: the flow's, or that of the DVC process which runs it."""
    if name := os.environ.get(PARENT_VARIABLE):
        return name
    dvc = dvc_ancestor()
    if dvc is None:
        return None  # run by hand: a run of its own
    journal = Journal(FOLDER / "journal" / f"dvc-{int(dvc.create_time() * 1000)}-{dvc.pid}")
    # Parallel stages of one DVC process race for it; whoever loses finds it there.
    with contextlib.suppress(FileExistsError):
        _start_pipeline(journal, "dvc repro", dvc.pid, dvc.create_time(), {"started_by": "dvc"})
    return journal.name


def _start_pipeline(journal: Journal, name: str, pid: int, pid_started: float, tags: Mapping[str, str]) -> None:
    journal.start(
        kind="pipeline",
        name=name,
        pid=pid,
        pid_started=pid_started,
        tags={**_git_tags(), **tags},
        params={},
        pipeline=None,
    )
    _ensure_recorder()


def _git_tags() -> dict[str, str]:
    """Commit of the code, and whether tracked files differ from it (dvc.lock aside: running stages changes it)."""
    try:
        commit = _git("rev-parse", "HEAD")
        dirty = _git("status", "--porcelain", "--untracked-files=no", "--", ".", ":(exclude)dvc.lock")
    except (OSError, subprocess.CalledProcessError):
        return {}
    return {"mlflow.source.git.commit": commit, "git.dirty": "true" if dirty else "false"}


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], check=True, capture_output=True, text=True).stdout.strip()


def _flat(value: Any, prefix: str) -> dict[str, str]:
    """{'finetune.loss.name': 'asl'} from nested mappings; lists as JSON."""
    if isinstance(value, Mapping):
        return {k: v for key, part in value.items() for k, v in _flat(part, f"{prefix}.{key}").items()}
    return {prefix: value if isinstance(value, str) else json.dumps(value, default=str)}


def _jsonable(value: Any) -> Any:
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, (str, int, float, bool, type(None), list)) else str(value)


def _ensure_recorder() -> None:
    """Start a recorder unless one is at work. Call it after the journal was written: a recorder that is about to leave
    releases its lock first and looks for journals once more then."""
    from filelock import FileLock, Timeout

    try:
        with FileLock(FOLDER / "recorder.lock").acquire(timeout=0):
            pass
    except Timeout:
        return
    package_root = str(Path(__file__).resolve().parents[2])
    with open(FOLDER / "recorder.log", "ab") as log:
        subprocess.Popen(
            [sys.executable, "-m", "tasks.tracking.recorder"],
            stdin=subprocess.DEVNULL,
            stdout=log,  # never the stage's own: whoever reads that would wait for the recorder
            stderr=log,
            env={
                "MLFLOW_DISABLE_TELEMETRY": "true",
                "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # MLflow's 7 keep the queue waiting for minutes
                **os.environ,
                "PYTHONPATH": os.pathsep.join([package_root, os.environ.get("PYTHONPATH", "")]),
            },
            start_new_session=True,  # Ctrl-C in the terminal is for the stage
        )


def _wait_until_recorded(journal: Journal) -> None:
    deadline = time.monotonic() + DELIVERY_TIMEOUT_S
    while journal.folder.exists():
        if time.monotonic() > deadline:
            logger.warning(
                "tracking: some of this run is not in MLflow yet; it waits in %s for the next run. %s says why.",
                FOLDER / "journal", FOLDER / "recorder.log",
            )  # fmt: skip
            return
        time.sleep(0.1)
