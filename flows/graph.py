"""dvc.yaml as frozen nodes in an order that respects it. Pure: no prefect, no clock, no files.

StageNode      one stage: what it needs, what it runs, what it reads and writes
read_nodes     nodes of a DVC repository; DVC resolves `foreach`, `matrix` and `${…}`
waves          stages grouped so that each stands after all of its upstreams
ancestors      everything a stage needs
overlap        whether two paths share files
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from tasks.core.errors import PipelineError, did_you_mean

if TYPE_CHECKING:
    from dvc.repo import Repo

Resource = Literal["cpu", "gpu"]
Nodes = Mapping[str, "StageNode"]


@dataclass(frozen=True)
class StageMeta:
    """`meta:` of a stage: hints for the flow that change no result, so DVC does not hash them.

    resource: stages on `gpu` run one at a time.  retries: how often a failure is tried again; for network stages only.
    """

    resource: Resource = "cpu"
    retries: int = 0


@dataclass(frozen=True)
class StageNode:
    """One stage of dvc.yaml.

    name: as DVC addresses it, e.g. `ingest@coco`.  upstream: names of the stages whose outputs it reads.
    deps, outs: paths relative to the repository root.
    """

    name: str
    upstream: tuple[str, ...] = ()
    meta: StageMeta = StageMeta()
    cmd: str = ""
    deps: tuple[str, ...] = ()
    outs: tuple[str, ...] = ()


def read_nodes(repo: Repo) -> dict[str, StageNode]:
    """The stages of an open DVC repository, in the order of dvc.yaml. Data that DVC only tracks (`*.dvc`) is no stage.

    Raises PipelineError with DVC's own message when dvc.yaml is not valid or not a DAG.
    """
    from dvc.exceptions import DvcException

    try:
        graph, stages = repo.index.graph, repo.index.stages
    except DvcException as error:
        raise PipelineError(f"dvc.yaml: {' '.join(str(error).split())}. Fix it; `dvc dag` shows the graph.") from error
    return {
        stage.addressing: StageNode(
            name=stage.addressing,
            upstream=tuple(up.addressing for up in graph.successors(stage) if up.cmd),
            meta=read_meta(stage.meta, where=f"dvc.yaml: {stage.addressing}: meta"),
            cmd=stage.cmd if isinstance(stage.cmd, str) else " && ".join(stage.cmd),
            deps=tuple(dep.def_path for dep in stage.deps),
            outs=tuple(out.def_path for out in stage.outs),
        )
        for stage in stages
        if stage.cmd
    }


def read_meta(raw: Mapping[str, Any] | None, *, where: str) -> StageMeta:
    """`meta:` of one stage; keys other than ours are left to their owners. Raises PipelineError for a wrong value."""
    meta = StageMeta(**{k: v for k, v in (raw or {}).items() if k in StageMeta.__dataclass_fields__})
    if meta.resource not in get_args(Resource):
        hint = did_you_mean(str(meta.resource), get_args(Resource))
        raise PipelineError(f"{where}.resource: '{meta.resource}'. {hint}")
    if type(meta.retries) is not int or meta.retries < 0:
        raise PipelineError(f"{where}.retries: {meta.retries!r}. Write a whole number, 0 or more.")
    return meta


def waves(nodes: Nodes) -> tuple[tuple[str, ...], ...]:
    """Stage names in waves (Kahn): a stage is in the first wave after all of its upstreams.

    Within a wave the order of `nodes` is kept. Raises PipelineError that names the stages of a cycle.
    """
    done: set[str] = set()
    groups = []
    while len(done) < len(nodes):
        wave = tuple(n for n, node in nodes.items() if n not in done and done.issuperset(node.upstream))
        if not wave:
            cycle = " -> ".join(_cycle({n: node for n, node in nodes.items() if n not in done}))
            raise PipelineError(f"dvc.yaml: the stages form a cycle: {cycle}. Break it; `dvc dag` shows the graph.")
        groups.append(wave)
        done.update(wave)
    return tuple(groups)


def _cycle(nodes: Nodes) -> list[str]:
    """One cycle among stages that all wait for each other, written in the direction of the data."""
    path = [next(iter(nodes))]
    while path[-1] not in path[:-1]:
        path.append(next(up for up in nodes[path[-1]].upstream if up in nodes))
    return path[path.index(path[-1]) :][::-1]


def overlap(path: str, other: str) -> bool:
    """Whether one path is the other, or lies in it; '' lies nowhere."""
    return bool(path) and (Path(path).is_relative_to(other) or Path(other).is_relative_to(path))


def ancestors(nodes: Nodes, name: str) -> dict[str, StageNode]:
    """`name` and everything it needs, in the order of `nodes`. Raises PipelineError for a stage that is not there."""
    if name not in nodes:
        raise PipelineError(f"there is no stage '{name}' in dvc.yaml. {did_you_mean(name, nodes)}")
    reached, stack = {name}, [name]
    while stack:
        new = [up for up in nodes[stack.pop()].upstream if up not in reached]
        reached.update(new)
        stack.extend(new)
    return {n: node for n, node in nodes.items() if n in reached}
