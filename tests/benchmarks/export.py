"""The exported model: 8 bits against 32, and the service under 200 clients at once.

TAGWRIGHT_BENCH_SECONDS: how long the clients keep on; 10 by default.
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil

from tests.benchmarks import Row, show

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"
VOC = SHARED / "voc" / "VOC2012-animals-train"
WEIGHTS = SHARED / "weights" / "mobilenetv2_100.imagenet.safetensors"
IMAGE_PX = (224, 224)
NUM_TRAIN, NUM_TEST, NUM_CALIBRATION = 400, 400, 96
MIN_POSITIVES = 5
NUM_CLIENTS = 200
PASSES = 15


class Photographs(NamedTuple):
    """files: JPEG bytes.  images_NHWC: uint8, as the network takes them.  targets_NC: bool, a non-difficult object."""

    files: list[bytes]
    images_NHWC: np.ndarray
    labels: list[str]
    targets_NC: np.ndarray


def photographs() -> Photographs:
    """A random sample of VOC2012 with its annotations; labels with few positives in either half are left out."""
    from tasks.images.stored_pixels import stored_pixels
    from tasks.nn.geometry import fit_to

    with tarfile.open(VOC / "images.tar") as archive:
        members = sorted((m for m in archive.getmembers() if m.name.endswith(".jpg")), key=lambda m: m.name)
        chosen = random.Random(0).sample(members, NUM_TRAIN + NUM_TEST)
        files = {Path(m.name).stem: archive.extractfile(m).read() for m in chosen}
    with tarfile.open(VOC / "annotations.tar.gz") as archive:
        present = {
            Path(m.name).stem: objects(archive.extractfile(m).read())
            for m in archive
            if m.name.endswith(".xml") and Path(m.name).stem in files
        }
    labels = sorted(set.union(*present.values()))
    targets_NC = np.array([[label in present[name] for label in labels] for name in files])
    halves = (targets_NC[:NUM_TRAIN], targets_NC[NUM_TRAIN:])
    kept = np.flatnonzero(np.min([half.sum(0) for half in halves], axis=0) >= MIN_POSITIVES)
    images = np.stack([fit_to(stored_pixels(data, 256), IMAGE_PX, "crop") for data in files.values()])
    return Photographs(list(files.values()), images, [labels[c] for c in kept], targets_NC[:, kept])


def objects(xml: bytes) -> set[str]:
    objects = ElementTree.fromstring(xml).iter("object")
    return {o.findtext("name") for o in objects if o.findtext("difficult") != "1"}


def export_mobilenet(photos: Photographs, path: Path) -> None:
    """MobileNetV2 with ImageNet weights and a linear head fitted to the first half of the photographs."""
    import torch
    from sklearn.linear_model import LogisticRegression

    from tasks.export.manifest import Manifest, Preprocessing
    from tasks.export.onnx_file import export_onnx
    from tasks.nn.backbone import build_backbone
    from tasks.nn.heads.linear import Linear
    from tasks.nn.model import Tagger

    options = {"pad_type": "same", "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
    backbone = build_backbone("mobilenetv2_100", weights=str(WEIGHTS), options=options, image_px=IMAGE_PX)
    model = Tagger(backbone, Linear(backbone.num_features, len(photos.labels)), labels=photos.labels).eval()
    with torch.inference_mode():
        batches = torch.from_numpy(photos.images_NHWC[:NUM_TRAIN]).permute(0, 3, 1, 2).split(25)
        features_NF = torch.cat([model.embed(batch) for batch in batches]).numpy()
    centre_F, scale_F = features_NF.mean(0), features_NF.std(0) + 1e-6
    for c in range(len(photos.labels)):
        fitted = LogisticRegression(C=0.01, max_iter=500)
        fitted.fit((features_NF - centre_F) / scale_F, photos.targets_NC[:NUM_TRAIN, c])
        weight_F = fitted.coef_[0] / scale_F
        with torch.no_grad():
            model.head.classifier.weight[c] = torch.from_numpy(weight_F)
            model.head.classifier.bias[c] = float(fitted.intercept_[0] - weight_F @ centre_F)
    manifest = Manifest(
        labels=photos.labels,
        display_names=photos.labels,
        thresholds=[0.5] * len(photos.labels),
        implications=[],
        preprocessing=Preprocessing(256, IMAGE_PX, "crop"),
        provenance={"weights_kind": "raw"},
    )
    export_onnx(model, path, manifest, opset=18)


# ---------------------------------------------------------------- 8 bits against 32


def compare_precisions(photos: Photographs, full_path: Path, int8_path: Path) -> None:
    from sklearn.metrics import average_precision_score

    from tasks.export.runtime import Predictor

    full, int8 = Predictor(full_path, num_threads=1), Predictor(int8_path, num_threads=1)
    images, targets_NC = photos.images_NHWC[NUM_TRAIN:], photos.targets_NC[NUM_TRAIN:]

    def mean_ap(predictor: Predictor) -> float:
        scores_NC = np.concatenate([predictor(batch)[0] for batch in np.array_split(images, len(images) // 16)])
        return float(np.mean([average_precision_score(t, s) for t, s in zip(targets_NC.T, scores_NC.T, strict=True)]))

    rows = [
        Row("mAP lost, points", 100 * (mean_ap(full) - mean_ap(int8)), goal="<= 1", unit=""),
        Row("size of the file", int8_path.stat().st_size / 2**20, full_path.stat().st_size / 2**20, unit="MB"),
    ]
    for batch in (1, 16):
        seconds = {full: [], int8: []}
        for _ in range(PASSES):  # in turn, so that both meet the same noise; the quickest pass met least of it
            for predictor, taken in seconds.items():
                start = time.perf_counter()
                predictor(images[:batch])
                taken.append(time.perf_counter() - start)
        best = {predictor: 1000 * min(taken) / batch for predictor, taken in seconds.items()}
        rows.append(Row(f"one image, batch {batch}", best[int8], best[full], goal=">= 1.5 x", unit="ms"))
    title = (
        f"MobileNetV2 at 224 in 8 bits; peer: in 32, both onnxruntime, 1 thread; {len(images)} photographs of VOC2012"
    )
    show(f"{title}, {len(photos.labels)} labels", rows)


# ---------------------------------------------------------------- the service


class Load(NamedTuple):
    """latencies_s: of each answer.  statuses: status -> answers.  warm_mb, end_mb: resident memory of the service."""

    latencies_s: np.ndarray
    statuses: dict[int, int]
    warm_mb: float
    end_mb: float
    seconds: float


def load_service(model: Path, bodies: list[bytes], seconds: float) -> Load:
    """Let 200 clients send photographs over loopback, each its next one as soon as it has its answer."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = (
        "import sys\nfrom tasks.export.service import serve\nfrom tasks.images.stored_pixels import stored_pixels\n"
        "serve(sys.argv[1], read=stored_pixels, port=int(sys.argv[2]))\n"
    )
    service = subprocess.Popen([sys.executable, "-c", code, model, str(port)], stderr=subprocess.DEVNULL)
    try:
        return asyncio.run(_load(psutil.Process(service.pid), port, bodies, seconds))
    finally:
        service.terminate()
        service.wait(40)


async def _load(process: psutil.Process, port: int, bodies: list[bytes], seconds: float) -> Load:
    for _ in range(300):
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            break
        except OSError:
            await asyncio.sleep(0.1)
    statuses: dict[int, int] = {}
    latencies: list[float] = []

    async def client(number: int, until: float) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        rng = random.Random(number)
        while time.perf_counter() < until:
            start, body = time.perf_counter(), rng.choice(bodies)
            writer.write(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            status = int((await reader.readline()).split()[1])
            length = 0
            while (line := await reader.readline()) != b"\r\n":
                name, _, value = line.partition(b":")
                length = int(value) if name.lower() == b"content-length" else length
            await reader.readexactly(length)
            statuses[status] = statuses.get(status, 0) + 1
            latencies.append(time.perf_counter() - start)
        writer.close()

    async def everyone(duration: float) -> None:
        until = time.perf_counter() + duration
        await asyncio.gather(*(client(n, until) for n in range(NUM_CLIENTS)))

    await everyone(seconds / 3)
    warm = process.memory_info().rss
    statuses.clear()
    latencies.clear()
    start = time.perf_counter()
    await everyone(seconds)
    end = process.memory_info().rss
    return Load(np.array(latencies), statuses, warm / 2**20, end / 2**20, time.perf_counter() - start)


def show_load(load: Load) -> None:
    errors = sum(count for status, count in load.statuses.items() if status != 200)
    show(
        f"Service under {NUM_CLIENTS} clients for {load.seconds:.0f} s: {len(load.latencies_s):,} answers, "
        f"{len(load.latencies_s) / load.seconds:.0f} a second",
        [
            Row("answers that are not 200", errors, goal="0", unit=""),
            Row("latency, median", float(np.median(load.latencies_s))),
            Row("latency, 99 of 100", float(np.quantile(load.latencies_s, 0.99))),
            Row("memory at the end; peer: when warm", load.end_mb, load.warm_mb, goal="no growth", unit="MB"),
        ],
    )


def main(argv: list[str]) -> None:
    if not VOC.is_dir() or not WEIGHTS.is_file():
        print("export: needs the photographs of VOC2012 and the weights of MobileNetV2 in ../shared/data; skipped.")
        return
    from tasks.export.int8 import quantise

    photos = photographs()
    with tempfile.TemporaryDirectory() as name:
        full, int8 = Path(name) / "full.onnx", Path(name) / "int8.onnx"
        export_mobilenet(photos, full)
        quantise(full, int8, photos.images_NHWC[:NUM_CALIBRATION])
        compare_precisions(photos, full, int8)
        seconds = float(os.environ.get("TAGWRIGHT_BENCH_SECONDS", "10"))
        show_load(load_service(int8, photos.files, seconds))
