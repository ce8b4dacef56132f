"""Thresholds of few images, cross-fitted or not: the table of docs/thresholds.md.

    python -m tests.benchmarks cross_fitting [--draws 10] [--features FILE.npz]

Data: VOC2007 of the real data kits. Labelled images are drawn from `train`, all of `val` is the test. The model is a
logistic regression on frozen features of EfficientNet-Lite0 at 160 px, as `finetune.probe` fits it, which stands for a
fine-tuned network; a tenth of the labelled images is the calibration set, as `split` draws it.

Axes: N images, C labels, D features.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch

from tasks.metrics import f1
from tasks.nn.losses import LOSSES
from tasks.thresholds.fit import fit
from tasks.thresholds.rules import Fixed, PerLabelF1
from tasks.training.fitting import build_model, score_images
from tasks.training.probe import ridge
from tests.benchmarks.photographs import network_in, params_of, voc2007

SIZES = (100, 200, 400, 800, 1600)
LOGIT_VARIANCE = 3.0
"""Prior of the logistic regression; one of those that `finetune.probe` tries, the same for all draws."""
NUM_FOLDS = 3

Part = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Features or scores, targets_NC, known_NC."""


def features(folder: Path) -> dict[str, np.ndarray]:
    """`train` and `val` through the frozen network: {part}_x float32 (N, D), {part}_t, {part}_k."""
    photographs = voc2007()
    params = params_of("photos_fast", {"shard": {"short_side_px": 160}})
    network = network_in(folder, photographs, params)
    model, _ = build_model(network, params.finetune.loss, where="", states=photographs.train, start=None)
    model = model.to(memory_format=torch.channels_last)
    made = {}
    for part, states in (("train", photographs.train), ("test", photographs.test)):
        embeddings_ND = score_images(model, network.images(states), with_embeddings=True).embeddings_ND
        made |= {f"{part}_x": embeddings_ND, f"{part}_t": states.targets_NC, f"{part}_k": states.known_NC}
    return made


def scores_of(train: Part, *others: np.ndarray) -> list[np.ndarray]:
    """float32 (N, C) of each set of features, by the logistic regression fitted on `train`."""
    centre_D, spread_D = train[0].mean(0), train[0].std(0) + 1e-6
    z = [torch.from_numpy((x - centre_D) / spread_D).double() for x in (train[0], *others)]
    loss = LOSSES["bce"](num_labels=train[1].shape[1])
    prior = LOGIT_VARIANCE / z[0].shape[1]
    weight_CE = ridge(z[0], *map(torch.from_numpy, train[1:]), loss, prior=prior)
    return [torch.sigmoid(x @ weight_CE[:, :-1].T + weight_CE[:, -1]).float().numpy() for x in z[1:]]


def taken(part: Part, rows: np.ndarray) -> Part:
    return tuple(m[rows] for m in part)


def contests(train: Part, test: Part, size: int, draws: int) -> Iterator[dict[str, tuple[float, float, float]]]:
    """(OF1, mean F1 of labels, median support) on the test images, a draw of `size` labelled images after another."""
    for seed in range(draws):
        rng = np.random.default_rng(seed)
        labelled = taken(train, rng.permutation(len(train[0]))[:size])
        fold_N, rows = np.arange(size) % NUM_FOLDS, np.arange(size)
        calibration, learned = taken(labelled, rows[: size // 10]), taken(labelled, rows[size // 10 :])
        rng.shuffle(fold_N)
        own_NC, test_NC = scores_of(learned, calibration[0], test[0])
        out_of_fold_NC = np.zeros_like(labelled[1], np.float32)
        for fold in range(NUM_FOLDS):
            held_out = fold_N == fold
            (out_of_fold_NC[held_out],) = scores_of(taken(labelled, ~held_out), labelled[0][held_out])
        own = (own_NC, *calibration[1:])
        folds = (out_of_fold_NC[size // 10 :], *learned[1:])
        joined = tuple(map(np.concatenate, zip(own, folds, strict=True)))
        fits = {
            "0.5 for every label": partial(fit, Fixed(), shrinkage=0.0, min_support=0)(*own),
            "calibration images": fit(PerLabelF1(), *own),
            "cross-fitted": fit(PerLabelF1(), *joined),
        }
        row = {}
        for name, fitted in fits.items():
            counts = f1.count(f1.decide(test_NC, fitted.values_C), *test[1:], axis=0)
            row[name] = (
                float(f1.overall(counts).f1),
                float(np.mean(f1.per_label(counts).f1)),
                float(np.median(fitted.support_C)),
            )
        yield row


def main(argv: list[str] | None = None) -> None:
    """Print the table as Markdown."""
    parser = argparse.ArgumentParser(prog="cross_fitting", description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--features", type=Path, help="npz kept between calls")
    arguments = parser.parse_args(argv)
    if arguments.features and arguments.features.exists():
        made = dict(np.load(arguments.features))
    else:
        with tempfile.TemporaryDirectory() as folder:
            made = features(Path(folder))
        if arguments.features:
            np.savez(arguments.features, **made)
    train, test = (tuple(made[f"{part}_{n}"] for n in "xtk") for part in ("train", "test"))
    print("| labelled, calibration | thresholds from | OF1 | mean F1 of labels | sd of its gain | positives |")
    print("|---|---|---|---|---|---|")
    for size in SIZES:
        rows = list(contests(train, test, size, arguments.draws))
        for name in rows[0]:
            overall, labels, support = np.mean([row[name] for row in rows], axis=0)
            spread = np.std([row[name][1] - row["calibration images"][1] for row in rows], ddof=1)
            print(
                f"| {size}, {size // 10} | {name} | {overall:.4f} | {labels:.4f} | {spread:.4f} | {support:.1f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
