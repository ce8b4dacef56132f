"""What a stage, and the flow, record about their run. Nothing here waits for MLflow, and nothing here imports it."""

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
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.tracking.journal import FOLDER, Journal, dvc_ancestor, lasting

if TYPE_CHECKING:
    import psutil
    import pyarrow as pa

logger = logging.getLogger(__name__)

PARENT_VARIABLE = "TAGWRIGHT_PARENT_RUN_ID"
"""Hands the pipeline run of the flow to its stages."""

CANDIDATE, ACCEPTED = "candidate", "accepted"
"""Aliases of the registered model: what the last run exported, what a person accepted."""

HEADLINE = "headline"
"""Tag of a stage's run: JSON list of those of its metrics that its pipeline run bears too."""

VARIED = (
    "seed",
    "model.backbone.name",
    "model.head.name",
    "model.image_px",
    "finetune.epochs",
    "finetune.batch_size",
    "finetune.lr",
    "finetune.loss.name",
)
"""Params that people vary: a pipeline's run bears their values, changed or not, so that two runs can be compared."""

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
    folder = f"{time.time_ns()}-{os.getpid()}-{stage.replace('/', '_')}"
    params = dotted(params_section, stage.partition("@")[0])
    _active = _start(folder, kind="stage", name=stage, pipeline=_pipeline(), params=params)
    try:
        with _status_at_end(_active):
            yield
    finally:
        _active = None


def log_metrics(values: Mapping[str, float], step: int | None = None) -> None:
    """Log numbers of the running stage, any names; with `step` (epoch or optimiser step) they make a curve.

    Costs one line in a file, so a training loop may call it every step. Outside of `stage_run` it does nothing.
    """
    if _active is not None:
        _active.write("metrics", values={str(k): float(v) for k, v in values.items()}, step=step or 0)


def log_headline(values: Mapping[str, float]) -> None:
    """Log the numbers by which pipeline runs are compared: of the running stage, and of its pipeline run too."""
    log_metrics(values)
    set_tags({HEADLINE: json.dumps(list(values))})


def log_files(paths: Sequence[Path]) -> None:
    """Keep copies of files that a person opens with the running stage's run, and with its pipeline run."""
    if _active is not None:
        for path in map(Path, paths):
            shutil.copy2(path, _active.files / path.name)
            _active.write("file", file=path.name)


def set_tags(values: Mapping[str, Any]) -> None:
    """Tag the running stage, e.g. with the reason why a recipe turned it off."""
    if _active is not None:
        _active.write("tags", values={str(k): str(v) for k, v in values.items()})


def log_table(name: str, table: pa.Table) -> None:
    """Show a pyarrow Table in the running stage's run, as `NAME.json`; a number that is not finite becomes null."""
    if _active is None:
        return
    rows = [[_finite(value) for value in row.values()] for row in table.to_pylist()]
    text = json.dumps({"columns": table.column_names, "data": rows}, ensure_ascii=False, default=str)
    (_active.files / f"{name}.json").write_text(text, encoding="utf-8")
    _active.write("table", file=f"{name}.json")


def register_model(path: Path, tags: Mapping[str, Any], *, aliases: Sequence[str] = (CANDIDATE,)) -> None:
    """Make an exported file a version of the project's registered model; see model_registry.py.

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
        log_metrics({name: value for name, value in tags.items() if isinstance(value, float)})
        register_model(path, tags, aliases=[alias])


@contextlib.contextmanager
def pipeline_run(name: str, tags: Mapping[str, str]) -> Iterator[str | None]:
    """One parent run for the stages of a flow; yields what belongs into PARENT_VARIABLE of their environment.

    None where tracking is off. On the way out, but for Ctrl-C, waits until everything logged so far is in MLflow.
    """
    if not _is_on():
        yield None
        return
    folder = f"flow-{time.time_ns()}-{os.getpid()}"
    journal = _start_pipeline(folder, name, {"started_by": "flow", **tags})
    with _status_at_end(journal, wait=True):
        yield journal.name


def link_cached(stage: str, parent: str | None) -> None:
    """Show `stage`, whose result DVC had already, in the pipeline run as a link to the run that made the result."""
    if parent:
        Journal(FOLDER / "journal" / parent).write("link", stage=stage)


def page() -> str:
    """Address of MLflow's page of training runs; '' where no server has one, or the address holds a password."""
    address = os.environ.get("MLFLOW_TRACKING_URI", "").rstrip("/")
    shown = address.startswith(("http://", "https://")) and "@" not in address
    return f"{address}/#/experiments?workflowType=machine_learning" if shown else ""


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
    name = f"dvc-{int(dvc.create_time() * 1000)}-{dvc.pid}"
    # Parallel stages of one DVC process race for it; whoever loses sees it there.
    with contextlib.suppress(FileExistsError):
        _start_pipeline(name, run_name(), {"started_by": "dvc"}, dvc)
    return name


def run_name() -> str:
    """The name of the experiment that `dvc exp run` makes, else the commit and the minute: '0a4af71 2026-11-27 23:48'.

    A plus behind the commit: tracked files differ from it.
    """
    if name := os.environ.get("DVC_EXP_NAME"):
        return name
    tags, minute = _git_tags(), time.strftime("%Y-%m-%d %H:%M")
    if not tags:
        return minute
    return f"{tags['mlflow.source.git.commit'][:7]}{'+' if tags['git.dirty'] == 'true' else ''} {minute}"


def commit_of_code() -> str:
    """'0a4af71 of 2026-11-27', and whether tracked files differ from it; '' outside of git."""
    tags = _git_tags()
    if not tags:
        return ""
    changed = ", with uncommitted changes" if tags["git.dirty"] == "true" else ""
    return f"{_git('log', '-1', '--format=%h of %cs')}{changed}"


def _start_pipeline(folder: str, name: str, tags: Mapping[str, str], process: psutil.Process | None = None) -> Journal:
    source = {"mlflow.source.type": "LOCAL", "mlflow.source.name": f"{tags['started_by']} in {Path.cwd().name}"}
    now = _flat_params(lambda: Path("params.yaml").read_text(encoding="utf-8"))
    changed = changed_params(_flat_params(lambda: _git("show", "HEAD:./params.yaml")), now)
    params = {**{key: now[key] for key in VARIED if key in now}, **changed}
    tags = {**source, **tags}
    return _start(folder, process, kind="pipeline", name=name, params=params, changed=list(changed), tags=tags)


def changed_params(committed: Mapping[str, str], now: Mapping[str, str]) -> dict[str, str]:
    """What is set otherwise than in the commit; {} where either is not known."""
    keys = sorted({*committed, *now}) if committed and now else []
    return {key: now.get(key, "removed") for key in keys if committed.get(key) != now.get(key)}


def _flat_params(text: Callable[[], str]) -> dict[str, str]:
    """Dotted params of a YAML document; {} where it cannot be had or read."""
    import yaml

    try:
        sections = yaml.safe_load(text()).items()
    except (OSError, subprocess.CalledProcessError, yaml.YAMLError, AttributeError):
        return {}
    return {key: value for section, values in sections for key, value in dotted(values, section).items()}


def _start(
    folder: str, process: psutil.Process | None = None, *, tags: Mapping[str, str] = {}, **header: Any
) -> Journal:
    """A new journal that speaks for `process` (None: this one), and a recorder. Raises FileExistsError."""
    import psutil

    process = process or psutil.Process()
    journal = Journal(FOLDER / "journal" / folder)
    speaker = {"pid": process.pid, "pid_started": process.create_time(), "dvc_lock": str(Path("dvc.lock").resolve())}
    journal.start(tags={**_git_tags(), **tags}, **speaker, **header)
    _ensure_recorder()
    return journal


@contextlib.contextmanager
def _status_at_end(journal: Journal, *, wait: bool = False) -> Iterator[None]:
    """Write how the block ended: FINISHED, FAILED, or KILLED for Ctrl-C and SystemExit.

    wait: until all of it is in MLflow, but for a KILLED one.
    """
    status = "KILLED"
    try:
        yield
        status = "FINISHED"
    except Exception:
        status = "FAILED"
        raise
    finally:
        journal.write("end", status=status)
        if wait and status != "KILLED":
            _wait_until_recorded(journal)


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


def dotted(value: Any, prefix: str) -> dict[str, str]:
    """{'finetune.loss.name': 'asl'} from nested mappings; lists as JSON."""
    if isinstance(value, Mapping):
        return {k: v for key, part in value.items() for k, v in dotted(part, f"{prefix}.{key}").items()}
    return {prefix: value if isinstance(value, str) else json.dumps(value, default=str)}


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _ensure_recorder() -> None:
    """Start a recorder unless one is at work. Call it after the journal was written: a recorder that is about to leave
    releases its lock first and looks for journals once more then."""
    from filelock import FileLock, Timeout

    try:
        with FileLock(FOLDER / "recorder.lock").acquire(timeout=0):
            pass
    except Timeout:
        return
    package_root = str(lasting(Path(__file__).resolve().parents[2]))
    with open(FOLDER / "recorder.log", "ab") as log:
        subprocess.Popen(
            [sys.executable, "-m", "tasks.tracking.recorder"],
            stdin=subprocess.DEVNULL,
            stdout=log,  # never the stage's own: whoever reads that would wait for the recorder
            stderr=log,
            cwd=FOLDER.resolve().parent,
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
