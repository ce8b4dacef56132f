"""Which stages would run, and why: DVC is asked once for the whole graph, no stage process is started for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import yaml

from flows.dvc_status import CODE, Status, read_status
from flows.graph import Nodes, StageNode, ancestors, overlap, waves
from tasks.core import checked
from tasks.core.errors import PipelineError

Forecast = Literal["will run", "may run", "fresh"]


@dataclass(frozen=True)
class PlanRow:
    """One stage of a plan.

    reason: what changed, '' when nothing did.  last_s: seconds of its last run, if known.
    differs: DVC sees a change already, be it one that an upstream may yet undo.
    inputs_from: upstream stages that may give it something new; not `code` where its own code is as it was.
    """

    node: StageNode
    forecast: Forecast
    reason: str = ""
    last_s: float | None = None
    differs: bool = False
    inputs_from: tuple[str, ...] = ()

    @property
    def stage(self) -> str:
        return self.node.name


def plan(root: Path = Path(), *, until: str | None = None) -> list[PlanRow]:
    """Rows of the pipeline in `root`, upstreams first; with `until`, only that stage and what it needs.

    Raises PipelineError: params.yaml is not valid, no DVC repository, an invalid dvc.yaml, an unknown stage.
    """
    check_params(root)
    status = read_status(root)
    if until:
        status = replace(status, nodes=ancestors(status.nodes, until))
    check_inputs(status.nodes, root)
    return forecast(status, last_s=read_durations(root))


def check_params(root: Path) -> None:
    """Hold all of params.yaml against types, ranges and registries, where it or the code was edited since it last was.

    In a process of its own: it imports what trains. Raises PipelineError with its one line.
    """
    if not (root / "tasks/commands/check.py").is_file() or checked.is_valid(root):
        return
    done = subprocess.run([sys.executable, "-m", "tasks", "check"], cwd=root, capture_output=True, text=True)
    if done.returncode:
        raise PipelineError((done.stderr.strip().splitlines() or ["tasks check failed"])[-1].removeprefix("error: "))


def read_params(root: Path = Path()) -> dict[str, Any]:
    """params.yaml, parsed; {} where there is none, or half of one while it is being saved."""
    path = root / checked.PARAMS
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8")) or {} if path.is_file() else {}
    except yaml.YAMLError as error:
        return {"not valid YAML": str(error).splitlines()[0]}


def check_inputs(nodes: Nodes, root: Path) -> None:
    """Raises PipelineError for a file that a stage reads, no stage writes, and is not there."""
    outs = [out for node in nodes.values() for out in node.outs]
    for node in nodes.values():
        for dep in node.deps:
            if "://" in dep or (root / dep).exists() or _touches(dep, outs):
                continue
            raise PipelineError(
                f"{node.name}: reads {dep}, which does not exist and which no stage writes. Correct the path in "
                "params.yaml, or `dvc pull` it where DVC tracks it."
            )


def forecast(status: Status, *, last_s: Mapping[str, float] = {}) -> list[PlanRow]:
    """Rows from DVC's status, upstreams first.  last_s: seconds of each stage's last run.

    A stage will run if it changed itself. It may run if all that differs, or could, is what a stage upstream writes:
    that one may yet write what it wrote before. What `code` will write is known: it concerns a stage whose modules
    changed and no other. Raises PipelineError for a cycle.
    """
    nodes, rows = status.nodes, {}
    for name in (n for wave in waves(nodes) for n in wave):
        node, modules = nodes[name], status.modules.get(name)
        inputs_from = tuple(up for up in node.upstream if modules is None or up != CODE)
        digests = nodes[CODE].outs if modules is not None and CODE in nodes else ()
        pending = [up for up in inputs_from if rows[up].forecast != "fresh"]
        theirs = [out for up in pending for out in nodes[up].outs]

        code = [f"code of {_listed(modules, more='and {} more')}"] if modules else []
        changes = [c for c in _changes(status.changes.get(name, [])) if not _touches(c[1], digests)]
        own = code + [text for text, path in changes if not _touches(path, theirs)]
        if own:
            row = PlanRow(node, "will run", "never run" if name in status.never_ran else _listed(own))
        elif pending:
            row = PlanRow(node, "may run", f"after {_listed(pending)}")
        else:
            row = PlanRow(node, "fresh")
        differs = bool(code or changes)
        rows[name] = replace(row, last_s=last_s.get(name), differs=differs, inputs_from=inputs_from)
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


def _touches(path: str, outs: Iterable[str]) -> bool:
    return any(overlap(path, out) for out in outs)


def _listed(texts: Sequence[str], *, more: str = "(+{})") -> str:
    """The first two, and how many more there are."""
    return ", ".join(texts[:2]) + (f" {more.format(len(texts) - 2)}" if len(texts) > 2 else "")


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
