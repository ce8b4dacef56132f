"""One training step: ours against timm's own pattern on the same backbone, batch and precision; the price of extras.

    python -m tests.benchmarks.step [--model NAME] [--px N] [--batch B] [--labels C] [--precision bf16] [--compile]

Random pixels and random labels, all known, seed 0; SGD with momentum; no loader. timm's side is the body of its train
script: autocast forward, its multi-label BCE, backward, optimiser step, zero_grad. Contestants take turns, so that a
noisy machine is unfair to none of them; the figure is the median over the turns.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import timm
import timm.loss
import timm.optim
import torch

from tasks.nn.backbone import build_backbone
from tasks.nn.heads import HEADS
from tasks.nn.losses import LOSSES
from tasks.nn.model import Tagger
from tasks.training.data import Batch, Step
from tasks.training.distributed import World, default_device
from tasks.training.inference import autocast
from tasks.training.step import build_stepper
from tests.training import toy

LR, MOMENTUM = 0.01, 0.9


@dataclass(frozen=True)
class Setting:
    model: str
    px: int
    batch: int
    labels: int
    precision: str
    compile: bool
    channels_last: bool
    device: torch.device

    @property
    def memory_format(self) -> torch.memory_format:
        return torch.channels_last if self.channels_last else torch.contiguous_format


def random_batch(setting: Setting) -> Batch:
    """On the CPU, as a loader gives it."""
    g = torch.Generator().manual_seed(0)
    images = torch.randint(256, (setting.batch, 3, setting.px, setting.px), generator=g, dtype=torch.uint8)
    targets = (torch.rand(setting.batch, setting.labels, generator=g) < 0.05).float()
    return Batch(images, targets, torch.ones(setting.batch, setting.labels, dtype=torch.bool))


def timm_step(setting: Setting) -> Callable[[], None]:
    """The body of timm's train loop."""
    torch.manual_seed(0)
    model = timm.create_model(setting.model, num_classes=setting.labels).to(setting.device)
    model = model.to(memory_format=setting.memory_format).train()
    optimizer = timm.optim.create_optimizer_v2(model, "momentum", lr=LR, momentum=MOMENTUM, weight_decay=1e-4)
    scaler = torch.amp.GradScaler(setting.device.type, enabled=setting.precision == "fp16")
    loss_function = timm.loss.BinaryCrossEntropy(smoothing=0.0)
    forward = torch.compile(model) if setting.compile else model
    mean = torch.full((1, 3, 1, 1), 0.45 * 255, device=setting.device)
    std = torch.full((1, 3, 1, 1), 0.22 * 255, device=setting.device)
    batch = random_batch(setting)

    def step() -> None:
        images = batch.images_BCHW.to(setting.device, non_blocking=True, memory_format=setting.memory_format)
        targets = batch.targets_BC.to(setting.device, non_blocking=True)
        images = images.float().sub_(mean).div_(std)
        with autocast(setting.device, setting.precision):
            loss = loss_function(forward(images), targets)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()

    return step


def our_step(setting: Setting, *, head: str = "linear", **changes: object) -> Callable[[], None]:
    """Stepper on the same backbone; `changes` to the plain settings."""
    torch.manual_seed(0)
    backbone = build_backbone(setting.model, weights=None, options={}, image_px=(setting.px, setting.px))
    model = Tagger(
        backbone,
        HEADS[head](backbone.num_features, setting.labels),
        labels=[f"label {c}" for c in range(setting.labels)],
    )
    plain = {"lr": LR, "ema": {"enabled": False, "decay": 0.9997}, "channels_last": setting.channels_last}
    settings = toy.settings(**{**plain, "precision": setting.precision, "compile": setting.compile, **changes})
    stepper = build_stepper(
        model, LOSSES["bce"](setting.labels), settings, seed=0, device=setting.device, world=World()
    )
    batch = random_batch(setting)
    step = Step(0, 0, [batch], list(range(setting.batch)), batch.known_BC.numel())
    return lambda: stepper(step)


def contestants(setting: Setting) -> dict[str, Callable[[], None]]:
    """timm first, ours without extras second."""
    sam, ema = {"enabled": True, "rho": 0.05, "adaptive": False}, {"enabled": True, "decay": 0.9997}
    return {
        "timm": timm_step(setting),
        "ours": our_step(setting),
        "ours + EMA": our_step(setting, ema=ema),
        "ours + SAM": our_step(setting, sam=sam),
        "ours + ML-Decoder": our_step(setting, head="ml_decoder"),
        "ours + all three": our_step(setting, head="ml_decoder", ema=ema, sam=sam),
    }


def seconds(step: Callable[[], None], num_steps: int, device: torch.device) -> float:
    """Wall time a step."""
    start = time.perf_counter()
    for _ in range(num_steps):
        step()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - start) / num_steps


def main(argv: list[str] | None = None) -> None:
    """Print one line a contestant: ms a step, images/s, time relative to timm, and on CUDA the peak memory."""
    parser = argparse.ArgumentParser(prog="step", description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--px", type=int, default=64)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--labels", type=int, default=80)
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16", "fp16"])
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--no-channels-last", action="store_true")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--steps", type=int, default=2, help="steps a turn")
    options = parser.parse_args(argv)
    setting = Setting(
        options.model, options.px, options.batch, options.labels, options.precision, options.compile,
        not options.no_channels_last, default_device(),
    )  # fmt: skip

    steps = contestants(setting)
    peak_gib = {name: _peak_gib(step, setting.device) for name, step in steps.items()}  # warms up, too
    turns: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(options.turns):
        for name, step in steps.items():
            turns[name].append(seconds(step, options.steps, setting.device))
    where = torch.cuda.get_device_name() if setting.device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    layout = "channels_last" if setting.channels_last else "contiguous"
    compiled = ", compiled" if setting.compile else ""
    size = f"{setting.model} @ {setting.px} px, batch {setting.batch}, {setting.labels} labels"
    print(f"{size}, {setting.precision}, {layout}{compiled}; {where}")
    for name, times in turns.items():
        median = statistics.median(times)
        relative = statistics.median(t / reference for t, reference in zip(times, turns["timm"], strict=True))
        memory = f"   peak {peak_gib[name]:.2f} GiB" if peak_gib[name] else ""
        print(
            f"{name:18s} {1000 * median:9.1f} ms {setting.batch / median:9.1f} images/s {relative:6.3f} x timm{memory}"
        )


def _peak_gib(step: Callable[[], None], device: torch.device, *, num_steps: int = 3) -> float:
    """GPU memory of a few steps beyond what all contestants hold; 0 on a CPU."""
    if device.type != "cuda":
        seconds(step, num_steps, device)
        return 0.0
    torch.cuda.reset_peak_memory_stats()
    held = torch.cuda.memory_allocated()
    seconds(step, num_steps, device)
    return (torch.cuda.max_memory_allocated() - held) / 2**30


if __name__ == "__main__":
    main()
