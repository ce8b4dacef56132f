"""Graphs by shape: chain, diamond, independent, cycle. No server, no DVC but in the last tests."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import pytest

from flows.graph import StageMeta, StageNode, ancestors, read_meta, read_nodes, waves
from tasks.core.errors import PipelineError


def graph(**upstream: str) -> dict[str, StageNode]:
    """{'b': 'a'} -> b reads what a writes; several upstreams are written 'a c'."""
    return {name: StageNode(name, tuple(ups.split())) for name, ups in upstream.items()}


CHAIN = graph(c="b", b="a", a="")
DIAMOND = graph(top="", left="top", right="top", bottom="left right")
INDEPENDENT = graph(a="", b="", c="")


def test_a_chain_runs_one_stage_a_wave_whatever_order_it_was_written_in():
    assert waves(CHAIN) == (("a",), ("b",), ("c",))


def test_the_arms_of_a_diamond_share_a_wave():
    assert waves(DIAMOND) == (("top",), ("left", "right"), ("bottom",))


def test_independent_stages_are_one_wave_in_the_order_of_dvc_yaml():
    assert waves(INDEPENDENT) == (("a", "b", "c"),)


def test_an_empty_graph_has_no_waves():
    assert waves({}) == ()


def test_a_cycle_is_named_in_the_direction_of_the_data():
    with pytest.raises(PipelineError, match=r"a cycle: (a -> b -> c -> a|b -> c -> a -> b|c -> a -> b -> c)\."):
        waves(graph(start="", a="c start", b="a", c="b", end="c"))


def test_a_stage_that_reads_itself_is_a_cycle():
    with pytest.raises(PipelineError, match="a cycle: a -> a"):
        waves(graph(a="a"))


def test_ancestors_are_the_stage_and_everything_it_needs():
    assert list(ancestors(DIAMOND, "left")) == ["top", "left"]
    assert list(ancestors(CHAIN, "c")) == ["c", "b", "a"]  # the order of the graph is kept


def test_an_unknown_stage_is_answered_with_the_nearest_name():
    with pytest.raises(PipelineError, match=r"no stage 'botom' in dvc.yaml\. Did you mean 'bottom'\?"):
        ancestors(DIAMOND, "botom")


def test_a_node_is_frozen_and_hashable():
    node = StageNode("a", ("b",))
    assert hash(node) == hash(StageNode("a", ("b",)))
    with pytest.raises(dataclasses.FrozenInstanceError):
        node.name = "c"


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"resource": "gpus"}, "meta.resource: 'gpus'. Did you mean 'gpu'?"),
        ({"retries": -1}, "meta.retries: -1. Write a whole number, 0 or more."),
        ({"retries": True}, "meta.retries: True"),
    ],
)
def test_a_wrong_hint_is_refused_by_name(raw, message):
    with pytest.raises(PipelineError) as error:
        read_meta(raw, where="meta")
    assert message in str(error.value)


def test_hints_of_other_tools_are_left_alone():
    assert read_meta({"owner": "vision"}, where="meta") == StageMeta() == read_meta(None, where="meta")


def test_dvc_resolves_foreach_and_edges_through_folders(toy):
    from dvc.repo import Repo

    root = toy(
        {
            "read": {
                "foreach": ["x", "y"],
                "do": {
                    "cmd": "mkdir -p in && echo ${item} > in/${item}",
                    "outs": ["in/${item}"],
                    "meta": {"retries": 2},
                },
            },
            "join": {"cmd": "cat in/* > all", "deps": ["in"], "params": ["join"], "outs": ["all"]},
        },
        {"join": {"n": 1}},
    )
    nodes = read_nodes(Repo(str(root)))
    assert list(nodes) == ["read@x", "read@y", "join"]
    assert set(nodes["join"].upstream) == {"read@x", "read@y"}
    assert nodes["read@x"] == StageNode(
        "read@x", (), StageMeta(retries=2), "mkdir -p in && echo x > in/x", (), ("in/x",)
    )


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        (
            {"a": {"cmd": "true", "deps": ["y"], "outs": ["x"]}, "b": {"cmd": "true", "deps": ["x"], "outs": ["y"]}},
            "stages: ",
        ),
        ({"a": {"cmd": "${nowhere}"}}, "Could not find 'nowhere'"),
        ({"a": {"cmd": "true", "depss": []}}, "validation failed"),
    ],
)
def test_what_dvc_refuses_is_one_line(toy, stages, message):
    from dvc.repo import Repo

    root = toy(stages)
    with pytest.raises(PipelineError) as error:
        read_nodes(Repo(str(root)))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_graph_plan_and_table_need_no_prefect():
    code = "import sys; sys.modules['prefect'] = None; import flows.terminal, flows.plan, flows.repro"
    subprocess.run([sys.executable, "-c", code], check=True)
