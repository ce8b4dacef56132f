"""Do they help the rare labels: images repeated by r(I), weights of labels, a focal loss; and what do others pay?

    python -m tests.benchmarks rare_labels [--images 1000] [--px 128] [--epochs 4] [--seeds 2] [--keep FOLDER]

Recipe photos (EfficientNet-Lite0, head fitted on frozen features first) on photographs of VOC2007, `train` -> `val`.
All see about the same number of images: where images repeat, there are fewer epochs. The labels are cut in two halves
by their positives in `train`; differences to the plain run are paired, over test images and seeds.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from tasks.core.states import States
from tasks.evaluation.ablation import measure_ablation
from tasks.sampling import SAMPLERS
from tasks.sampling.replication import replication
from tasks.training import checkpoint
from tasks.training.finetuning import FinetuneData, finetune_once
from tasks.training.fitting import score_images
from tests.benchmarks.peers import Peer, kept, scored
from tests.benchmarks.photographs import Photographs, network_in, params_of, voc2007

TARGET = {"target_frequency": 0.2, "cap": 10.0}  # as params.yaml has it
VARIANTS = {  # name -> (sampler, loss)
    "plain": ("natural", {"name": "bce"}),
    "r(I), square root": ("square_root", {"name": "bce"}),
    "r(I), uniform": ("uniform", {"name": "bce"}),
    "weights, inverse": ("natural", {"name": "bce", "class_weights": "inverse"}),
    "weights, effective number": ("natural", {"name": "bce", "class_weights": "effective_number"}),
    "focal": ("natural", {"name": "focal"}),
}


def trained(
    photographs: Photographs, folder: Path, *, sampler: str, loss: dict, px: int, epochs: int, seed: int
) -> Peer:
    """Scores of the test images by the weights of the last epoch."""
    choice = {"name": sampler, **({} if sampler == "natural" else {sampler: TARGET})}
    overlay = {
        "seed": seed,
        "model": {"image_px": [px, px]},
        "finetune": {"loss": loss},
        "resample": {"sampler": choice},
    }
    params = params_of("photos", overlay)
    states, network = photographs.train, network_in(folder, photographs, params)
    phi = params.resample.sampler.build(SAMPLERS, where="resample.sampler")
    replication_N = replication(states.targets_NC, states.known_NC, phi)
    epochs = max(1, round(epochs * len(states.image_ids) / replication_N.sum()))
    settings = params.finetune.model_copy(update={"epochs": epochs})
    began = time.process_time()
    data = FinetuneData(states, states.take(np.arange(0)), replication_N=replication_N)
    result = finetune_once(network, settings, data, "rare", start=None)
    spent = time.process_time() - began
    checkpoint.remove(network.checkpoints / "rare")
    return Peer(score_images(result.model, network.images(photographs.test)).scores_NC, epochs, spent)


def columns_of(states: States, scores_NC: np.ndarray, columns: np.ndarray) -> tuple[States, np.ndarray]:
    """The same images with these labels alone."""
    labels = [states.labels[c] for c in columns]
    return States(states.image_ids, labels, states.states_NC[:, columns]), scores_NC[:, columns]


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks rare_labels")
    parser.add_argument("--images", type=int, default=1000, help="of each part")
    parser.add_argument("--px", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--keep", type=Path, help="folder of finished runs")
    chosen = parser.parse_args(argv)
    photographs = voc2007(chosen.images, chosen.images)
    size = {"px": chosen.px, "epochs": chosen.epochs}
    runs: dict[str, list[Peer]] = {name: [] for name in VARIANTS}
    with tempfile.TemporaryDirectory() as temporary:
        folder = chosen.keep or Path(temporary)
        for seed in range(chosen.seeds):
            for name, (sampler, loss) in VARIANTS.items():
                file = f"{name.replace(' ', '-')}-{chosen.images}-{chosen.px}px-{chosen.epochs}-{seed}.npz"
                options = {"sampler": sampler, "loss": loss, "seed": seed, **size}
                peer = kept(folder / file, lambda options=options: trained(photographs, folder / "packed", **options))
                runs[name].append(peer)
                print(f"{name}, seed {seed}: {peer.epochs} epochs, {peer.cpu_s:.0f} CPU s", flush=True)
    test, positives_C = photographs.test, photographs.train.targets_NC.sum(axis=0)
    by_support = np.argsort(positives_C, kind="stable")
    half = len(by_support) // 2
    for part, columns in {"rare": by_support[:half], "frequent": by_support[half:]}.items():
        of_part = {}
        for name, peers in runs.items():
            of_part[name] = []
            for seed, peer in enumerate(peers):
                states, scores_NC = columns_of(test, peer.scores_NC, columns)
                of_part[name].append(scored(Peer(scores_NC, peer.epochs, peer.cpu_s), states, seed))
        span = f"{positives_C[columns].min()} to {positives_C[columns].max()} positives"
        print(f"\n| {part} half, {span} | mAP | over plain, 95 % interval | by seed |\n|---|---|---|---|")
        for row in measure_ablation(of_part, num_resamples=1000):
            change = row["over_first"]
            gain = "" if change is None or change["low"] is None else (
                f"{change['difference']:+.3f} [{change['low']:+.3f}, {change['high']:+.3f}]")  # fmt: skip
            print(f"| {row['step']} | {row['mAP']:.3f} | {gain} | {', '.join(f'{v:.3f}' for v in row['by_seed'])} |")
