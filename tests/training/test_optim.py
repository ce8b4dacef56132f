import pytest
import torch
from torch import nn

from tasks.training import OPTIMIZERS
from tasks.training.optim import follow, parameter_groups
from tasks.training.schedules import constant, one_cycle
from tasks.training.semi.base import Assisted
from tests.training import toy


class Head(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1 = nn.LayerNorm(4)
        self.query_embed = nn.Embedding(5, 4)
        self.attention = nn.MultiheadAttention(4, 2)
        self.activation = nn.PReLU(4)
        self.duplicate_pooling = nn.Parameter(torch.zeros(5, 4, 1))
        self.duplicate_pooling_bias = nn.Parameter(torch.zeros(5))
        self.bias_C = nn.Parameter(torch.zeros(5))


def model():
    net = nn.Module()
    net.conv = nn.Conv2d(3, 4, 3)
    net.bn = nn.BatchNorm2d(4)
    net.frozen = nn.Linear(4, 4)
    net.frozen.requires_grad_(False)
    net.head = Head()
    return net


def test_no_bias_decay_makes_three_groups():
    groups = {
        g["name"]: g
        for g in parameter_groups(model(), lr=0.1, weight_decay=0.01, no_bias_decay=True, bias_lr_factor=2.0)
    }
    assert set(groups["decayed"]["names"]) == {
        "conv.weight", "head.attention.in_proj_weight", "head.attention.out_proj.weight", "head.duplicate_pooling",
    }  # fmt: skip
    assert set(groups["bias"]["names"]) == {
        "conv.bias", "bn.bias", "head.norm1.bias", "head.attention.in_proj_bias", "head.attention.out_proj.bias",
        "head.duplicate_pooling_bias", "head.bias_C",
    }  # fmt: skip
    assert set(groups["undecayed"]["names"]) == {
        "bn.weight", "head.norm1.weight", "head.query_embed.weight", "head.activation.weight",
    }  # fmt: skip
    assert {n: (g["lr"], g["weight_decay"]) for n, g in groups.items()} == {
        "decayed": (0.1, 0.01), "bias": (0.2, 0.0), "undecayed": (0.1, 0.0),
    }  # fmt: skip


def test_without_it_there_is_one_group_of_everything_trainable():
    (group,) = parameter_groups(model(), lr=0.1, weight_decay=0.01, no_bias_decay=False, bias_lr_factor=2.0)
    assert len(group["params"]) == len([p for p in model().parameters() if p.requires_grad])
    assert (group["lr"], group["weight_decay"]) == (0.1, 0.01)


def test_each_trainable_parameter_stands_in_exactly_one_group():
    net = model()
    groups = parameter_groups(net, lr=0.1, weight_decay=0.01, no_bias_decay=True)
    names = [n for g in groups for n in g["names"]]
    assert sorted(names) == sorted(n for n, p in net.named_parameters() if p.requires_grad)


def test_the_backbone_can_learn_at_a_rate_of_its_own():
    net = nn.Module()
    net.backbone, net.head = model(), Head()
    groups = parameter_groups(
        net, lr=0.1, weight_decay=0.01, no_bias_decay=True, bias_lr_factor=2.0, backbone_lr_factor=0.1
    )
    lr_of = {name: group["lr"] for group in groups for name in group["names"]}
    assert len(lr_of) == len([p for p in net.parameters() if p.requires_grad])
    assert lr_of["backbone.conv.weight"] == pytest.approx(0.01)
    assert lr_of["backbone.conv.bias"] == pytest.approx(0.02)
    assert lr_of["head.query_embed.weight"] == pytest.approx(0.1)
    assert lr_of["head.bias_C"] == pytest.approx(0.2)


def test_the_backbone_keeps_its_own_rate_beside_a_method_that_learns_from_unlabelled_images():
    tagger = nn.Module()
    tagger.backbone, tagger.head = model(), Head()
    groups = parameter_groups(
        Assisted(tagger, toy.method("sesemi")), lr=0.1, weight_decay=0.0, no_bias_decay=True, backbone_lr_factor=0.1
    )
    lr_of = {name: group["lr"] for group in groups for name in group["names"]}
    assert lr_of["tagger.backbone.conv.weight"] == pytest.approx(0.01)
    assert lr_of["tagger.head.query_embed.weight"] == pytest.approx(0.1)
    assert {lr for name, lr in lr_of.items() if name.startswith("method.")} == {0.1}


def test_a_backbone_at_the_common_rate_has_no_groups_of_its_own():
    groups = parameter_groups(model(), lr=0.1, weight_decay=0.01, no_bias_decay=True, backbone_lr_factor=1.0)
    assert {g["name"] for g in groups} == {"decayed", "bias", "undecayed"}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_takes_groups_and_follows_a_schedule(name):
    groups = parameter_groups(model(), lr=0.1, weight_decay=0.01, no_bias_decay=True, bias_lr_factor=2.0)
    optimizer = OPTIMIZERS[name](groups)
    follow(one_cycle(100), optimizer, 0)
    by_name = {g["name"]: g for g in optimizer.param_groups}
    assert by_name["decayed"]["lr"] == pytest.approx(0.001)
    assert by_name["bias"]["lr"] == pytest.approx(0.002)
    momentum = by_name["decayed"].get("momentum") or by_name["decayed"]["betas"][0]
    assert momentum == pytest.approx(0.95)


def test_a_schedule_without_momentum_leaves_the_optimizers_own():
    optimizer = OPTIMIZERS["sgd"](parameter_groups(model(), lr=0.1, weight_decay=0, no_bias_decay=True), momentum=0.8)
    follow(constant(10), optimizer, 3)
    assert {g["momentum"] for g in optimizer.param_groups} == {0.8}


def test_sgd_without_momentum_gets_none_from_the_schedule():
    optimizer = OPTIMIZERS["sgd"](parameter_groups(model(), lr=0.1, weight_decay=0, no_bias_decay=True), momentum=0.0)
    follow(one_cycle(10), optimizer, 0)
    assert {g["momentum"] for g in optimizer.param_groups} == {0}
