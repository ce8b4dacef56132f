"""Graph heads: attention and convolution by hand, pooling, and the cache that must never be stale."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch

from tasks.core.errors import ModelError
from tasks.nn.heads import HEADS
from tasks.nn.heads.label_graph import GraphAttention, GraphConvolution
from tests.nn.heads.test_contract import build, cooccurrence, features

GRAPH_HEADS = pytest.mark.parametrize("name", ["gat", "gat_ml_decoder", "ml_gcn"])


def test_graph_attention_is_its_formula_node_by_node():
    torch.manual_seed(0)
    layer = GraphAttention(4, 3, dropout=0.0)
    nodes_CD = torch.randn(5, 4)
    adjacency_CC = (torch.rand(5, 5) < 0.4).float() + torch.eye(5)
    wh = [nodes_CD[i] @ layer.weight for i in range(5)]
    own, neighbour = layer.attention[:3, 0], layer.attention[3:, 0]
    expected = []
    for i in range(5):
        near = [j for j in range(5) if adjacency_CC[i, j] > 0]
        energy = [(own @ wh[i] + neighbour @ wh[j]).item() for j in near]
        weight = [math.exp(e if e > 0 else 0.2 * e) for e in energy]
        mixed = sum(w / sum(weight) * wh[j] for w, j in zip(weight, near, strict=True))
        expected.append(torch.where(mixed > 0, mixed, mixed.exp() - 1))
    torch.testing.assert_close(layer(nodes_CD, adjacency_CC), torch.stack(expected), rtol=1e-4, atol=1e-6)


def test_graph_convolution_multiplies_neighbours_by_the_adjacency():
    layer = GraphConvolution(4, 3)
    nodes_CD, adjacency_CC = torch.randn(5, 4), torch.rand(5, 5)
    torch.testing.assert_close(layer(nodes_CD, adjacency_CC), adjacency_CC @ nodes_CD @ layer.weight)
    assert layer.weight.abs().max() <= 3**-0.5


def test_channels_are_weighted_between_zero_and_one_then_pooled_both_ways():
    head = build("gat").eval()
    weights_F = head.label_graph()
    assert ((weights_F > 0) & (weights_F < 1)).all()
    weighted = features() * weights_F[:, None, None]
    pooled = weighted.mean((2, 3)) + weighted.flatten(2).max(dim=2).values
    torch.testing.assert_close(head(features()), pooled @ head.classifier.weight.T + head.classifier.bias)


def test_average_pooling_alone_is_a_switch():
    head = build("gat", pooling="avg").eval()
    pooled = (features() * head.label_graph()[:, None, None]).mean((2, 3))
    torch.testing.assert_close(head(features()), pooled @ head.classifier.weight.T + head.classifier.bias)


def test_the_graph_can_feed_ml_decoder():
    head = build("gat_ml_decoder").eval()
    weighted = features() * head.label_graph()[:, None, None]
    torch.testing.assert_close(head(features()), head.decoder(weighted))


def test_ml_gcn_multiplies_the_maximum_with_vectors_made_by_the_graph():
    head = build("ml_gcn").eval()
    torch.testing.assert_close(head(features()), features().amax((2, 3)) @ head.label_graph().T)


@GRAPH_HEADS
def test_without_co_occurrence_there_is_one_clear_line(name):
    with pytest.raises(ModelError, match=f"head {name}: no co-occurrence counts.*or choose head ml_decoder"):
        HEADS[name](16, 7)


@GRAPH_HEADS
@pytest.mark.parametrize("kind", ["spectral", "one_hot", "learned"])
def test_nodes_need_no_names(name, kind):
    head = build(name, node_features=kind)
    head(features()).sum().backward()
    learned = {n for n, _ in head.named_parameters() if "nodes_CD" in n}
    assert bool(learned) == (kind == "learned")


def test_glove_vectors_become_the_nodes(real_data):
    path = real_data / "graph" / "voc_glove300.npz"
    with np.load(path) as file:
        names, vectors = [str(x) for x in file["labels"]], file["vectors"]
    head = HEADS["gat"](16, 20, cooccurrence(20), names[::-1], node_features="glove", glove=str(path))
    np.testing.assert_array_equal(head.label_graph.nodes_CD.numpy(), vectors[::-1])


@pytest.mark.parametrize("layer_type", ["gat", "gcn"])
def test_layers_are_a_switch_and_unknown_ones_are_refused(layer_type):
    kind = {"gat": GraphAttention, "gcn": GraphConvolution}[layer_type]
    assert all(isinstance(layer, kind) for layer in build("gat", layer_type=layer_type).label_graph.layers)
    with pytest.raises(ValueError, match="layer_type 'gan' is unknown; use gat or gcn"):
        build("gat", layer_type="gan")


# ---------------------------------------------------------------- the cache


def counted(head):
    """The head, and a list that grows with each computation of its graph."""
    calls, compute = [], head.label_graph.compute
    head.label_graph.compute = lambda: calls.append(1) or compute()
    return head, calls


@GRAPH_HEADS
def test_evaluation_computes_the_graph_once(name):
    head, calls = counted(build(name).eval())
    for _ in range(3):
        head(features())
    assert len(calls) == 1


@GRAPH_HEADS
def test_training_computes_it_every_step_with_its_gradient(name):
    head, calls = counted(build(name).train())
    head(features())
    head(features()).sum().backward()
    assert len(calls) == 2
    assert head.label_graph.layers[0].weight.grad is not None


def stale(head) -> bool:
    """Whether evaluation still uses an old graph."""
    return not torch.allclose(head.label_graph(), head.label_graph.compute())


@GRAPH_HEADS
@pytest.mark.parametrize(
    "change",
    [
        lambda head: torch.optim.SGD(head.parameters(), lr=10.0).step(),
        lambda head: head.load_state_dict({k: v * 1.5 for k, v in head.state_dict().items()}),
        lambda head: head.load_state_dict({k: v * 1.5 for k, v in head.state_dict().items()}, assign=True),
        lambda head: (head.label_graph.layers[0].weight.data.mul_(2), head.train().eval()),
        lambda head: head.double(),
    ],
    ids=["optimiser step", "loaded state", "assigned state", "write through .data, then train()", "another dtype"],
)
def test_the_cache_follows_every_change_of_weights(name, change):
    head = build(name)
    head(features()).sum().backward()
    head.eval()(features())
    change(head)
    assert not stale(head)


@GRAPH_HEADS
def test_an_averaged_copy_has_its_own_cache(name):
    head = build(name).eval()
    head(features())
    average = copy.deepcopy(head)
    with torch.no_grad():
        for parameter in average.parameters():
            parameter.lerp_(torch.ones_like(parameter), 0.5)
    assert not stale(average)
    assert not stale(head)


@GRAPH_HEADS
def test_the_cache_is_not_saved(name):
    assert not [key for key in build(name).state_dict() if "cached" in key]


@GRAPH_HEADS
def test_tracing_uses_the_graph_of_the_current_weights_before_and_after_the_first_evaluation(name):
    head = build(name).eval()
    for _ in range(2):
        expected = head.label_graph.compute()
        exported = torch.export.export(head, (features(),)).module()
        torch.testing.assert_close(exported(features()), head(features()))
        torch.testing.assert_close(head.label_graph(), expected)
        head.load_state_dict({k: v * 1.5 for k, v in head.state_dict().items()})


def test_an_exported_graph_head_carries_weights_and_not_the_graph():
    head = build("gat").eval()
    head(features())
    operations = [str(node.target) for node in torch.export.export(head, (features(),)).graph.nodes]
    assert not [name for name in operations if "softmax" in name or "elu" in name]
