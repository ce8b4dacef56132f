"""Which component earns its place on photographs: recipes/ablations/photographs.yaml, and whole recipes, on VOC2007.

    python -m tests.benchmarks ladder --pack voc224.tar                     one file for a machine without the data kits
    python -m tests.benchmarks ladder --data voc224.tar --weights FILE --device cuda --minutes 8
    python -m tests.benchmarks ladder --px 128 --images 1000 --epochs 6     without a GPU
    python -m tests.benchmarks ladder --data aerial --steps baseline otx photos     Aerial Maritime
    python -m tests.benchmarks ladder --quick                               crashes only

Train on `train`, a fifth of it held out as calibration images; test on `val` (Aerial Maritime: `valid` and `test`;
tiles of one photograph stay together, and are drawn together for the intervals). Every step trains equally long from
the same weights, batch norms frozen; its learning rate is that of --lr with the best mAP on the calibration images
under the first seed, and serves its other seeds; recipe photos keeps its own. Weights are those of the last epoch; only
the OTX recipe, whose schedule needs it, looks at the calibration images each epoch. Needs torch, timm and this
repository's own requirements, but neither DVC nor Prefect, MLflow or FiftyOne. --minutes times an epoch of each step
and takes as many epochs as fit. The JSON in --out is written after each seed; the intervals are those of `ablate`
(docs/ablation.md).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from tasks.commands.recipe import merge, read_recipe
from tasks.core.states import States
from tasks.evaluation.ablation import markdown, measure_ablation, read_steps
from tasks.evaluation.scored_run import ScoredRun
from tasks.metrics.protocols import protocol_named
from tasks.params import Params
from tasks.sampling.stratification import stratified_folds
from tasks.training import checkpoint
from tasks.training.distributed import default_device
from tasks.training.finetuning import FinetuneData, finetune_once
from tasks.training.fitting import score_images
from tasks.training.validation import mean_average_precision
from tests.benchmarks.photographs import (
    LITE0,
    Photographs,
    aerial_maritime,
    network_in,
    pack,
    params_of,
    unpacked,
    voc2007,
)
from tests.imports import ROOT

ABLATION = ROOT / "recipes" / "ablations" / "photographs.yaml"
COMMON = {
    "shard": {"images_per_file": 4096},
    "finetune": {
        "epochs": 1, "batch_size": 32, "clip_grad_norm": 0.0, "no_bias_decay": True,
        "augment": [{"name": "random_resized_crop", "scale": [0.5, 1.0]}, {"name": "hflip"}],
    },
}  # fmt: skip
SHARED_WITH_OTX = ("epochs", "batch_size", "backbone_lr_factor", "precision", "early_stopping")
"""What the OTX recipe has as the other steps have it: how long, and how fast the backbone learns."""


class Step(NamedTuple):
    """name, what: of the row.  changes: of params, all of them.  lr: its own, where none is looked for."""

    name: str
    what: str
    changes: dict[str, Any]
    lr: float | None = None

    def rates(self, offered: Sequence[float]) -> Sequence[float]:
        return offered if self.lr is None else [self.lr]


class Data(NamedTuple):
    photographs: Photographs
    train: States
    calibration: States
    folder: Path


def steps_of(changes: dict[str, Any]) -> list[Step]:
    """The steps of the ablation file, each with what those before it changed, and the recipes OTX and photos."""
    steps, raw = [], merge(COMMON, changes)
    for step in read_steps(ABLATION):
        raw = merge(raw, step.changes)
        steps.append(Step(step.name, step.what, raw))
    otx, first = read_recipe("otx_multilabel", ROOT / "recipes"), steps[0].changes
    same = {"finetune": {k: v for k, v in first["finetune"].items() if k in SHARED_WITH_OTX}, "model": changes["model"]}
    what = "recipe otx_multilabel: angular linear head, AAM, SAM after the first epoch, plateau schedule, AugMix"
    shard = {"shard": merge(COMMON, changes)["shard"]}  # packed once, for all steps
    steps.append(Step("otx", what, merge(merge(merge(COMMON, otx), same), shard)))
    photos = read_recipe("photos", ROOT / "recipes")
    del photos["model"]["backbone"]  # every step's network is that of --weights, batch norms frozen
    photos = merge(merge(photos, changes), shard)
    what = "recipe photos: head fitted on frozen features, then AdamW, one cycle, averaged weights; centred square"
    return [*steps, Step("photos", what, photos, photos["finetune"]["lr"])]


def halves(states: States, scenes: Sequence[str]) -> tuple[States, States]:
    """Train and calibration images: four stratified fifths, and one, no scene in both."""
    present = states.targets_NC.astype(bool)
    groups_N = np.unique(scenes, return_inverse=True)[1]
    fold_N = stratified_folds(present, groups_N, num_folds=5, rng=np.random.default_rng(0))
    return states.take(np.flatnonzero(fold_N != 0)), states.take(np.flatnonzero(fold_N == 0))


def trained(step: Step, data: Data, weights: Path, *, lr: float, seed: int, epochs: int) -> tuple[ScoredRun, float]:
    """The run's scores of the test images, and its mAP on the calibration images."""
    changes = merge(step.changes, {"seed": seed, "finetune": {"lr": lr, "epochs": epochs}})
    params = params_of(None, changes, weights=weights)
    network = network_in(data.folder, data.photographs, params)
    looks = params.finetune.schedule.name == "plateau"
    held_out = data.calibration if looks else data.calibration.take(np.arange(0))
    tuned = finetune_once(network, params.finetune, FinetuneData(data.train, held_out), "ladder", start=None)
    checkpoint.remove(network.checkpoints / "ladder")
    scores_MC, scores_NC = (
        score_images(tuned.model, network.images(s)).scores_NC for s in (data.calibration, data.photographs.test)
    )
    return scored(scores_NC, data.photographs, params), mean_average_precision(
        scores_MC, data.calibration.targets_NC, data.calibration.known_NC
    )


def scored(scores_NC: np.ndarray, photographs: Photographs, params: Params) -> ScoredRun:
    states = photographs.test
    stamp = protocol_named("tagwright").stamp(
        image_ids=states.image_ids, labels=states.labels, absent_labels=[], threshold_rule="fixed 0.5",
        weights_kind="ema" if params.finetune.ema.enabled else "raw",
    )  # fmt: skip
    half_C = np.full(len(states.labels), 0.5)
    scenes = photographs.scenes(states)
    return ScoredRun(
        states.image_ids, states.labels, scores_NC, states.targets_NC, states.known_NC, half_C, scenes, stamp
    )


def epochs_that_fit(steps: Sequence[Step], data: Data, options: argparse.Namespace) -> int:
    """From one epoch of each step; 10 % are left over."""
    began, seconds = time.perf_counter(), 0.0
    for step in steps:
        took = []
        for epochs in (1, 2):  # the difference leaves out what a run costs once
            start = time.perf_counter()
            trained(step, data, options.weights, lr=step.rates(options.lr)[0], seed=0, epochs=epochs)
            took.append(time.perf_counter() - start)
        runs = len(step.rates(options.lr)) + options.seeds - 1
        per_epoch = max(took[1] - took[0], 1e-3)
        seconds += runs * per_epoch
        began -= runs * max(took[0] - per_epoch, 0)
    left = 0.9 * 60 * options.minutes - (time.perf_counter() - began)
    return max(1, int(left / seconds))


def run(steps: Sequence[Step], data: Data, options: argparse.Namespace, epochs: int) -> None:
    """All runs, seed by seed; after each seed the JSON and the table."""
    runs: dict[str, list[ScoredRun]] = {step.name: [] for step in steps}
    log, best_lr = [], {}
    for seed in range(options.seeds):
        for step in steps:
            made = {}
            for lr in step.rates(options.lr) if seed == 0 else [best_lr[step.name]]:
                start = time.perf_counter()
                made[lr] = trained(step, data, options.weights, lr=lr, seed=seed, epochs=epochs)
                log.append({"step": step.name, "lr": lr, "seed": seed, "calibration_mAP": made[lr][1],
                            "seconds": round(time.perf_counter() - start, 1)})  # fmt: skip
                print(json.dumps(log[-1]), flush=True)
            best_lr[step.name] = max(made, key=lambda lr: made[lr][1])
            runs[step.name].append(made[best_lr[step.name]][0])
        rows = measure_ablation(runs, num_resamples=options.resamples)
        write(options, data, epochs, rows, log, best_lr, {step.name: step.what for step in steps})
    print("\n" + markdown(rows, best_lr))


def write(
    options: argparse.Namespace, data: Data, epochs: int, rows: list, log: list, best_lr: dict, what: dict
) -> None:
    device = default_device()
    content = {
        "device": torch.cuda.get_device_name() if device.type == "cuda" else platform.processor() or "CPU",
        "px": options.px, "epochs": epochs, "train": len(data.train.image_ids),
        "calibration": len(data.calibration.image_ids), "test": len(data.photographs.test.image_ids),
        "resamples": options.resamples, "learning_rates": best_lr, "what": what, "steps": rows, "runs": log,
    }  # fmt: skip
    options.out.write_text(json.dumps(content, indent=1), encoding="utf-8")


def photographs_of(options: argparse.Namespace) -> Photographs:
    if options.data == Path("aerial"):
        return aerial_maritime()
    return unpacked(options.data) if options.data else voc2007(options.images, options.images)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="ladder", description=__doc__.splitlines()[0])
    parser.add_argument("--pack", type=Path, default=None, help="write the photographs into this tar, and stop")
    parser.add_argument("--data", type=Path, default=None, help="`aerial`, or such a tar; otherwise VOC2007")
    parser.add_argument("--weights", type=Path, default=LITE0)
    parser.add_argument("--px", type=int, default=224)
    parser.add_argument("--short-side", type=int, default=None, help="px, of the pictures as packed; that of --px")
    parser.add_argument("--images", type=int, default=None, help="of train and of val; all")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--minutes", type=float, default=None, help="in place of --epochs: as many as fit")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--lr", type=float, nargs="+", default=[0.003, 0.01, 0.03])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", nargs="+", default=None, help="rows to train")
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--device", choices=("cpu", "cuda"), default=None)
    parser.add_argument("--out", type=Path, default=Path("ladder.json"))
    parser.add_argument("--quick", action="store_true", help="64 images, 64 px, one epoch, one seed, one rate")
    options = parser.parse_args(argv)
    if options.pack:
        pack(voc2007(options.images, options.images), options.pack, short_side_px=options.px)
        print(f"{options.pack}: {options.pack.stat().st_size / 2**20:.1f} MiB")
        return
    if options.quick:
        quick = {"images": 64, "px": 64, "epochs": 1, "minutes": None, "seeds": 1, "lr": [0.01], "resamples": 100}
        vars(options).update(quick)
    if options.device:
        os.environ["TAGWRIGHT_DEVICE"] = options.device
    cuda = default_device().type == "cuda"
    photographs = photographs_of(options)
    changes = {
        "model": {"image_px": [options.px, options.px], "backbone": {"freeze_batchnorm": True}},
        "shard": {"short_side_px": options.short_side or options.px},
        "finetune": {
            "batch_size": options.batch_size, "precision": "bf16" if cuda else "fp32",
            "early_stopping": {"rule": "none", "patience": 1},
        },
    }  # fmt: skip
    steps = [s for s in steps_of(changes) if not options.steps or s.name in options.steps]
    with tempfile.TemporaryDirectory() as folder:
        train, calibration = halves(photographs.train, photographs.scenes(photographs.train))
        data = Data(photographs, train, calibration, Path(folder))
        epochs = epochs_that_fit(steps, data, options) if options.minutes else options.epochs
        print(f"{len(steps)} steps, {epochs} epochs, learning rates {options.lr}, {options.seeds} seeds", flush=True)
        run(steps, data, options, epochs)


if __name__ == "__main__":
    main()
