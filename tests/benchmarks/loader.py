"""What an image costs the loader, torchvision's and timm's, and libjpeg-turbo decoding alone.

    python -m tests.benchmarks loader [--px 224 448] [--workers 0 2] [--images 300] [--turns 3]
    python -m tests.benchmarks loader --step [--turns 3]
    python -m tests.benchmarks loader --million

Photographs of COCO: peers read the files, ours the JPEG shards packed of them (short side 8/7 of --px), and all give
uint8 (B, 3, px, px) in batches of 32: resized alone, or under the augmentation of recipes/photos.yaml. The limit is
libjpeg-turbo on the files, at the smallest fraction that keeps --px. Figures are of the processor, workers included,
since the machine may be shared; contestants take turns, and the ratio is the median over the turns.

--step: steps of MobileNetV2 at 160 px on the CPU, fed by the loader and from a tensor in memory.
--million: a set of a million images of one pixel: time to the first batch, memory then and a thousand batches later.
"""

from __future__ import annotations

import argparse
import io
import multiprocessing
import os
import re
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import simplejpeg
import timm.data
import torch
import torchvision
from PIL import Image
from torchvision.transforms import v2

from tasks.images.shards import SHARD, Form, ShardReader, write_shards
from tasks.nn.backbone import build_backbone
from tasks.nn.heads import HEADS
from tasks.nn.losses import LOSSES
from tasks.nn.model import Tagger
from tasks.training.data import Batch, ImageSet, Step, StepPlan, training_batches
from tasks.training.distributed import World
from tasks.training.step import build_stepper
from tests.benchmarks import Row, show
from tests.imports import ROOT
from tests.training import toy

COCO = ROOT.parent / "shared" / "data" / "coco" / "images"
SCALE = (0.5, 1.0)
POLICIES = {
    "resize alone": [],
    "recipe photos": [{"name": "random_resized_crop", "scale": list(SCALE)}, {"name": "hflip"}],
}
BATCH = 32


def processor_s() -> float:
    """Seconds of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def timed(batches: Callable[[], Iterable]) -> float:
    """Processor seconds of one pass; the iterator and its workers are gone at the end."""
    began = processor_s()
    for _ in batches():
        pass
    return processor_s() - began


# ---------------------------------------------------------------- the contestants


def labelled(reader: ShardReader, ids: list[str], px: int) -> ImageSet:
    one = np.ones((len(ids), 1), np.uint8)
    return ImageSet(reader, ids, (px, px), "stretch", one, one.astype(bool))


def ours(reader: ShardReader, px: int, policy: list[dict], workers: int) -> Callable[[], Iterable]:
    images = labelled(reader, reader.image_ids, px)
    plan = StepPlan(len(images), batch_size=BATCH, accumulate=1, epochs=1, seed=0)
    return lambda: training_batches(images, plan, augment=policy, num_workers=workers)


def with_torchvision(folder: Path, px: int, policy: list[dict], workers: int) -> Callable[[], Iterable]:
    ops = [v2.RandomResizedCrop(px, scale=SCALE), v2.RandomHorizontalFlip()] if policy else [v2.Resize((px, px))]
    data = torchvision.datasets.ImageFolder(str(folder), v2.Compose([*ops, v2.PILToTensor()]))
    return lambda: torch.utils.data.DataLoader(data, BATCH, shuffle=True, num_workers=workers)


def with_timm(folder: Path, px: int, policy: list[dict], workers: int) -> Callable[[], Iterable]:
    """Its loader before its prefetcher, which would normalise on the device."""
    options = {"scale": SCALE, "color_jitter": None} if policy else {"no_aug": True}

    def batches() -> Iterable:
        data = timm.data.create_dataset("", root=str(folder))
        made = timm.data.create_loader(
            data, (3, px, px), BATCH, is_training=True, num_workers=workers, persistent_workers=False,
            device=torch.device("cpu"), pin_memory=False, **options,
        )  # fmt: skip
        return made.loader

    return batches


def decoding_alone(files: list[bytes], px: int, workers: int) -> Callable[[], Iterable]:
    def decoded(data: bytes) -> None:
        height, width, *_ = simplejpeg.decode_jpeg_header(data)
        fraction = next(f for f in (8, 4, 2, 1) if f == 1 or min(height, width) >= f * px)
        simplejpeg.decode_jpeg(data, min_height=-(-height // fraction), min_width=-(-width // fraction))

    def passed() -> Iterable:
        if not workers:
            return map(decoded, files)
        with ThreadPoolExecutor(workers) as pool:
            return list(pool.map(decoded, files))

    return passed


def compare(folder: Path, files: list[bytes], px: int, name: str, workers: int, turns: int) -> list[Row]:
    """A row a peer, in ms of processor an image."""
    shards = folder.parent / f"shards-{px}"
    if not shards.exists():
        paths = sorted(map(str, (folder / "all").iterdir()))
        table = pa.table({"image_id": [Path(p).name for p in paths], "uri": paths})
        write_shards(table, shards, short_side_px=px * 8 // 7, jpeg_quality=85, images_per_file=2048)
    policy = POLICIES[name]
    contestants = {
        "ours": ours(ShardReader(shards), px, policy, workers),
        "torchvision": with_torchvision(folder, px, policy, workers),
        "timm": with_timm(folder, px, policy, workers),
        "decoding alone": decoding_alone(files, px, workers),
    }
    took = {peer: [] for peer in contestants}
    for _ in range(turns):
        for peer, batches in contestants.items():
            took[peer].append(1000 * timed(batches) / len(files))
    goals = {"torchvision": ">= 2 x", "timm": ">= 2 x", "decoding alone": "" if policy else ">= 0.85 x"}
    mine = statistics.median(took["ours"])
    ratios = {peer: statistics.median(t / o for t, o in zip(took[peer], took["ours"], strict=True)) for peer in goals}
    return [
        Row(f"{px} px, {name}, {workers} workers; {peer}", mine, mine * ratios[peer], goal=goal, unit="ms")
        for peer, goal in goals.items()
    ]


# ---------------------------------------------------------------- a step of training


def step_from_loader_and_memory(folder: Path, turns: int) -> list[Row]:
    """Seconds of processor of an epoch, without augmentation, from JPEG shards and from a tensor in memory."""
    torch.manual_seed(0)
    paths = sorted(map(str, (folder / "all").iterdir()))[:128]
    table = pa.table({"image_id": paths, "uri": paths})
    write_shards(table, folder.parent / "small", short_side_px=184, jpeg_quality=85, images_per_file=2048)
    images = labelled(ShardReader(folder.parent / "small"), paths, 160)
    plan = StepPlan(len(images), batch_size=16, accumulate=1, epochs=1, seed=0)
    backbone = build_backbone("mobilenetv2_100", weights=None, options={}, image_px=(160, 160))
    model = Tagger(backbone, HEADS["linear"](backbone.num_features, 1), labels=["it"])
    settings = toy.settings(lr=0.001, channels_last=True, batch_size=16)
    stepper = build_stepper(
        model, LOSSES["bce"](1), settings, seed=0, device=torch.device("cpu"), world=World()
    )  # fmt: skip
    kept = list(training_batches(images, plan, augment=[]))
    in_memory = torch.cat([step.batches[0].images_BCHW for step in kept])
    places = np.split(np.arange(len(in_memory)), np.cumsum([len(step.rows) for step in kept])[:-1])

    def from_memory() -> Iterable[Step]:
        for step, rows in zip(kept, places, strict=True):
            (batch,) = step.batches
            pixels = in_memory[torch.from_numpy(rows)]
            yield Step(0, step.number, [Batch(pixels, batch.targets_BC, batch.known_BC)], step.rows, step.num_known)

    def epoch(steps: Callable[[], Iterable[Step]]) -> float:
        began = processor_s()
        for step in steps():
            stepper(step)
        return processor_s() - began

    contestants = {"loader": lambda: training_batches(images, plan, augment=[]), "memory": from_memory}
    took = {name: [] for name in contestants}
    epoch(from_memory)  # warms up
    for _ in range(turns):
        for name, steps in contestants.items():
            took[name].append(1000 * epoch(steps) / len(paths))
    mine = statistics.median(took["loader"])
    ratio = statistics.median(m / o for m, o in zip(took["memory"], took["loader"], strict=True))
    return [Row("MobileNetV2, 160 px, one image; from a tensor", mine, mine * ratio, goal=">= 0.95 x", unit="ms")]


# ---------------------------------------------------------------- a million images


def own_mb() -> float:
    """Resident memory without the pages of mapped files, which the system takes back when it needs them."""
    return int(re.search(r"RssAnon:\s+(\d+)", Path("/proc/self/status").read_text()).group(1)) / 1024


def write_pixels(folder: Path, count: int, *, per_batch: int = 64, per_file: int = 4096) -> None:
    """Shards of `count` JPEGs of one pixel."""
    form, buffer = Form(8, 85), io.BytesIO()
    Image.new("RGB", (1, 1)).save(buffer, "JPEG")
    content, schema = buffer.getvalue(), SHARD.with_metadata(form.metadata())
    for first in range(0, count, per_file):
        with pa.ipc.new_file(folder / f"shard-{first // per_file:05d}.arrow", schema) as writer:
            last = min(first + per_file, count)
            for start in range(first, last, per_batch):
                ids = [image_id(n) for n in range(start, min(start + per_batch, last))]
                ones, checks = [1] * len(ids), [form.crc32(i, 1, 1, content) for i in ids]
                writer.write_batch(pa.record_batch([ids, ones, ones, [content] * len(ids), checks], schema=schema))


def image_id(n: int) -> str:
    return f"web/{n:07d}"


def million(folder: Path, count: int = 1_000_000, batches: int = 1_000) -> None:
    """Print seconds to the first batch, of the clock and of the processor, and memory."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as elsewhere:
        elsewhere.submit(write_pixels, folder, count).result()
    ids = [image_id(n) for n in range(count)]
    before, wall, cpu = own_mb(), time.perf_counter(), processor_s()
    images = labelled(ShardReader(folder), ids, 8)
    plan = StepPlan(count, batch_size=BATCH, accumulate=1, epochs=20, seed=0)
    steps = training_batches(images, plan, augment=[])
    next(steps)
    print(
        f"{count:,} images: first batch after {time.perf_counter() - wall:.2f} s, {processor_s() - cpu:.2f} s of "
        f"processor, {own_mb() - before:.0f} MB",
        end="",
        flush=True,
    )
    for _ in islice(steps, batches):
        pass
    print(f"; {own_mb() - before:.0f} MB {batches:,} batches later")


def main(argv: list[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="loader", description=__doc__.splitlines()[0])
    parser.add_argument("--px", type=int, nargs="+", default=[224, 448])
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2])
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--step", action="store_true")
    parser.add_argument("--million", action="store_true")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)  # as in a worker; a step on more threads would only hide the loader's part
    with tempfile.TemporaryDirectory() as name:
        if options.million:
            million(Path(name))
            return
        photographs = sorted(COCO.glob("*.jpg"))
        if not photographs:
            print("loader: the photographs of ../shared/data/coco are not here; nothing was measured.")
            return
        folder = Path(name) / "files"
        (folder / "all").mkdir(parents=True)
        for n in range(options.images):
            os.symlink(photographs[n % len(photographs)], folder / "all" / f"{n:05d}.jpg")
        if options.step:
            show("Training from shards and from memory", step_from_loader_and_memory(folder, options.turns))
            return
        files = [path.read_bytes() for path in sorted((folder / "all").iterdir())]
        rows = [
            row
            for px in options.px
            for policy in POLICIES
            for workers in options.workers
            for row in compare(folder, files, px, policy, workers, options.turns)
        ]
    show(f"Loader, {options.images} photographs of COCO, ms of processor an image", rows)


if __name__ == "__main__":
    main()
