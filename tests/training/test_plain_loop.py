"""Our loop against one that anybody would write: timm's own network, torch's own optimisers and schedules.

With the same weights, batches and settings the losses are the same, step by step. What differs between the defaults of
the two is told in docs/peers.md.
"""

from __future__ import annotations

import pytest
import timm
import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR, OneCycleLR

from tasks.core.registry import Choice
from tasks.nn.backbone import build_backbone
from tasks.nn.heads import HEADS
from tasks.nn.losses import LOSSES
from tasks.nn.model import Tagger
from tasks.training import SCHEDULES
from tasks.training.data import StepPlan, training_batches
from tasks.training.distributed import World
from tasks.training.optim import follow
from tasks.training.step import build_stepper
from tests.training import toy

PX, LABELS, STEPS, LR, DECAY = 24, 3, 50, 0.01, 0.02


def one_cycle(optimizer):
    return OneCycleLR(optimizer, LR, total_steps=STEPS, pct_start=0.2, div_factor=100, final_div_factor=1000)


def cosine(optimizer):
    warmup = 5
    rise = lambda t: (t + 1) / warmup  # noqa: E731
    fall = lambda t: (1 + torch.tensor(torch.pi * (t - warmup) / (STEPS - warmup)).cos().item()) / 2  # noqa: E731
    return LambdaLR(optimizer, lambda t: rise(t) if t < warmup else fall(t))


def new_tagger() -> Tagger:
    torch.manual_seed(0)
    backbone = build_backbone("test_resnet", weights=None, options={}, image_px=(PX, PX))
    # In double precision: AdamW takes the sign of a gradient that is nothing but rounding.
    return Tagger(backbone, HEADS["linear"](backbone.num_features, LABELS), labels=list("abc")).double()


def timm_net(tagger: Tagger) -> nn.Module:
    """The same network as timm has it, classifier and all."""
    net = timm.create_model("test_resnet", num_classes=LABELS)
    state = {
        **tagger.backbone.net.state_dict(),
        **{f"fc.{k}": v for k, v in tagger.head.classifier.state_dict().items()},
    }
    net.load_state_dict(state)
    return net.double().train()


@pytest.mark.parametrize("schedule", ["one_cycle", "cosine"])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_the_losses_are_those_of_a_plain_loop(optimizer, schedule):
    images = toy.image_set(40, LABELS, side=PX, known=1.0)
    plan = StepPlan(len(images), batch_size=8, accumulate=1, epochs=STEPS // 5, seed=0)
    steps = list(training_batches(images, plan, augment=[{"name": "hflip"}]))
    assert len(steps) == STEPS

    tagger = new_tagger()
    net, mean, std = timm_net(tagger), tagger.mean.clone(), tagger.std.clone()
    settings = toy.settings(
        optimizer={"name": optimizer},
        lr=LR,
        weight_decay=DECAY,
        no_bias_decay=False,
        ema={"enabled": True, "decay": 0.9},
    )
    stepper = build_stepper(tagger, LOSSES["bce"](LABELS), settings, seed=0, device=torch.device("cpu"), world=World())
    ours_schedule = Choice(name=schedule).build(SCHEDULES, where="", num_steps=STEPS, steps_per_epoch=5)
    ours = []
    for step in steps:
        follow(ours_schedule, stepper.optimizer, step.number)
        ours.append(stepper(step).item())

    kinds = {
        "sgd": lambda: torch.optim.SGD(net.parameters(), LR, momentum=0.9, weight_decay=DECAY),
        "adamw": lambda: torch.optim.AdamW(net.parameters(), LR, weight_decay=DECAY),
    }
    plain = kinds[optimizer]()
    theirs_schedule = {"one_cycle": one_cycle, "cosine": cosine}[schedule](plain)
    theirs = []
    for step in steps:
        (batch,) = step.batches
        loss = nn.functional.binary_cross_entropy_with_logits(
            net((batch.images_BCHW.float() / 255 - mean) / std), batch.targets_BC.double()
        )
        plain.zero_grad()
        loss.backward()
        plain.step()
        theirs_schedule.step()
        theirs.append(loss.item())

    assert sum(theirs[-10:]) < sum(theirs[:10])
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-7)
    with torch.no_grad():
        scores = tagger.eval()(batch.images_BCHW)
        torch.testing.assert_close(
            scores, net.eval()((batch.images_BCHW.float() / 255 - mean) / std), rtol=1e-3, atol=1e-4
        )
