"""Does cleaning help training? Test mAP with clean, noisy, cleaned and reviewed labels: docs/cleaning.md.

    python -m tests.benchmarks.cleaning_training [--data digits photographs] [--seeds 3]

Every number comes out of the pipeline's own stages. The four labellings share images, split and starting weights:

    clean      every planted error is put right
    noisy      the annotations as they are, errors planted in train and calibration, none in test
    cleaned    what the default policy changes by itself
    reviewed   also the answers of a person who knows the truth to the first 200 questions of the queue

Digits: scenes of the embedded data with their vendor. Photographs: VOC 2012 train images with animals, six labels,
MobileNetV2 from ImageNet; the only weak label sources are the model's own out-of-fold scores and the neighbours.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from tasks.commands.recipe import merge
from tasks.core import tables
from tasks.core.prediction_table import read_predictions
from tasks.core.workspace import Workspace
from tasks.demo import digits
from tasks.params import Params, parse_params
from tasks.review.verdicts import Verdict, append_verdicts
from tasks.sources import voc
from tests.benchmarks.cleaning import plant
from tests.homes import run_stages
from tests.imports import ROOT

REAL_DATA = ROOT.parent / "shared" / "data"
LABELLINGS = ("clean", "noisy", "cleaned", "reviewed")
ANIMALS = ("cat", "cow", "dog", "horse", "person", "sheep")
FALSE_NEGATIVE, FALSE_POSITIVE = 0.3, 0.04  # of the photographs' present and absent pairs
MISSING, WRONG = 0.2, 0.15  # of the digits' present labels: forgotten, or taken for a digit of similar shape
NUM_TEST = 400  # photographs
NUM_RESAMPLES = 1000

COMMON = {
    "pretrain": {"enabled": False},
    "review": {"budget": 200},
    "finetune": {"resample": False, "epochs": 8},
}
DIGITS = {
    "paths": {"taxonomy": str(ROOT / "data/taxonomy/taxonomy.yaml")},
    "sources": {
        name: {**source, "path": f"data/raw/embedded/digits/{Path(source['path']).name}"}
        for name, source in yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))["sources"].items()
        if name in ("digits_coco", "digits_vendor")
    },
}
PHOTOGRAPHS = {
    "sources": {
        "photographs": {
            "kind": "folder", "path": ".", "use": "train", "manifest": "manifest.parquet", "images": "images",
            "exhaustive": True,
        }
    },
    "shard": {"short_side_px": 160},
    "model": {
        "image_px": [160, 160],
        "resize": "stretch",
        "backbone": {
            "name": "mobilenetv2_100",
            "weights": str(REAL_DATA / "weights/mobilenetv2_100.imagenet.safetensors"),
            "options": {"pad_type": "same", "mean": [0.5] * 3, "std": [0.5] * 3},
            "freeze_batchnorm": True,
        },
    },
    "out_of_fold": {"num_folds": 3, "epochs": 3},
    "finetune": {
        "epochs": 3, "batch_size": 8, "optimizer": {"name": "sgd"}, "lr": 0.01, "backbone_lr_factor": 0.1,
        "weight_decay": 0.0005, "ema": {"enabled": True, "decay": 0.95}, "augment": [{"name": "hflip"}],
    },
}  # fmt: skip


@dataclass(frozen=True)
class Tested:
    """scores_NC float32, targets_NC uint8 and known_NC bool of the test images.

    errors_left: share of the planted errors that the training labels still held, or left unknown.
    """

    scores_NC: np.ndarray
    targets_NC: np.ndarray
    known_NC: np.ndarray
    errors_left: float


# ---------------------------------------------------------------- the two data sets


def write_digits(seed: int) -> pa.Table:
    """Write into the current folder; returns the truth of the planted errors."""
    return digits.write(
        Path("data/raw/embedded/digits"), seed=seed, num_coco=1000, num_test=500, num_openimages=20, num_pool=20,
        missing_rate=MISSING, wrong_rate=WRONG,
    )  # fmt: skip


def write_photographs(seed: int) -> pa.Table:
    """Unpack into the current folder, with a manifest whose errors spare the test images; returns their truth."""
    folder = REAL_DATA / "voc/VOC2012-animals-train"
    for archive in ("images.tar", "annotations.tar.gz"):
        with tarfile.open(folder / archive) as file:
            file.extractall(".", filter="data")
    raw = voc.read("voc", Path("VOC2012"), splits={"train": "animals_train"})
    Path("VOC2012/JPEGImages").rename("images")
    names = [Path(uri).name for uri in raw.images["uri"].to_pylist()]
    true_NC = np.zeros((len(names), len(ANIMALS)), np.int8)
    row = {image_id: n for n, image_id in enumerate(raw.images["image_id"].to_pylist())}
    for table, state in ((raw.labels, 1), (raw.unknown, -1)):
        for image_id, label in zip(table["image_id"].to_pylist(), table["label"].to_pylist(), strict=True):
            if label in ANIMALS:
                true_NC[row[image_id], ANIMALS.index(label)] = state
    is_test = np.random.default_rng(0).permutation(len(names)) < NUM_TEST
    given_NC = plant(true_NC, seed, false_negative=FALSE_NEGATIVE, false_positive=FALSE_POSITIVE)
    given_NC[is_test] = true_NC[is_test].clip(0)

    def listed(state_NC: np.ndarray) -> list[list[str]]:
        return [[h for h, there in zip(ANIMALS, row, strict=True) if there] for row in state_NC]

    columns = {"present": listed((given_NC == 1) & (true_NC >= 0)), "unknown": listed(true_NC < 0)}
    splits = np.where(is_test, "test", "train").tolist()
    pq.write_table(pa.table({"image": names, **columns, "split": splits}), "manifest.parquet")
    labels = [{"id": label, "from": {"folder": [label]}} for label in ANIMALS]
    Path("data/taxonomy").mkdir(parents=True)
    Path("data/taxonomy/taxonomy.yaml").write_text(yaml.safe_dump({"labels": labels}))
    rows = [
        {
            "image_id": f"photographs/{names[n]}",
            "label": ANIMALS[c],
            "kind": "missing" if true_NC[n, c] else "wrong",
            "given": int(given_NC[n, c]),
            "true": int(true_NC[n, c]),
        }
        for n, c in np.argwhere((given_NC != true_NC) & (true_NC >= 0))
    ]
    return pa.Table.from_pylist(rows, tables.TRUTH)


DATA: dict[str, tuple[dict, Callable[[int], pa.Table]]] = {
    "digits": (DIGITS, write_digits),
    "photographs": (PHOTOGRAPHS, write_photographs),
}


# ---------------------------------------------------------------- one seed


def run_seed(name: str, seed: int) -> dict[str, Tested]:
    """Train on each of the labellings in a fresh folder."""
    overlay, write = DATA[name]
    base = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params = parse_params(merge(merge(merge(base, COMMON), overlay), {"seed": seed, "make_demo": {"sets": {}}}))
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        truth = write(seed)
        stages = ("ingest", "map_labels", "deduplicate", "split", "shard", "pretrain", "out_of_fold")
        run_stages(params, *stages)
        found, questions = {}, {}
        for labelling in LABELLINGS:
            params.paths.verdicts.unlink(missing_ok=True)
            answer(params, errors_of(truth) if labelling == "clean" else questions if labelling == "reviewed" else {})
            by_policy = params.model_copy(
                update={"clean": params.clean.model_copy(update={"enabled": labelling in ("cleaned", "reviewed")})}
            )
            run_stages(by_policy, "clean", "resample", "finetune", "predict")
            found[labelling] = scores_of(params, truth)
            if labelling == "cleaned":
                questions = true_answers(params, truth)
            print(f"  {name} seed {seed} {labelling}: mAP {mean_ap(found[labelling]):.4f}, "
                  f"errors left {found[labelling].errors_left:.4f}", flush=True)  # fmt: skip
    return found


def errors_of(truth: pa.Table) -> dict[tuple[str, str], int]:
    """(image, label) -> true state of every planted error."""
    return {(t["image_id"], t["label"]): t["true"] for t in truth.to_pylist()}


def answer(params: Params, states: dict[tuple[str, str], int]) -> None:
    """Write verdicts of a person who says these states; -1, a difficult object, is "unsure"."""
    when, verdict_of = "2026-01-01T00:00:00+00:00", {1: "present", 0: "absent", -1: "unsure"}
    verdicts = [Verdict(i, h, verdict_of[state], "ann", when) for (i, h), state in states.items()]
    append_verdicts(params.paths.verdicts, verdicts)


def true_answers(params: Params, truth: pa.Table) -> dict[tuple[str, str], int]:
    """True states of the pairs that the queue asks about."""
    queue = tables.read_table(params.paths.cleaned / "queue.parquet", tables.QUEUE)
    pairs = list(zip(queue["image_id"].to_pylist(), queue["label"].to_pylist(), strict=True))
    given = states_of(params, "deduplicated", pairs)
    return {pair: errors_of(truth).get(pair, state) for pair, state in zip(pairs, given, strict=True)}


def states_of(params: Params, folder: str, pairs: list[tuple[str, str]]) -> list[int]:
    """State of each pair in the labels of "deduplicated" or "cleaned", -1 unknown."""
    states = Workspace(params.paths).states(folder, sorted({i for i, _ in pairs}))
    row, column = ({v: k for k, v in enumerate(values)} for values in (states.image_ids, states.labels))
    return [int(states.states_NC[row[i], column[h]]) for i, h in pairs]


def scores_of(params: Params, truth: pa.Table) -> Tested:
    """The test images, and how many of the planted errors the labels of training still hold."""

    test = read_predictions(params.paths.predictions).select("test")
    dense = Workspace(params.paths).states("cleaned", test.image_ids, test.labels)
    errors = errors_of(truth)
    now = states_of(params, "cleaned", list(errors))
    left = np.mean([state != true for state, true in zip(now, errors.values(), strict=True)])
    return Tested(test.scores_NC, dense.targets_NC, dense.known_NC, float(left))


# ---------------------------------------------------------------- how much comes back


def mean_ap(test: Tested, rows: np.ndarray | None = None) -> float:
    """mAP of the test images, or of a resample of them."""
    from tasks.training.validation import mean_average_precision

    rows = np.arange(len(test.scores_NC)) if rows is None else rows
    return mean_average_precision(test.scores_NC[rows], test.targets_NC[rows], test.known_NC[rows])


def shares(maps_SL: np.ndarray) -> np.ndarray:
    """Share of the gap between noisy and clean that each labelling recovers; mAP of seeds x LABELLINGS, mean first."""
    clean, noisy, *others = maps_SL.mean(axis=0)
    return (np.array(others) - noisy) / (clean - noisy)


def intervals(runs: list[dict[str, Tested]]) -> tuple[np.ndarray, np.ndarray]:
    """95 % intervals (2, L) of mAP and (2, L - 2) of the shares, over test images and seeds drawn again together."""
    rng = np.random.default_rng(0)
    drawn, recovered = [], []
    for _ in range(NUM_RESAMPLES):
        chosen = [runs[s] for s in rng.integers(0, len(runs), len(runs))]
        maps = []
        for run in chosen:
            rows = rng.integers(0, len(run["clean"].scores_NC), len(run["clean"].scores_NC))
            maps.append([mean_ap(run[labelling], rows) for labelling in LABELLINGS])
        drawn.append(np.mean(maps, axis=0))
        recovered.append(shares(np.array(maps)))
    return np.percentile(drawn, [2.5, 97.5], axis=0), np.percentile(recovered, [2.5, 97.5], axis=0)


def print_table(name: str, runs: list[dict[str, Tested]]) -> None:
    maps_SL = np.array([[mean_ap(run[labelling]) for labelling in LABELLINGS] for run in runs])
    between, shared = intervals(runs)
    print(f"\n{name}, mean of {len(runs)} seeds\n")
    print("| labels | planted errors left or unknown | test mAP | each seed | gap recovered |\n|---|---|---|---|---|")
    for k, labelling in enumerate(LABELLINGS):
        left = np.mean([run[labelling].errors_left for run in runs])
        each = ", ".join(f"{value:.3f}" for value in maps_SL[:, k])
        back = ""
        if k >= 2:
            low, high = shared[:, k - 2]
            back = f"{shares(maps_SL)[k - 2]:.2f} [{low:.2f}, {high:.2f}]"
        low, high = between[:, k]
        print(f"| {labelling} | {left:.2f} | {maps_SL[:, k].mean():.3f} [{low:.3f}, {high:.3f}] | {each} | {back} |")


def main(argv: list[str] | None = None) -> None:
    """Print the tables as Markdown."""
    parser = argparse.ArgumentParser(prog="cleaning_training", description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="+", choices=DATA, default=list(DATA))
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args(argv)
    os.environ.setdefault("TAGWRIGHT_WORKERS", "1")
    for name in options.data:
        print_table(name, [run_seed(name, seed) for seed in range(options.seeds)])


if __name__ == "__main__":
    main()
