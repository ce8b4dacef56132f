"""Two symbols on a noisy image: backbone x proxy x weight of the letters, on a smaller setting: docs/comp551.md.

    python -m tests.benchmarks.comp551 [--images 3000] [--epochs 10] [--seeds 2] [--variants NAME …] [--grow 1000 3000]

The recipe's own stages and settings, except: fewer images, fewer epochs, one cycle of the learning rate instead of
drops on a plateau (there are too few epochs for it), single precision, no downloaded weights (MobileNetV2 starts from
the ImageNet file of the real data kits, ResNet-50 at random). Accuracies are those of the best epoch by validation mAP;
no handwriting is shared by train, val, test and pool. --grow trains a small network (the demo's) without proxy on
that many labelled images, the same number of steps each: what more images bring.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import yaml

from tasks.commands.recipe import merge, read_recipe
from tasks.core.prediction_table import read_predictions
from tasks.core.workspace import Workspace
from tasks.metrics.f1 import group_accuracy
from tasks.params import Params, parse_params
from tests.homes import run_stages
from tests.imports import ROOT

WEIGHTS = ROOT.parent / "shared/data/weights/mobilenetv2_100.imagenet.safetensors"
BACKBONES: dict[str, dict[str, Any]] = {
    "MobileNetV2": {"name": "mobilenetv2_100", "weights": str(WEIGHTS)},
    "MobileNetV2 at random": {"name": "mobilenetv2_100", "weights": None},
    "ResNet-50 at random": {"name": "resnet50", "weights": None},
    "small network": {"name": "test_resnet", "weights": None, "options": {"output_stride": 16}},
}


@dataclass(frozen=True)
class Variant:
    """proxy: labelled | unlabelled | all | none.  weight: of the letters' cross-entropy beside the digits'."""

    backbone: str
    proxy: str
    weight: float

    def overlay(self) -> dict[str, Any]:
        semi = {"name": "none"} if self.proxy == "none" else {"name": "sesemi", "sesemi": {"images": self.proxy}}
        return {
            "model": {"backbone": BACKBONES[self.backbone]},
            "finetune": {"loss": {"group_softmax": {"group_weights": [1.0, self.weight]}}, "semi": semi},
        }


VARIANTS = {
    "none": Variant("MobileNetV2", "none", 5),
    "labelled": Variant("MobileNetV2", "labelled", 5),
    "labelled-1": Variant("MobileNetV2", "labelled", 1),
    "unlabelled": Variant("MobileNetV2", "unlabelled", 5),
    "random": Variant("MobileNetV2 at random", "labelled", 5),
    "resnet50": Variant("ResNet-50 at random", "labelled", 5),
    "small": Variant("small network", "none", 5),
}


def settings(variant: Variant, *, num_images: int, epochs: int, seed: int) -> Params:
    """The recipe in the smaller setting."""
    smaller = {
        "seed": seed,
        "make_demo": {"sets": {"symbols": {"num_labelled": num_images, "num_pool": num_images}}},
        "paths": {"taxonomy": str(ROOT / "data/taxonomy/symbols.yaml")},
        "finetune": {"epochs": epochs, "precision": "fp32", "schedule": {"name": "one_cycle"}},
    }
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    for overlay in (read_recipe("comp551", ROOT / "recipes"), variant.overlay(), smaller):
        params = merge(params, overlay)
    return parse_params(params)


def prepare(num_images: int, seed: int) -> None:
    """Make the demo images in the current folder and do all that the variants share."""
    params = settings(VARIANTS["none"], num_images=num_images, epochs=1, seed=seed)
    stages = ("make_demo", "ingest", "map_labels", "deduplicate", "split", "shard")
    run_stages(params, *stages, "pretrain", "out_of_fold", "clean", "resample")


def accuracies(params: Params) -> dict[str, np.ndarray]:
    """Accuracy of digit, letter and both, float64 (3,), on each part; train as the network sees it in the end."""

    predictions, vocabulary = read_predictions(params.paths.predictions), Workspace(params.paths).vocabulary()
    accuracy = {}
    for part in ("train", "calibration", "test"):
        own = predictions.select(part)
        states = Workspace(params.paths).states("cleaned", own.image_ids)
        arrays = own.scores_NC, states.targets_NC, states.known_NC
        groups = ([group] for group in vocabulary.groups)
        accuracy[part] = np.array([group_accuracy(*arrays, *chosen) for chosen in (*groups, vocabulary.groups)])
    return accuracy


def run(names: Sequence[str], *, num_images: int, epochs: int, seed: int) -> dict[str, dict[str, np.ndarray]]:
    """Train the variants on the same images."""
    accuracy = {}
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        prepare(num_images, seed)
        for name in names:
            began = time.process_time()
            params = settings(VARIANTS[name], num_images=num_images, epochs=epochs, seed=seed)
            run_stages(params, "finetune", "predict")
            accuracy[name] = accuracies(params)
            shown = ", ".join(f"{share:.4f}" for share in accuracy[name]["calibration"])
            seconds = time.process_time() - began
            print(f"  {num_images} images, seed {seed}, {name}: {shown} in {seconds:.0f} s of CPU", flush=True)
    return accuracy


def print_table(title: str, runs: dict[str, list[dict[str, np.ndarray]]]) -> None:
    """A row a variant: percent, mean over the seeds and, with several, their standard deviation."""
    print(f"\n{title}\n")
    print("| variant | train, both | val, both | val, digit | val, letter | test, both |\n|---|---|---|---|---|---|")
    for name, of_seeds in runs.items():
        columns = [("train", 2), ("calibration", 2), ("calibration", 0), ("calibration", 1), ("test", 2)]
        texts = []
        for part, column in columns:
            values = 100 * np.array([accuracy[part][column] for accuracy in of_seeds])
            texts.append(f"{values.mean():.1f}" + (f" ± {values.std(ddof=1):.1f}" if len(values) > 1 else ""))
        print(f"| {name} | {' | '.join(texts)} |")


def main(argv: list[str] | None = None) -> None:
    """Print the tables as Markdown."""
    parser = argparse.ArgumentParser(prog="comp551", description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=3000)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--variants", nargs="*", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--grow", nargs="*", type=int, default=[])
    options = parser.parse_args(argv)
    os.environ.setdefault("TAGWRIGHT_WORKERS", "1")
    runs: dict[str, list] = {name: [] for name in options.variants}
    for seed in range(options.seeds if options.variants else 0):
        found = run(options.variants, num_images=options.images, epochs=options.epochs, seed=seed)
        for name in options.variants:
            runs[name].append(found[name])
    if options.variants:
        print_table(f"{options.images} labelled images, {options.epochs} epochs, {options.seeds} seeds", runs)
    grown = {}
    for num_images in options.grow:
        epochs = max(1, round(options.epochs * options.images / num_images))
        found = run(["small"], num_images=num_images, epochs=epochs, seed=0)
        grown[f"{num_images} images, {epochs} epochs"] = [found["small"]]
    if grown:
        print_table("More images, the same number of steps", grown)


if __name__ == "__main__":
    main()
