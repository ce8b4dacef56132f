"""Memory, time and disk of every stage at the size of Open Images: 1.87 million images, 601 labels.

    python -m tests.benchmarks openimages_size [--images 1870000] [--labels 601] [--folder DIR] [--stages NAME …]

Real tables of real schema with made-up content: six human answers an image, labels of a long tail under 20 parents,
official splits of the published sizes, one picture of 1 x 1 px for all, out-of-fold scores with embeddings. Each stage
is the command that DVC runs, in a process of its own. Its memory is what the kernel cannot take back without writing it
out (RssAnon + RssShmem, of it and its children), looked at twice a second; arrays in files (tasks/core/scratch.py) and
mapped tables are beside it. Trainings are ended by SIGTERM after --training-s: all that they hold is there by then.
`ingest` reads --files real pictures of its own. Needs about 45 GB of disk, and some hours on two cores.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
import yaml
from PIL import Image
from torch import nn

from tasks.core import scratch, tables
from tasks.core.prediction_table import Predictions, write_predictions
from tasks.core.workspace import Workspace
from tasks.images.shards import ShardReader
from tasks.nn.model import save_model
from tasks.params import Params, load_params
from tasks.training.data import ImageSet
from tasks.training.fitting import Network, build_model, score_images
from tasks.training.folds import halved
from tests.benchmarks.split import long_tail
from tests.homes import new_home
from tests.imports import ROOT

SOURCE, NUM_PARENTS = "openimages", 20
SHARES = {"train": 1_743_042, "val": 41_620, "test": 125_436}  # as published for the boxable images
STAGES = (
    *("ingest", "map_labels", "deduplicate", "split", "shard", "out_of_fold", "clean", "resample"),
    *("finetune", "predict", "calibrate", "evaluate", "export", "report", "gate"),
)
OVERLAY = {
    "paths": {"taxonomy": "data/taxonomy/large.yaml", "raw": "data/raw"},
    "shard": {"short_side_px": 8},
    "model": {"image_px": [32, 32]},
    "pretrain": {"enabled": False},
    "out_of_fold": {"enabled": True},
    "finetune": {"epochs": 1, "batch_size": 256},
    "predict": {"batch_size": 512},
}
GOAL_GB = 8
ROWS = 1 << 16


@dataclass(frozen=True)
class Cost:
    """memory_gb: see the module.  disk_gb: of what the stage wrote."""

    stage: str
    wall_s: float
    cpu_s: float
    memory_gb: float
    disk_gb: float


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks openimages_size")
    parser.add_argument("--images", type=int, default=1_870_000)
    parser.add_argument("--labels", type=int, default=601)
    parser.add_argument("--features", type=int, default=1280, help="of an embedding")
    parser.add_argument("--files", type=int, default=100_000, help="that ingest reads")
    parser.add_argument("--training-s", type=float, default=120)
    parser.add_argument("--folder", type=Path, help="kept, and used again with --stages")
    parser.add_argument("--stages", nargs="+", default=STAGES, choices=STAGES)
    parser.add_argument("--scoring", type=int, help=argparse.SUPPRESS)
    chosen = parser.parse_args(argv)
    if chosen.scoring:
        return score(chosen.scoring)
    with tempfile.TemporaryDirectory() as temporary:
        home = chosen.folder or Path(temporary)
        before = Path.cwd()
        if not (home / "params.yaml").exists():
            new_home(home, OVERLAY)
        os.chdir(home)
        try:
            made = Maker(load_params(), chosen.images, chosen.labels, chosen.features, chosen.files)
            print(
                f"| stage, {chosen.images:,} images x {chosen.labels} labels | wall s | CPU s | memory GB | disk GB |"
            )
            print("|---|---|---|---|---|", flush=True)
            costs = [show(cost_of(stage, made, chosen.training_s)) for stage in STAGES if stage in chosen.stages]
        finally:
            os.chdir(before)
    worst = max(costs, key=lambda cost: cost.memory_gb)
    met = "met" if worst.memory_gb <= GOAL_GB else "missed"
    print(f"most: {worst.stage}, {worst.memory_gb:.2f} GB; goal {GOAL_GB} GB: {met}")


def show(cost: Cost) -> Cost:
    note = {"finetune": ", ended while it trained", "out_of_fold": ", scoring alone"}
    name = cost.stage + note.get(cost.stage, "")
    print(f"| {name} | {cost.wall_s:.0f} | {cost.cpu_s:.0f} | {cost.memory_gb:.2f} | {cost.disk_gb:.2f} |", flush=True)
    return cost


class Maker:
    """What stands before each stage, made where no stage of this run has made it."""

    def __init__(self, params: Params, num_images: int, num_labels: int, num_features: int, num_files: int) -> None:
        self.num_images, self.num_labels, self.num_files = num_images, num_labels, num_files
        self.num_features = num_features
        self.labels = [f"label_{c:03d}" for c in range(num_labels)]
        sources = {SOURCE: {"kind": "openimages", "path": "data/raw/large", "use": "train", "labels": "none.csv"}}
        document = yaml.safe_load(Path("params.yaml").read_text())
        Path("params.yaml").write_text(yaml.safe_dump({**document, "sources": sources}, sort_keys=False))
        self.params = load_params()
        self.workspace = Workspace(self.params.paths)
        if not self.workspace.exists("ingested.images", source=SOURCE):
            self.ingested()
            self.taxonomy()

    def ingested(self) -> None:
        """Tables as `ingest` writes them: present and absent answers, most pairs unknown."""
        rng, n = np.random.default_rng(0), self.num_images
        picture = Path("data/raw/large/one.png")
        picture.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (1, 1), (90, 120, 40)).save(picture)
        ids = pa.array([f"{SOURCE}/{i:016x}" for i in range(n)])
        shares = np.asarray(list(SHARES.values())) / sum(SHARES.values())
        constant = dict.fromkeys(("source", "uri", "licence", "attribution", "status", "reason"))
        constant |= {"source": SOURCE, "uri": str(picture), "status": "ok", "licence": "cc-by"}
        images = {
            "image_id": ids,
            "sha256": pa.array([f"{i:064x}" for i in rng.permutation(n)]),
            "phash": rng.integers(0, 2**64, n, np.uint64, endpoint=False),
            "width": np.ones(n, np.int64),
            "height": np.ones(n, np.int64),
            "official_split": pa.array(np.asarray(list(SHARES))[rng.choice(len(SHARES), n, p=shares)]),
            **{name: pa.array([value] * n, pa.string()) for name, value in constant.items()},
        }
        self.workspace.write("ingested.images", conformed(images, tables.IMAGES), source=SOURCE)
        present = long_tail(n, self.num_labels, 3).tocoo()
        absent = np.unique(rng.integers(0, n * self.num_labels, 3 * n))
        absent = absent[~np.isin(absent, present.row.astype(np.int64) * self.num_labels + present.col)]
        row = np.concatenate([present.row, absent // self.num_labels])
        column = np.concatenate([present.col, absent % self.num_labels])
        labels = {
            "image_id": ids.take(pa.array(row)),
            "label": pa.array(self.labels).take(pa.array(column)),
            "state": np.repeat(np.asarray([1, 0], np.int8), [present.nnz, len(absent)]),
            "confidence": np.ones(len(row), np.float32),
            "origin": pa.array(["verified"] * len(row)),
        }
        self.workspace.write("ingested.labels", conformed(labels, tables.LABELS), source=SOURCE)
        for name in ("coverage", "unknown", "objects"):
            self.workspace.write(f"ingested.{name}", getattr(tables, name.upper()).empty_table(), source=SOURCE)
        self.workspace.write("truth", tables.TRUTH.empty_table())
        self.workspace.write("ingested.vocabulary", dict(zip(self.labels, self.labels, strict=True)), source=SOURCE)

    def taxonomy(self) -> None:
        """Twenty parents, each implied by every twentieth of the others."""
        parents = self.labels[:NUM_PARENTS]
        labels = [
            {"id": label, "name": label.replace("_", " "), "from": {SOURCE: [label]}}
            | ({"implies": [parents[c % NUM_PARENTS]]} if c >= NUM_PARENTS else {})
            for c, label in enumerate(self.labels)
        ]
        path = self.params.paths.taxonomy
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump({"labels": labels}, sort_keys=False))

    def files(self) -> None:
        """A folder of small pictures, no two alike, as a source of its own."""
        folder = Path("data/raw/files")
        folder.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(0)
        for i in range(self.num_files):
            pixels = rng.integers(0, 256, (8, 8, 3), np.uint8)
            Image.fromarray(pixels).save(folder / f"{i:07d}.png", compress_level=0)
        document = yaml.safe_load(Path("params.yaml").read_text())
        document["sources"]["files"] = {"kind": "folder", "path": str(folder), "use": "pool", "labels": "none"}
        Path("params.yaml").write_text(yaml.safe_dump(document, sort_keys=False))

    def out_of_fold(self) -> None:
        """Scores that know a little of the labels, and embeddings, in place of what hours of training would give."""
        ids = self.workspace.image_ids("train", "calibration")
        scores_NC = scratch.zeros((len(ids), self.num_labels))
        embeddings_ND = scratch.zeros((len(ids), self.num_features), np.float16)
        rng = np.random.default_rng(1)
        states = self.workspace.states("deduplicated", ids)
        of_label_CD = rng.standard_normal((self.num_labels, self.num_features), np.float32)
        for start in range(0, len(ids), ROWS):
            part = slice(start, start + ROWS)
            present_BC = states.states_NC[part] == 1
            # One present pair in ten looks absent, and one other in a thousand present.
            looks_BC = rng.random(present_BC.shape, np.float32) < np.where(present_BC, 0.9, 0.001)
            noise_BC = rng.random(present_BC.shape, np.float32)
            scores_NC[part] = np.where(looks_BC, 1 - 0.7 * noise_BC, noise_BC**8)
            noise_BD = rng.standard_normal((len(present_BC), self.num_features), np.float32)
            embeddings_ND[part] = present_BC.astype(np.float32) @ of_label_CD + noise_BD
        partitions = ["train"] * len(ids)
        table = Predictions(ids, partitions, states.labels, scores_NC, "made up", "raw", embeddings_ND)
        self.workspace.write_predictions("out_of_fold", table)

    def weights(self) -> None:
        """A network that has learned nothing, in place of the training that was ended."""
        paths = self.params.paths
        ids = self.workspace.image_ids("test")[:100]
        states = self.workspace.states("deduplicated", ids)
        network = Network(self.params.model, self.workspace.vocabulary(), paths.shards, paths.finetuned, 0)
        model, _ = build_model(network, self.params.finetune.loss, where="finetune.loss", states=states, start=None)
        config = {"head": {"name": "linear", "options": {}}, "image_px": [32, 32], "resize": "stretch"}
        save_model(paths.finetuned, model, {**config, **network.reader.form._asdict(), "weights_kind": "raw"})
        tables.write_text(paths.learning_curves, "epoch,loss,lr,val_map_raw,val_map_ema\n")


class Instant(nn.Module):
    """A network that takes no time: random projections of the mean colour."""

    def __init__(self, num_features: int, num_labels: int) -> None:
        super().__init__()
        self.features, self.labels = nn.Linear(3, num_features), nn.Linear(num_features, num_labels)
        self.scores = torch.sigmoid

    def forward_with_features(self, images_BCHW: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        features_BD = self.features(images_BCHW.float().mean(dim=(2, 3)) / 255)
        return self.labels(features_BD), features_BD


def score(num_features: int) -> None:
    """What `out_of_fold` does after its trainings: scores and embeddings of all images, in one table."""
    params = load_params()
    workspace, paths = Workspace(params.paths), params.paths
    ids, labels = workspace.image_ids("train", "calibration"), workspace.vocabulary().labels
    images = ImageSet(ShardReader(paths.shards), ids, tuple(params.model.image_px), params.model.resize)
    torch.manual_seed(0)
    scored = score_images(Instant(num_features, len(labels)), images, batch_size=512, with_embeddings=True)
    embeddings_ND, partitions = halved([scored.embeddings_ND]), ["train"] * len(ids)
    table = Predictions(ids, partitions, labels, scored.scores_NC, "made up", "raw", embeddings_ND)
    write_predictions(paths.out_of_fold.with_name("scored.parquet"), table)


def conformed(columns: dict, schema: pa.Schema) -> pa.Table:
    return pa.table({name: columns[name] for name in schema.names}, schema=schema)


def cost_of(stage: str, made: Maker, training_s: float) -> Cost:
    """Run one stage in a process of its own; what it needs is made first, and does not count."""
    if stage == "clean" and not made.params.paths.out_of_fold.exists():
        made.out_of_fold()
    if stage == "predict" and not made.params.paths.finetuned.exists():
        made.weights()
    made.params.paths.start.mkdir(parents=True, exist_ok=True)  # no pre-training: an empty folder
    if stage == "ingest":
        made.files()
    before = disk_bytes(Path("data"))
    module = ["tasks", "ingest@files" if stage == "ingest" else stage]
    if stage == "out_of_fold":
        module = ["tests.benchmarks", "openimages_size", "--scoring", str(made.num_features)]
    cost = watched(stage, module, training_s if stage == "finetune" else None)
    return Cost(*cost, (disk_bytes(Path("data")) - before) / 1e9)


def watched(stage: str, module: list[str], limit_s: float | None) -> tuple[str, float, float, float]:
    """Name, wall and CPU seconds, most memory in GB of `python -m …` and its children. Exits where it fails."""
    began, usage, most = time.monotonic(), os.times(), 0
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}  # for `tests`; `tasks` are those of the folder
    with open(f"{stage}.log", "w") as log:
        command = [sys.executable, "-m", *module]
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
        while process.poll() is None:
            most = max(most, sum(map(resident_bytes, family(process.pid))))
            if limit_s is not None and time.monotonic() - began > limit_s:
                process.send_signal(signal.SIGTERM)
                limit_s = None
            time.sleep(0.5)
    if process.returncode not in (0, 143):
        sys.exit(f"openimages_size: {stage} failed:\n" + Path(log.name).read_text()[-3000:])
    cpu = sum(os.times()[2:4]) - sum(usage[2:4])
    return stage, time.monotonic() - began, cpu, most / 1e9


def family(pid: int) -> list[int]:
    """A process and all below it."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [pid, *(member for child in children for member in family(int(child)))]


def resident_bytes(pid: int) -> int:
    """Of memory that lies in no file. Pages that forked processes share count once for each."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(("RssAnon", "RssShmem")))


def disk_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


if __name__ == "__main__":
    main(sys.argv[1:])
