"""What DVC says about a repository, asked once: its stages, and what differs from dvc.lock.

    read_status     stages, changes with the values of changed params, and modules whose code changed

The stage `code` writes one file a stage, `<stage>.json` with {"modules": {module: digest}}, and each stage reads its
own. Before `code` has run, today's digests are computed, so that what its result will change is known beforehand.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from flows import dvc_leftovers
from flows.dvc_locks import Patience
from flows.graph import StageNode, overlap, read_nodes
from tasks.core.errors import PipelineError

if TYPE_CHECKING:
    from dvc.dependency import Dependency
    from dvc.stage import Stage

log = logging.getLogger(__name__)

CODE = "code"
"""The stage that digests the code of all others."""

Digests = Mapping[str, str]
"""{module: digest}"""


@dataclass(frozen=True)
class Status:
    """What a plan is made of.

    nodes: the stages of dvc.yaml.  never_ran: those whose outputs DVC has not seen yet.
    changes: {stage: [{"changed deps": {path: how}}, {"changed outs": ...}, "changed command", ...]} as in `dvc status`;
    a changed params file has {"key": "old -> new"} for `how`. Stages without a change are left out.
    modules: {stage: modules whose code differs from the code of its last run}, empty for code that is as it was.
    A stage whose last code is not known is left out.
    """

    nodes: Mapping[str, StageNode]
    changes: Mapping[str, list[Any]] = field(default_factory=dict)
    modules: Mapping[str, list[str]] = field(default_factory=dict)
    never_ran: frozenset[str] = frozenset()


def read_status(root: Path) -> Status:
    """Status of the DVC repository `root`; no stage is run for it. Waits while another DVC process works there.

    Raises PipelineError: no DVC repository, an invalid dvc.yaml, a state that DVC cannot read.
    """
    from dvc.exceptions import DvcException, NotDvcRepoError

    patience = Patience(log.warning)
    while True:
        try:
            return _read_status(root)
        except NotDvcRepoError as error:
            raise PipelineError(f"{error}. Run commands from the repository root.") from error
        except (DvcException, PipelineError) as error:
            if aside := dvc_leftovers.set_aside(error, root):
                log.warning("dvc.lock was cut off, as by a kill. It is %s now; DVC's run cache has its stages", aside)
                continue
            if isinstance(error, PipelineError):
                raise
            message = " ".join(str(error).split())
            if not patience.wait(message):
                raise PipelineError(f"dvc status: {message}.") from error


def _read_status(root: Path) -> Status:
    from dvc.repo import Repo, lock_repo

    # Like the global flag --wait-for-lock: another DVC process may be hashing a large output.
    with Repo(str(root), _wait_for_lock=True) as repo, lock_repo(repo):  # held: DVC reads its files only once
        dvc_leftovers.free_paths(repo)
        nodes = read_nodes(repo)
        stages = {stage.addressing: stage for stage in repo.index.stages if stage.cmd}
        dvc_leftovers.remove_copies(repo)
        changes = repo.status()
        for name, stage in stages.items():
            _put_values(stage, changes.get(name, []))
        return Status(
            nodes,
            changes,
            _changed_modules(stages, changes, root) if CODE in stages else {},
            frozenset(n for n, stage in stages.items() if stage.outs and not any(o.hash_info for o in stage.outs)),
        )


def _put_values(stage: Stage, entries: list[Any]) -> None:
    """Write the values of changed params into DVC's entries: {"calibrate.min_support": "5 -> 10"}."""
    from dvc.dependency.param import ParamsDependency

    for dep in stage.deps:
        if isinstance(dep, ParamsDependency) and dep.hash_info.value is not None:
            for entry in entries:
                if isinstance(entry, dict) and str(dep) in entry.get("changed deps", {}):
                    values = _value_changes(_flat(dep.hash_info.value), _flat(dep.read_params()))
                    entry["changed deps"][str(dep)] = values


def _value_changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, str]:
    """{key: "old -> new"} of what differs."""
    nothing = "(none)"
    return {
        key: f"{before.get(key, nothing)} -> {now.get(key, nothing)}"
        for key in dict.fromkeys([*now, *before])
        if before.get(key, nothing) != now.get(key, nothing)
    }


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """{"a.b": 1} from {"a": {"b": 1}}; lists are values."""
    if not isinstance(value, dict):
        return {prefix: value}
    dot = "." if prefix else ""
    return {k: v for key, part in value.items() for k, v in _flat(part, f"{prefix}{dot}{key}").items()}


def _changed_modules(stages: Mapping[str, Stage], changes: Mapping[str, list[Any]], root: Path) -> dict[str, list[str]]:
    """{stage: modules that came, went or have another digest since its last run}; see Status.modules."""
    folders = [out.def_path for out in stages[CODE].outs]
    files = {n: d for n, s in stages.items() for d in s.deps if any(overlap(d.def_path, f) for f in folders)}
    # Computed only where `code` would run: else its files are what it would write.
    today = fingerprints_today(root) if CODE in changes else {n: _read(Path(d.fs_path)) for n, d in files.items()}
    modules = {}
    for name, dep in files.items():
        last, now = _last_digests(dep, changes.get(name, [])), today.get(name)
        if last is not None and now is not None:
            modules[name] = sorted(module for module in {*last, *now} if last.get(module) != now.get(module))
    return modules


def fingerprints_today(root: Path) -> dict[str, Digests]:
    """{stage: {module: digest}} that the stage `code` would write now. Tests put a stand-in here."""
    from tasks.core.fingerprint import fingerprints

    params = yaml.safe_load((root / "params.yaml").read_text(encoding="utf-8"))
    return fingerprints(root, params)


def _last_digests(dep: Dependency, entries: list[Any]) -> Digests | None:
    """Digests that a stage saw when it ran last, from DVC's cache; None where they are not kept."""
    if not dep.hash_info:
        return None  # it never ran
    unchanged = not any(str(dep) in e.get("changed deps", {}) for e in entries if isinstance(e, dict))
    cached = Path(dep.repo.cache.local.oid_to_path(dep.hash_info.value))
    return _read(Path(dep.fs_path) if unchanged else cached)


def _read(path: Path) -> Digests | None:
    return json.loads(path.read_text(encoding="utf-8"))["modules"] if path.exists() else None
