"""What unlabelled images bring: supervised against each method, few labelled images a class: docs/semi_supervised.md.

    python -m tests.benchmarks.semi [--data digits|symbols|voc|aerial|voc2007] [--seeds 3] [--per-class 5 10 20]
                                    [--methods NAME …]

digits: the real handwritten digits of the embedded data, one an image, at 16 px, three quarters to train and the rest
to test; the network, optimiser and augmentation of params.yaml, from scratch. voc: the VOC 2012 train photographs of
animals, every fifth held out, six labels with 50 images or more, the pre-trained MobileNetV2 at 96 px with frozen
BatchNorm. aerial, voc2007: three classes of Aerial Maritime (OTX: 5 images a class) and of VOC2007 `train` to `val`
(OTX: 10), images with none of them left out, EfficientNet-Lite0 at 96 px likewise. symbols: the two-symbol images,
2,000 to train on and 500 to test, with other handwriting; two softmaxes, the pre-trained MobileNetV2 at 56 px.

A run: the drawn images keep their labels, all other train images are the unlabelled ones; the same number of steps for
every method; no validation images, the averaged weights of the last step count. A seed stands for the images drawn, the
initial weights and all orders, and is shared by the methods, so differences are paired; the interval is Student's.
"""

from __future__ import annotations

import argparse
import io
import json
import string
import tarfile
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from scipy.stats import t as student

from tasks.core.registry import call
from tasks.demo.scenes import load_glyphs, split_glyphs
from tasks.demo.symbols import IMAGE_PX, draw_parts
from tasks.nn.backbone import build_backbone, freeze_batchnorm
from tasks.nn.heads import HEADS
from tasks.nn.losses import LOSSES
from tasks.nn.losses.base import MultiLabelLoss
from tasks.nn.model import Tagger
from tasks.params import Training, load_params
from tasks.sampling.few_labels import labelled_subset
from tasks.training.data import ImageSet
from tasks.training.inference import infer
from tasks.training.loop import Surroundings, TrainingData, train
from tasks.training.semi import SEMI
from tasks.training.validation import mean_average_precision
from tests.benchmarks.photographs import LITE0, REAL_DATA, Photographs, aerial_maritime, voc2007
from tests.imports import ROOT

DIGIT_PX = 16
ANIMALS = ("cat", "cow", "dog", "horse", "person", "sheep")
AERIAL_THREE = ("dock", "jetski", "lift")  # the three with most images
VOC2007_THREE = ("car", "chair", "dog")  # the three with most images after person: 787 in `train`, OTX has 828
PHOTOGRAPH_PX = 96


class Pictures:
    """Images in memory, in the interface of a ShardReader."""

    def __init__(self, pictures: Sequence[np.ndarray]) -> None:
        self.pictures = pictures
        for pixels_HWC in pictures:
            pixels_HWC.flags.writeable = False
        self.image_ids = [f"picture/{i:05d}" for i in range(len(pictures))]
        self.index = {image_id: i for i, image_id in enumerate(self.image_ids)}

    def positions(self, image_ids: Sequence[str]) -> np.ndarray:
        return np.array([self.index.get(image_id, -1) for image_id in image_ids], np.int64)

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, i: int) -> np.ndarray:
        return self.pictures[i]


@dataclass(frozen=True)
class Task:
    """train, test: labelled throughout.  methods: options of each.  steps_per_epoch: an epoch of a run here."""

    train: ImageSet
    test: ImageSet
    settings: Training
    methods: dict[str, dict[str, Any]]
    steps_per_epoch: int
    new_model: Callable[[], Tagger]
    groups: Sequence[Sequence[int]] = ()  # columns of which exactly one is present; a softmax over each

    def new_loss(self) -> MultiLabelLoss:
        num_labels = self.train.targets_NC.shape[1]
        return LOSSES["group_softmax"](num_labels, self.groups) if self.groups else LOSSES["bce"](num_labels)


def digits() -> Task:
    """The handwritten digits of the embedded data, one an image, labelled with all ten digits present or absent."""
    params = load_params(ROOT / "params.yaml")
    parts = []
    for glyphs in split_glyphs(load_glyphs(), np.random.default_rng(params.seed)):
        grey = [Image.fromarray(np.uint8(255 * (1 - ink_HW))) for ink_HW in glyphs.images_NHW]
        pictures = [np.asarray(g.resize((DIGIT_PX, DIGIT_PX), Image.Resampling.BICUBIC).convert("RGB")) for g in grey]
        targets_NC = np.eye(10, dtype=np.uint8)[glyphs.digits_N]
        parts.append(image_set(pictures, targets_NC, np.ones_like(targets_NC, bool), (DIGIT_PX, DIGIT_PX)))

    def new_model() -> Tagger:
        network = params.model.backbone
        backbone = build_backbone(network.name, weights=None, options=network.options, image_px=(DIGIT_PX, DIGIT_PX))
        return Tagger(backbone, HEADS["linear"](backbone.num_features, 10), labels=[str(d) for d in range(10)])

    methods = {
        "barlow_twins": {"ratio": 1.0},
        "sesemi": {
            "weight": 0.1
        },  # the study's 1 stands beside a cross-entropy; a mean over ten labels is a tenth of it
        "pseudo_labels": {"ratio": 3.0},
        "cap": {"ratio": 3.0, "warmup_epochs": 4, "every_epochs": 2},
    }
    settings = params.finetune.model_copy(update={"epochs": 10, "batch_size": 16})
    return Task(*parts, settings, methods, 20, new_model)


def symbols() -> Task:
    """Two-symbol images: ten digits and 26 letters, one of each on every image."""
    sizes = {"train": 2000, "val": 0, "test": 500, "pool": 0}
    pairs = draw_parts(sizes, seed=0)
    parts = []
    one_hot_CC = np.eye(36, dtype=np.uint8)
    for name in ("train", "test"):
        pictures = [np.repeat(pair.image_HW[..., None], 3, axis=2) for pair in pairs[name]]
        targets_NC = np.array([one_hot_CC[pair.digit] | one_hot_CC[10 + pair.letter] for pair in pairs[name]])
        parts.append(image_set(pictures, targets_NC, np.ones_like(targets_NC, bool), (IMAGE_PX, IMAGE_PX)))

    shifts = {"name": "affine", "degrees": 10, "translate": 0.03}
    changes = {"epochs": 10, "batch_size": 16, "lr": 0.001, "augment": [shifts]}
    methods = {
        "barlow_twins": {"ratio": 1.0},
        "sesemi": {"weight": 1.0},
        "pseudo_labels": {"ratio": 1.0},
        "cap": {"ratio": 1.0, "warmup_epochs": 4, "every_epochs": 2},
    }
    settings = load_params(ROOT / "params.yaml").finetune.model_copy(update=changes)
    labels = [*string.digits, *string.ascii_lowercase]
    return Task(*parts, settings, methods, 40, partial(mobilenet, labels, IMAGE_PX), [range(10), range(10, 36)])


def voc() -> Task:
    """Photographs whose difficult-only pairs are unknown; the class must be on 50 of them."""
    folder = REAL_DATA / "voc" / "VOC2012-animals-train"
    pictures, rows = [], []
    with tarfile.open(folder / "images.tar") as images, tarfile.open(folder / "annotations.tar.gz") as archive:
        files = {m.name: archive.extractfile(m).read() for m in archive if m.isfile()}
        states = {name: _states(files[f"VOC2012/ImageSets/Main/{name}_train.txt"].decode()) for name in ANIMALS}
        for member in sorted((m for m in images if m.name.endswith(".jpg")), key=lambda m: m.name):
            picture = Image.open(images.extractfile(member)).convert("RGB")
            pictures.append(np.asarray(picture.resize((96, 96), Image.Resampling.BILINEAR, reducing_gap=2)))
            rows.append([states[name][Path(member.name).stem] for name in ANIMALS])
    states_NC = np.array(rows)
    targets_NC, known_NC = (states_NC == 1).astype(np.uint8), states_NC != 0
    is_test = np.arange(len(pictures)) % 5 == 0
    parts = [
        image_set([p for p, k in zip(pictures, kept, strict=True) if k], targets_NC[kept], known_NC[kept], (96, 96))
        for kept in (~is_test, is_test)
    ]

    return on_photographs(*parts, ANIMALS, partial(mobilenet, ANIMALS, 96, frozen=True))


def three_classes(photographs: Photographs, classes: Sequence[str]) -> Task:
    """The images with at least one of `classes`, labelled with these alone."""
    parts = []
    for states in (photographs.train, photographs.test):
        columns = [states.labels.index(label) for label in classes]
        kept = np.flatnonzero(states.targets_NC[:, columns].any(axis=1))
        size = (PHOTOGRAPH_PX, PHOTOGRAPH_PX)
        jpegs = [photographs.files[states.image_ids[n]] for n in kept]
        pictures = [Image.open(io.BytesIO(jpeg)).convert("RGB") for jpeg in jpegs]
        pixels = [np.asarray(p.resize(size, Image.Resampling.BILINEAR, reducing_gap=2)) for p in pictures]
        targets_NC, known_NC = (of[kept][:, columns] for of in (states.targets_NC, states.known_NC))
        parts.append(image_set(pixels, targets_NC, known_NC, size))
    return on_photographs(*parts, classes, partial(lite0, classes, PHOTOGRAPH_PX))


def on_photographs(train: ImageSet, test: ImageSet, labels: Sequence[str], new_model: Callable[[], Tagger]) -> Task:
    changes = {
        "epochs": 6,
        "batch_size": 16,
        "lr": 0.0005,
        "augment": [{"name": "random_resized_crop", "scale": [0.5, 1.0]}, {"name": "hflip"}],
    }
    methods = {
        "barlow_twins": {"ratio": 1.0},
        "sesemi": {"weight": 1 / len(labels)},
        "pseudo_labels": {"ratio": 1.0},
        "cap": {"warmup_epochs": 2, "every_epochs": 2},
    }
    settings = load_params(ROOT / "params.yaml").finetune.model_copy(update=changes)
    return Task(train, test, settings, methods, 10, new_model)


def lite0(labels: Sequence[str], side_px: int) -> Tagger:
    """The ImageNet EfficientNet-Lite0 with frozen BatchNorm and a linear head."""
    backbone = build_backbone("tf_efficientnet_lite0", weights=str(LITE0), options={}, image_px=(side_px, side_px))
    freeze_batchnorm(backbone)
    return Tagger(backbone, HEADS["linear"](backbone.num_features, len(labels)), labels=list(labels))


def mobilenet(labels: Sequence[str], side_px: int, *, frozen: bool = False) -> Tagger:
    """The ImageNet MobileNetV2 of the real data kits with a linear head. frozen: its BatchNorm."""
    weights = REAL_DATA / "weights" / "mobilenetv2_100.imagenet.safetensors"
    options = {"pad_type": "same", "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
    backbone = build_backbone("mobilenetv2_100", weights=str(weights), options=options, image_px=(side_px, side_px))
    if frozen:
        freeze_batchnorm(backbone)
    return Tagger(backbone, HEADS["linear"](backbone.num_features, len(labels)), labels=list(labels))


TASKS: dict[str, Callable[[], Task]] = {
    "digits": digits,
    "symbols": symbols,
    "voc": voc,
    "aerial": lambda: three_classes(aerial_maritime(), AERIAL_THREE),
    "voc2007": lambda: three_classes(voc2007(), VOC2007_THREE),
}


def _states(text: str) -> dict[str, int]:
    """A class list of VOC: image -> 1 present, -1 absent, 0 difficult objects only."""
    return {name: int(state) for name, state in (line.split() for line in text.splitlines())}


def image_set(
    pictures: Sequence[np.ndarray], targets_NC: np.ndarray, known_NC: np.ndarray, px: tuple[int, int]
) -> ImageSet:
    reader = Pictures(pictures)
    return ImageSet(reader, reader.image_ids, px, "stretch", targets_NC, known_NC)


def subset(images: ImageSet, rows: np.ndarray) -> ImageSet:
    return replace(
        images,
        image_ids=[images.image_ids[i] for i in rows],
        targets_NC=images.targets_NC[rows],
        known_NC=images.known_NC[rows],
    )


def mean_ap_of(task: Task, name: str, per_class: int, seed: int) -> float:
    """mAP on the test images of one run; `supervised` is a run without a method."""
    images = task.train
    kept_N = labelled_subset(images.targets_NC, images.known_NC, images.image_ids, per_class=per_class, seed=seed)
    labelled, unlabelled = subset(images, np.flatnonzero(kept_N)), subset(images, np.flatnonzero(~kept_N))
    unlabelled = replace(unlabelled, known_NC=np.zeros_like(unlabelled.known_NC))
    draws = task.steps_per_epoch * task.settings.batch_size
    copies_N = np.full(len(labelled), draws // len(labelled))
    copies_N[: draws - copies_N.sum()] += 1
    torch.manual_seed(seed)
    model, semi, stream = task.new_model(), None, None
    if name != "supervised":
        context = {"num_features": model.backbone.num_features, "groups": task.groups, "epochs": task.settings.epochs}
        semi = call(SEMI, name, task.methods[name], where=name, **context)
        stream = images_for(semi.draws_from, labelled, unlabelled, images)
    with tempfile.TemporaryDirectory() as folder:
        result = train(
            model,
            task.new_loss(),
            TrainingData(labelled, unlabelled=stream, replicas=lambda epoch: np.roll(copies_N, epoch * 7)),
            task.settings,
            seed=seed,
            surroundings=Surroundings(Path(folder)),
            semi=semi,
        )
    model.load_state_dict(result.state)
    scores_NC = infer(model, task.test, batch_size=128, device=next(model.parameters()).device).scores_NC
    return mean_average_precision(scores_NC, task.test.targets_NC, task.test.known_NC)


def images_for(draws_from: str, labelled: ImageSet, unlabelled: ImageSet, everything: ImageSet) -> ImageSet:
    if draws_from != "all":
        return {"labelled": labelled, "unlabelled": unlabelled}[draws_from]
    return replace(everything, known_NC=np.zeros_like(everything.known_NC))


def interval(differences: Sequence[float]) -> tuple[float, float]:
    """Mean, and half the width of Student's 95 % interval."""
    count = len(differences)
    half = student.ppf(0.975, count - 1) * np.std(differences, ddof=1) / np.sqrt(count)
    return float(np.mean(differences)), float(half)


def main(argv: list[str] | None = None) -> None:
    """Print the table as Markdown; finished runs are kept in --log, a JSON line each, and not made again."""
    parser = argparse.ArgumentParser(prog="semi", description=__doc__.splitlines()[0])
    parser.add_argument("--data", choices=TASKS, default="digits")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--per-class", type=int, nargs="+", default=[5, 10, 20])
    parser.add_argument("--methods", nargs="+", default=None)
    parser.add_argument("--log", type=Path, default=None)
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    task = TASKS[options.data]()
    names = ["supervised", *(options.methods or task.methods)]
    done: dict[tuple, float] = {}
    if options.log and options.log.exists():
        done = {tuple(key): value for key, value in map(json.loads, options.log.read_text().splitlines())}
    for seed in range(options.seeds):
        for per_class in options.per_class:
            for name in names:
                key = (options.data, name, per_class, seed)
                if key in done:
                    continue
                start = time.perf_counter()
                done[key] = mean_ap_of(task, name, per_class, seed)
                print(*key, f"{done[key]:.4f}", f"{time.perf_counter() - start:.0f} s", flush=True)
                if options.log:
                    with options.log.open("a") as file:
                        file.write(json.dumps([key, done[key]]) + "\n")
    print_table(options, names, done)


def print_table(options: argparse.Namespace, names: Sequence[str], done: dict[tuple, float]) -> None:
    print(f"\nTest mAP on {options.data}, mean of {options.seeds} seeds; difference to supervised, 95 % interval\n")
    print(
        f"| method | {' | '.join(f'{n} a class' for n in options.per_class)} |\n|---|{'---|' * len(options.per_class)}"
    )
    for name in names:
        texts = []
        for per_class in options.per_class:
            values = [done[options.data, name, per_class, seed] for seed in range(options.seeds)]
            baseline = [done[options.data, "supervised", per_class, seed] for seed in range(options.seeds)]
            text = f"{np.mean(values):.3f}"
            if name != "supervised":
                mean, half = interval(np.subtract(values, baseline))
                text += f" ({mean:+.3f} ± {half:.3f})"
            texts.append(text)
        print(f"| {name} | {' | '.join(texts)} |")


if __name__ == "__main__":
    main()
