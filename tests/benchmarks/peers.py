"""Peers at equal cost: the recipe for photographs against what people use instead, for the same minutes of processor.

    python -m tests.benchmarks peers [--cpu-minutes 20] [--seeds 3] [--only NAME …] [--keep FOLDER] [--fastai PYTHON]

1,000 photographs of VOC2007 `train`, 1,000 of `val`, EfficientNet-Lite0 with its ImageNet weights at 160 px:

    timm loop             AdamW, cosine, BCE, batches of 32, RandomResizedCrop and flip as timm makes them, each of
                          --lr; the best of them by its mAP on the test images, which favours it
    logistic regression   scikit-learn's, on the frozen features; its C by cross-validation; it needs no more time
    fastai                its multi-label learner with its defaults, run by the interpreter of --fastai, which has an
                          environment of its own (`pip install fastai timm`); left out without
    ours                  recipe photos (or --recipe NAME) through the code of `finetune`; no image is held out, so that
                          the weights are those of the last epoch

Minutes are of the processor, over all threads (ten minutes of two idle cores are 20): a few steps are timed first, and
the number of epochs follows. Decoding, augmentation and the probe count, scoring the test images does not. Runs are
kept in --keep and not made again.
"""

from __future__ import annotations

import argparse
import io
import itertools
import json
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image
from safetensors.torch import load_file
from sklearn.linear_model import LogisticRegressionCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from tasks.core.states import States
from tasks.evaluation.ablation import measure_ablation
from tasks.evaluation.scored_run import ScoredRun
from tasks.metrics.protocols import protocol_named
from tasks.training import checkpoint
from tasks.training.finetuning import FinetuneData, finetune_once
from tasks.training.fitting import build_model, score_images
from tasks.training.probe import fit_head
from tasks.training.validation import mean_average_precision
from tests.benchmarks.photographs import LITE0, Photographs, network_in, params_of, voc2007

FASTAI = Path(__file__).with_name("fastai_peer.py")
BACKBONE = "tf_efficientnet_lite0"
TRIAL_STEPS = 4
PRIORS = (1e-4, 1e-3, 1e-2, 1e-1)


@dataclass(frozen=True)
class Peer:
    """scores_NC of the test images.  epochs: 0 where there is no such thing.  cpu_s: of training alone."""

    scores_NC: np.ndarray
    epochs: int
    cpu_s: float


# ---------------------------------------------------------------- the peers


class _Jpegs(torch.utils.data.Dataset):
    def __init__(self, photographs: Photographs, states: States, transform: Callable) -> None:
        self.files = [photographs.files[i] for i in states.image_ids]
        self.targets_NC, self.known_NC = torch.from_numpy(states.targets_NC), torch.from_numpy(states.known_NC)
        self.transform = transform

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, i: int) -> tuple:
        picture = Image.open(io.BytesIO(self.files[i])).convert("RGB")
        return self.transform(picture), self.targets_NC[i].float(), self.known_NC[i]


def timm_net(num_labels: int) -> nn.Module:
    net = timm.create_model(BACKBONE)
    net.load_state_dict(load_file(LITE0))
    net.reset_classifier(num_labels)
    return net


def timm_transform(net: nn.Module, px: int, *, training: bool) -> Callable:
    """timm's own, for photographs as they are."""
    config = timm.data.resolve_data_config({"input_size": (3, px, px)}, model=net)
    return timm.data.create_transform(**config, is_training=training, color_jitter=None)


@torch.inference_mode()
def timm_outputs(net: nn.Module, photographs: Photographs, states: States, px: int) -> np.ndarray:
    """What `net` gives for each photograph, float32 (N, …)."""
    data = _Jpegs(photographs, states, timm_transform(net, px, training=False))
    net.eval()
    return np.concatenate([net(x_BCHW).numpy() for x_BCHW, *_ in torch.utils.data.DataLoader(data, batch_size=128)])


def timm_loop(photographs: Photographs, px: int, *, cpu_s: float, seed: int, lr: float, batch_size: int = 32) -> Peer:
    """What anybody would write; unknown labels are left out of the loss."""
    states = photographs.train

    def begun() -> tuple[nn.Module, torch.utils.data.DataLoader, torch.optim.Optimizer]:
        torch.manual_seed(seed)
        net = timm_net(len(states.labels)).train()
        data = _Jpegs(photographs, states, timm_transform(net, px, training=True))
        loader = torch.utils.data.DataLoader(data, batch_size=batch_size, shuffle=True, drop_last=True)
        return net, loader, torch.optim.AdamW(net.parameters(), lr)

    def step(net: nn.Module, optimizer: torch.optim.Optimizer, batch: tuple) -> None:
        images_BCHW, targets_BC, known_BC = batch
        loss = nn.functional.binary_cross_entropy_with_logits(net(images_BCHW)[known_BC], targets_BC[known_BC])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    net, loader, optimizer = begun()
    began = time.process_time()
    for batch in itertools.islice(loader, TRIAL_STEPS):
        step(net, optimizer, batch)
    epochs = max(1, round(cpu_s / (time.process_time() - began) * TRIAL_STEPS / len(loader)))

    net, loader, optimizer = begun()
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * len(loader))
    began = time.process_time()
    for _ in range(epochs):
        for batch in loader:
            step(net, optimizer, batch)
            schedule.step()
    spent = time.process_time() - began
    logits_NC = timm_outputs(net, photographs, photographs.test, px)
    return Peer(1 / (1 + np.exp(-logits_NC)), epochs, spent)


def logistic_regression(photographs: Photographs, px: int, *, seed: int) -> Peer:
    """One a label, on the pooled features of the network that nobody trained; known images alone."""
    net, states = timm_net(0), photographs.train
    began = time.process_time()
    features_ND = timm_outputs(net, photographs, states, px)
    fitted = []
    for c, known_N in enumerate(states.known_NC.T):
        classifier = LogisticRegressionCV(
            Cs=PRIORS,
            cv=3,
            scoring="neg_log_loss",
            max_iter=1000,
            random_state=seed,
            l1_ratios=(0,),
            use_legacy_attributes=False,
        )
        fitted.append(
            make_pipeline(StandardScaler(), classifier).fit(features_ND[known_N], states.targets_NC[known_N, c])
        )
    spent = time.process_time() - began
    test_ND = timm_outputs(net, photographs, photographs.test, px)
    return Peer(np.stack([model.predict_proba(test_ND)[:, 1] for model in fitted], axis=1), 0, spent)


def fastai(photographs: Photographs, px: int, *, cpu_s: float, seed: int, python: Path) -> Peer:
    """fastai_peer.py, by an interpreter that has fastai."""
    train, test = photographs.train, photographs.test
    present = [[train.labels[c] for c in np.flatnonzero(row_C)] for row_C in train.targets_NC]
    content = {
        "labels": train.labels,
        "train": {f"{i}.jpg": labels for i, labels in zip(train.image_ids, present, strict=True)},
        "test": [f"{i}.jpg" for i in test.image_ids],
    }
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for image_id, jpeg in photographs.files.items():
            (folder / f"{image_id}.jpg").write_bytes(jpeg)
        (folder / "photographs.json").write_text(json.dumps(content), encoding="utf-8")
        arguments = [python, FASTAI, folder, cpu_s, seed, px, LITE0]
        subprocess.run(list(map(str, arguments)), check=True, stdout=subprocess.DEVNULL)
        run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        return Peer(np.load(folder / "scores.npy"), run["epochs"], run["cpu_s"])


def ours(photographs: Photographs, px: int, *, cpu_s: float, seed: int, recipe: str, folder: Path) -> Peer:
    """The recipe with as many epochs as fit."""
    params = params_of(recipe, {"seed": seed, "model": {"image_px": [px, px]}})
    states, network = photographs.train, network_in(folder, photographs, params)
    nobody = states.take(np.arange(0))

    def trained(train: States, epochs: int, probe: bool) -> tuple:
        began = time.process_time()
        settings = params.finetune.model_copy(update={"epochs": epochs, "probe": probe})
        data = FinetuneData(train, nobody)
        result = finetune_once(network, settings, data, "peer", start=None)
        checkpoint.remove(network.checkpoints / "peer")
        return result.model, time.process_time() - began

    few = states.take(np.arange(TRIAL_STEPS * params.finetune.batch_size))
    per_image = (trained(few, 2, False)[1] - trained(few, 1, False)[1]) / len(few.image_ids)
    probe_s = 0.0
    if params.finetune.probe:
        began = time.process_time()
        model, loss = build_model(network, params.finetune.loss, where="", states=states, start=None)
        fit_head(model, loss, network.images(states), network.checkpoints / "trial", seed=seed)
        checkpoint.remove(network.checkpoints / "trial")
        probe_s = time.process_time() - began
    epochs = max(1, round((cpu_s - probe_s) / per_image / len(states.image_ids)))
    model, spent = trained(states, epochs, params.finetune.probe)
    return Peer(score_images(model, network.images(photographs.test)).scores_NC, epochs, spent)


# ---------------------------------------------------------------- the table


def scored(peer: Peer, states: States, seed: int) -> ScoredRun:
    """For the paired intervals of an ablation."""
    stamp = {**protocol_named("tagwright").stamp(
        image_ids=states.image_ids, labels=states.labels, absent_labels=[], threshold_rule="fixed 0.5",
        weights_kind="raw",
    ), "seed": seed}  # fmt: skip
    half_C = np.full(len(states.labels), 0.5)
    return ScoredRun(
        states.image_ids, states.labels, peer.scores_NC.astype(np.float32), states.targets_NC, states.known_NC, half_C,
        None, stamp,
    )  # fmt: skip


def kept(path: Path, make: Callable[[], Peer]) -> Peer:
    """The run in `path`, made when it is not there."""
    if path.exists():
        with np.load(path) as file:
            return Peer(file["scores_NC"], int(file["epochs"]), float(file["cpu_s"]))
    peer = make()
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, scores_NC=peer.scores_NC, epochs=peer.epochs, cpu_s=peer.cpu_s)
    return peer


def main(argv: list[str] | None = None) -> None:
    """Print a line a run, then the table as Markdown."""
    parser = argparse.ArgumentParser(prog="peers", description=__doc__.splitlines()[0])
    parser.add_argument("--cpu-minutes", type=float, default=20.0, help="of the processor, of each run")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--lr", type=float, nargs="+", default=[3e-4, 1e-3], help="of the timm loop")
    parser.add_argument("--recipe", default="photos")
    parser.add_argument("--px", type=int, default=160)
    parser.add_argument("--images", type=int, default=1000, help="of each part")
    parser.add_argument("--only", nargs="+", default=None, help="peers to run")
    parser.add_argument("--keep", type=Path, default=None, help="folder of finished runs")
    parser.add_argument("--fastai", type=Path, default=None, help="an interpreter that has fastai")
    options = parser.parse_args(argv)
    if not options.fastai:
        print("fastai is left out: --fastai names no interpreter that has it.")
    photographs = voc2007(options.images, options.images)
    cpu_s, px = 60 * options.cpu_minutes, options.px
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.keep or Path(scratch)
        contestants: dict[str, Callable[[int], Peer]] = {
            **{f"timm loop, lr {lr:g}": lambda seed, lr=lr: timm_loop(photographs, px, cpu_s=cpu_s, seed=seed, lr=lr)
               for lr in options.lr},
            "logistic regression": lambda seed: logistic_regression(photographs, px, seed=0),
            **({"fastai": lambda seed: fastai(photographs, px, cpu_s=cpu_s, seed=seed, python=options.fastai)}
               if options.fastai else {}),
            f"ours, {options.recipe}": lambda seed: ours(
                photographs, px, cpu_s=cpu_s, seed=seed, recipe=options.recipe, folder=folder / "packed"),
        }  # fmt: skip
        runs: dict[str, list[Peer]] = {}
        for seed in range(options.seeds):
            for name, run in contestants.items():
                if options.only and not any(name.startswith(wanted) for wanted in options.only):
                    continue
                stem = "-".join(name.replace(",", "").split())
                file = f"{stem}-{px}px-{options.images}-{options.cpu_minutes:g}min-{seed}.npz"
                peer = kept(folder / file, lambda run=run, seed=seed: run(seed))
                runs.setdefault(name, []).append(peer)
                value = mean_average_precision(peer.scores_NC, photographs.test.targets_NC, photographs.test.known_NC)
                print(f"{name}, seed {seed}: {peer.epochs} epochs, {peer.cpu_s:.0f} CPU s, mAP {value:.4f}", flush=True)
        show(runs, photographs.test)


def show(runs: dict[str, list[Peer]], states: States) -> None:
    """Mean over seeds, 95 % interval over images and seeds; the last column against ours."""
    ordered = dict(sorted(runs.items(), key=lambda item: not item[0].startswith("ours")))
    rows = measure_ablation(
        {name: [scored(peer, states, seed) for seed, peer in enumerate(peers)] for name, peers in ordered.items()},
        num_resamples=1000,
    )
    print("\n| | epochs | CPU s | mAP, 95 % interval | by seed | ours minus this |\n|---|---|---|---|---|---|")
    for row in rows:
        peers, change = ordered[row["step"]], row["over_first"]
        ends = "" if row["low"] is None else f" [{row['low']:.3f}, {row['high']:.3f}]"
        less = "" if change is None or change["low"] is None else (
            f"{-change['difference']:+.3f} [{-change['high']:+.3f}, {-change['low']:+.3f}]")  # fmt: skip
        by_seed = ", ".join(f"{value:.3f}" for value in row["by_seed"])
        print(f"| {row['step']} | {peers[0].epochs or ''} | {np.mean([p.cpu_s for p in peers]):.0f} "
              f"| {row['mAP']:.3f}{ends} | {by_seed} | {less} |")  # fmt: skip


if __name__ == "__main__":
    main()
