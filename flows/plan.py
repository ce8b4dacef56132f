"""Which stages would run, and why: DVC is asked once for the whole graph, no stage process is started for it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from flows.graph import Nodes, StageNode, ancestors, read_nodes, waves
from tasks.core.errors import PipelineError

if TYPE_CHECKING:
    from dvc.repo import Repo

Forecast = Literal["will run", "may run", "fresh"]


@dataclass(frozen=True)
class PlanRow:
    """One stage of a plan.

    reason: what changed, '' when nothing did.  last_s: seconds of its last run, if known.
    differs: DVC sees a change already, be it one that an upstream may yet undo.
    """

    node: StageNode
    forecast: Forecast
    reason: str = ""
    last_s: float | None = None
    differs: bool = False

    @property
    def stage(self) -> str:
        return self.node.name


def plan(root: Path = Path(), *, until: str | None = None) -> list[PlanRow]:
    """Rows of the pipeline in `root`, upstreams first; with `until`, only that stage and what it needs.

    Raises PipelineError: no DVC repository, an invalid dvc.yaml, an unknown stage.
    """
    with _open_repo(root) as repo:
        nodes = read_nodes(repo)
        if until:
            nodes = ancestors(nodes, until)
        waves(nodes)  # refuses a cycle before anything is asked
        check_inputs(nodes, root)
        stale = {name: changes for name, changes in _status(repo).items() if name in nodes}
        never_ran = {s.addressing for s in repo.index.stages if s.outs and not any(o.hash_info for o in s.outs)}
    return forecast(nodes, stale, never_ran=never_ran, last_s=read_durations(root))


def check_inputs(nodes: Nodes, root: Path) -> None:
    """Raises PipelineError for a file that a stage reads, no stage writes, and is not there."""
    outs = [out for node in nodes.values() for out in node.outs]
    for node in nodes.values():
        for dep in node.deps:
            if "://" in dep or (root / dep).exists() or any(_overlap(dep, out) for out in outs):
                continue
            raise PipelineError(
                f"{node.name}: reads {dep}, which does not exist and which no stage writes. Correct the path in "
                "params.yaml, or `dvc pull` it where DVC tracks it."
            )


def forecast(
    nodes: Nodes,
    status: Mapping[str, list[Any]],
    *,
    never_ran: set[str] = frozenset(),
    last_s: Mapping[str, float] = {},
) -> list[PlanRow]:
    """Rows from DVC's status: {stage: [{"changed deps": {path: how}}, {"changed outs": …}, "changed command", …]}.

    A stage will run if it changed itself. It may run if all that differs, or could, is what a stage upstream writes:
    that one may yet write what it wrote before.
    """
    rows: dict[str, PlanRow] = {}
    for name in (n for wave in waves(nodes) for n in wave):
        node = nodes[name]
        pending = [up for up in node.upstream if rows[up].forecast != "fresh"]
        theirs = [out for up in pending for out in nodes[up].outs]
        changes = list(_changes(status.get(name, [])))
        own = [text for text, path in changes if not any(_overlap(path, out) for out in theirs)]
        if own:
            row = PlanRow(node, "will run", "never run" if name in never_ran else _listed(own))
        elif pending:
            row = PlanRow(node, "may run", f"after {_listed(pending)}")
        else:
            row = PlanRow(node, "fresh")
        rows[name] = replace(row, last_s=last_s.get(name), differs=bool(changes))
    return list(rows.values())


def _changes(entries: list[Any]) -> Iterator[tuple[str, str]]:
    """(what a person reads, path it concerns) for each change that DVC lists."""
    for entry in entries:
        if isinstance(entry, str):  # "changed command", "always changed"
            yield entry, ""
            continue
        for kind, paths in entry.items():
            for path, how in paths.items():
                if isinstance(how, dict):  # a params file: {key: how}
                    yield from ((f"{key} {how_key}", "") for key, how_key in how.items())
                else:
                    what = "output " if kind == "changed outs" else ""
                    yield f"{what}{path} {'missing' if how == 'deleted' else how}", path


def _overlap(path: str, out: str) -> bool:
    """Whether one is the other, or lies in it."""
    return bool(path) and (Path(path).is_relative_to(out) or Path(out).is_relative_to(path))


def _listed(texts: list[str], *, most: int = 2) -> str:
    more = f" (+{len(texts) - most})" if len(texts) > most else ""
    return ", ".join(texts[:most]) + more


def _open_repo(root: Path) -> Repo:
    from dvc.exceptions import NotDvcRepoError
    from dvc.repo import Repo

    try:
        # Like the global flag --wait-for-lock: another DVC process may be hashing a large output.
        return Repo(str(root), _wait_for_lock=True)
    except NotDvcRepoError as error:
        raise PipelineError(f"{error}. Run commands from the repository root.") from error


def _status(repo: Repo) -> dict[str, list[Any]]:
    """DVC's status, with the values of changed params: {"calibrate.min_support": "5 -> 10"} under "changed deps"."""
    from dvc.dependency.param import ParamsDependency
    from dvc.exceptions import DvcException

    try:
        status = repo.status()
        for stage in repo.index.stages:
            for dep in stage.deps:
                if isinstance(dep, ParamsDependency) and dep.hash_info.value is not None:
                    changes = _value_changes(_flat(dep.hash_info.value), _flat(dep.read_params()))
                    for entry in status.get(stage.addressing, []):
                        if isinstance(entry, dict) and str(dep) in entry.get("changed deps", {}):
                            entry["changed deps"][str(dep)] = changes
        return status
    except DvcException as error:
        raise PipelineError(f"dvc status: {' '.join(str(error).split())}.") from error


def _value_changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, str]:
    """{key: "old -> new"} of what differs."""
    nothing = "(none)"
    keys = [*now, *(k for k in before if k not in now)]
    return {
        key: f"{before.get(key, nothing)} -> {now.get(key, nothing)}"
        for key in keys
        if before.get(key, nothing) != now.get(key, nothing)
    }


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """{"a.b": 1} from {"a": {"b": 1}}; lists are values."""
    if not isinstance(value, dict):
        return {prefix: value}
    dot = "." if prefix else ""
    return {k: v for key, part in value.items() for k, v in _flat(part, f"{prefix}{dot}{key}").items()}


def _durations_path(root: Path) -> Path:
    return root / os.environ.get("TAGWRIGHT_CACHE", ".cache") / "durations.json"


def read_durations(root: Path = Path()) -> dict[str, float]:
    """Seconds that each stage took when the flow ran it last, {} before the first run."""
    path = _durations_path(root)
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def write_durations(seconds: Mapping[str, float], root: Path = Path()) -> None:
    """Remember how long stages took, those of earlier runs included."""
    path = _durations_path(root)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({**read_durations(root), **seconds}, indent=2, sort_keys=True)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)
