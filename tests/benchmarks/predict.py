"""`predict` on files: ours, a plain loop of Pillow and onnxruntime, and onnxruntime alone on tensors that stand ready.

    python -m tests.benchmarks predict [--images 300] [--turns 3]

EfficientNet-Lite0 at 224 px on photographs of VOC2012 (about 500 x 375 px), batches of 16, every core. The network and
the decoding share the cores, so nothing can be quicker than the sum of what both take of the processor: that bound is
printed as well.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from tests.benchmarks import Row, show
from tests.benchmarks.export import SHARED, VOC, photographs

WEIGHTS = SHARED / "weights" / "tf_efficientnet_lite0.imagenet.safetensors"
IMAGE_PX, BATCH, NUM_LABELS = (224, 224), 16, 20


def exported(path: Path) -> None:
    """ImageNet's weights below a head that has learned nothing."""
    from tasks.export.manifest import Manifest, Preprocessing
    from tasks.export.onnx_file import export_onnx
    from tasks.nn.backbone import build_backbone
    from tasks.nn.heads.linear import Linear
    from tasks.nn.model import Tagger

    backbone = build_backbone("tf_efficientnet_lite0", weights=str(WEIGHTS), options={}, image_px=IMAGE_PX)
    labels = [f"label {c}" for c in range(NUM_LABELS)]
    model = Tagger(backbone, Linear(backbone.num_features, NUM_LABELS), labels=labels).eval()
    preprocessing = Preprocessing(256, IMAGE_PX, "crop")
    manifest = Manifest(labels, labels, [0.5] * NUM_LABELS, [], preprocessing, provenance={"weights_kind": "raw"})
    export_onnx(model, path, manifest, opset=18)


def plain_loop(session: object, files: list[Path]) -> None:
    """What anybody would write."""
    for start in range(0, len(files), BATCH):
        images = []
        for file in files[start : start + BATCH]:
            image = Image.open(file).convert("RGB")
            scale = 256 / min(image.size)
            image = image.resize([round(side * scale) for side in image.size], Image.Resampling.BILINEAR)
            left, top = (image.width - IMAGE_PX[1]) // 2, (image.height - IMAGE_PX[0]) // 2
            images.append(np.asarray(image.crop((left, top, left + IMAGE_PX[1], top + IMAGE_PX[0]))))
        session.run(["scores", "decisions"], {"images": np.stack(images)})


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks predict")
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--turns", type=int, default=3)
    chosen = parser.parse_args(argv)
    if not VOC.is_dir() or not WEIGHTS.is_file():
        print("predict: needs the photographs of VOC2012 and the weights of Lite0 in ../shared/data; skipped.")
        return
    from tasks.export.runtime import Predictor, open_session, predict_files
    from tasks.images.stored_pixels import stored_pixels

    with tempfile.TemporaryDirectory() as name:
        folder, model = Path(name), Path(name) / "model.onnx"
        exported(model)
        files = []
        for i, content in enumerate(photographs().files[: chosen.images]):
            files.append(folder / f"{i}.jpg")
            files[-1].write_bytes(content)
        session, _ = open_session(model)
        predictor = Predictor(model)
        ready = np.stack([predictor.network_pixels(str(file), stored_pixels) for file in files])
        batches = [ready[start : start + BATCH] for start in range(0, len(ready), BATCH)]
        works: dict[str, Callable[[], object]] = {
            "ready": lambda: [session.run(["scores", "decisions"], {"images": batch}) for batch in batches],
            "decoding": lambda: [predictor.network_pixels(str(file), stored_pixels) for file in files],
            "plain": lambda: plain_loop(session, files),
            "ours": lambda: list(predict_files(model, files, read=stored_pixels)),
        }
        taken = {name: [] for name in works}
        for _ in range(chosen.turns):  # in turn, so that all meet the same noise; the quickest met least of it
            for name, work in works.items():
                start, cpu = time.perf_counter(), time.process_time()
                work()
                taken[name].append((time.perf_counter() - start, time.process_time() - cpu))
    wall, cpu = ({name: min(t[i] for t in times) / len(files) * 1e3 for name, times in taken.items()} for i in (0, 1))
    bound = cpu["ready"] / (cpu["ready"] + cpu["decoding"])
    show(
        f"predict on {len(files)} photographs, Lite0 at 224 px; peers in the same run",
        [
            Row("peer: a plain loop", wall["ours"], wall["plain"], goal=">= 1.2 x", unit="ms"),
            Row("peer: ready tensors", wall["ours"], wall["ready"], goal=f">= 0.95 x; bound {bound:.2f}", unit="ms"),
            Row("of the processor; peer: a plain loop", cpu["ours"], cpu["plain"], unit="ms"),
            Row(
                "of the processor; peer: network and decoding, each alone",
                cpu["ours"],
                cpu["ready"] + cpu["decoding"],
                unit="ms",
            ),
        ],
    )
