"""What one GPU does: EfficientNetV2-S and ML-Decoder at 448 px in bf16, beside timm's own step in the same run.

    python -m tests.benchmarks gpu [--px 448] [--batch 64] [--minutes 8]

Steps on one batch of random pixels that each of them copies to the device (tests/benchmarks/step.py makes them), with
and without torch.compile: images/s, time relative to timm's step, peak memory. Then whole epochs through
the loader, from decoded photographs of 480 x 640 px in memory, and the share of the time that the device waited for it.
Without a GPU it says so.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from tasks.core.environment import loader_workers
from tasks.nn.backbone import build_backbone
from tasks.nn.heads import HEADS
from tasks.nn.losses import LOSSES
from tasks.nn.model import Tagger
from tasks.training.data import ImageSet
from tasks.training.loop import Surroundings, TrainingData, train
from tests.benchmarks.step import Setting, our_step, seconds, timm_step
from tests.training import toy

LABELS = 80
SAM, EMA = {"enabled": True, "rho": 0.05, "adaptive": False}, {"enabled": True, "decay": 0.9997}


def contestants(setting: Setting) -> dict[str, Callable[[], Callable[[], None]]]:
    """name -> what makes the step; timm's first."""
    return {
        "timm": lambda: timm_step(setting),
        "ours, linear": lambda: our_step(setting),
        "ours, ML-Decoder": lambda: our_step(setting, head="ml_decoder"),
        "ours, ML-Decoder, EMA": lambda: our_step(setting, head="ml_decoder", ema=EMA),
        "ours, ML-Decoder, SAM": lambda: our_step(setting, head="ml_decoder", sam=SAM),
        "ours, ML-Decoder, SAM, EMA": lambda: our_step(setting, head="ml_decoder", sam=SAM, ema=EMA),
    }


def measured(make: Callable[[], Callable[[], None]], setting: Setting, *, turns: int = 5, steps: int = 6) -> tuple:
    """Median seconds a step, and peak GiB of model, optimiser and step."""
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    held = torch.cuda.memory_allocated()
    step = make()
    seconds(step, 3, setting.device)  # kernels are chosen and compiled
    times = [seconds(step, steps, setting.device) for _ in range(turns)]
    return statistics.median(times), (torch.cuda.max_memory_allocated() - held) / 2**30


def loader_speed(setting: Setting, *, num_images: int) -> dict[str, float]:
    """images_per_s and data_wait_share of the last of three epochs."""
    made = toy.image_set(64, LABELS, side=8)
    reader = toy.ToyReader(64, 480, 640)
    rows = [i % 64 for i in range(num_images)]
    images = ImageSet(
        reader, [reader.image_ids[i] for i in rows], (setting.px, setting.px), "stretch", made.targets_NC[rows],
        made.known_NC[rows],
    )  # fmt: skip
    backbone = build_backbone(setting.model, weights=None, options={}, image_px=(setting.px, setting.px))
    head = HEADS["ml_decoder"](backbone.num_features, LABELS)
    model = Tagger(backbone, head, labels=[str(c) for c in range(LABELS)])
    settings = toy.settings(
        epochs=3, batch_size=setting.batch, lr=0.001, precision=setting.precision, channels_last=True, ema=EMA,
        augment=[{"name": "random_resized_crop", "scale": [0.5, 1.0]}, {"name": "hflip"}],
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        surroundings = Surroundings(Path(folder), device=setting.device, num_workers=loader_workers(accelerated=True))
        return train(
            model, LOSSES["bce"](LABELS), TrainingData(images), settings, seed=0, surroundings=surroundings
        ).speed[-1]


def main(argv: list[str] | None = None) -> None:
    """Print one table; stops adding rows once --minutes are over."""
    parser = argparse.ArgumentParser(prog="gpu", description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="tf_efficientnetv2_s")
    parser.add_argument("--px", type=int, default=448)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--minutes", type=float, default=8.0)
    options = parser.parse_args(argv)
    if not torch.cuda.is_available():
        print("gpu: torch finds no CUDA device here; nothing was measured.")
        return
    ends = time.perf_counter() + 60 * options.minutes
    device = torch.device("cuda")
    print(f"{options.model} at {options.px} px, batch {options.batch}, bf16, {LABELS} labels")
    print(torch.cuda.get_device_name())
    print("\n| step | images/s | time beside timm's | peak GiB |\n|---|---|---|---|")
    plain = None
    for compiled in (False, True):
        setting = Setting(options.model, options.px, options.batch, LABELS, "bf16", compiled, True, device)
        for name, make in contestants(setting).items():
            name += ", compiled" * compiled
            if time.perf_counter() > ends - 60:
                print(f"| {name} | not measured: out of time | | |", flush=True)
                continue
            per_step, gib = measured(make, setting)
            plain = plain or per_step
            print(f"| {name} | {options.batch / per_step:.0f} | {per_step / plain:.2f} | {gib:.1f} |", flush=True)
    setting = Setting(options.model, options.px, options.batch, LABELS, "bf16", False, True, device)
    speed = loader_speed(setting, num_images=40 * options.batch)
    print(
        f"\nThrough the loader, {loader_workers(accelerated=True)} workers, ML-Decoder and EMA: "
        f"{speed['images_per_s']:.0f} images/s, "
        f"{100 * speed['data_wait_share']:.0f} % of the time spent waiting for images"
    )


if __name__ == "__main__":
    main()
