"""One pass over 2,000 JPEGs, and a second one over the same files."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

import imagehash
import numpy as np
import pyarrow as pa
from PIL import Image

from tasks.images.checks import check_images
from tests.benchmarks import Row, measure, show

NUM_IMAGES = 2_000
REAL = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "coco" / "images"


def make_files(folder: Path) -> str:
    """2,000 JPEGs in the folder: photographs of COCO where they are at hand, else drawn pictures. Returns which."""
    photographs = sorted(REAL.glob("*.jpg"))
    if photographs:
        for n in range(NUM_IMAGES):
            shutil.copyfile(photographs[n % len(photographs)], folder / f"{n:05d}.jpg")
        return "photographs"
    rng = np.random.default_rng(0)
    for n in range(NUM_IMAGES):
        coarse = Image.fromarray(rng.integers(0, 256, (48, 64, 3), np.uint8))
        coarse.resize((640, 480), Image.Resampling.BICUBIC).save(folder / f"{n:05d}.jpg", quality=90)
    return "drawn pictures"


def listing(folder: Path) -> pa.Table:
    names = sorted(os.listdir(folder))
    return pa.table({"image_id": names, "uri": names})


def ours(folder: Path, cache: Path | None, workers: int) -> list[int]:
    return check_images(listing(folder), root=folder, workers=workers, cache_path=cache)["phash"].to_pylist()


def warm_up() -> tuple:
    """Load what pyarrow and Pillow load at their first use."""
    with tempfile.TemporaryDirectory() as name:
        folder, cache = Path(name) / "images", Path(name) / "cache.parquet"
        folder.mkdir()
        Image.new("RGB", (9, 9)).save(folder / "a.jpg")
        ours(folder, cache, 1)
        ours(folder, cache, 1)
        peer(folder)
    return ()


def peer(folder: Path) -> list[int]:
    """Content hash and perceptual hash of every file, one after the other."""
    hashes = []
    for path in sorted(folder.iterdir()):
        hashlib.sha256(path.read_bytes()).hexdigest()
        with Image.open(path) as image:
            hashes.append(int(str(imagehash.phash(image)), 16))
    return hashes


def main(argv: list[str]) -> None:
    workers = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as name:
        folder, cache = Path(name) / "images", Path(name) / "cache.parquet"
        folder.mkdir()
        kind = make_files(folder)
        slow = measure(peer, folder, prepare=warm_up)
        first = measure(ours, folder, cache, workers, prepare=warm_up)
        second = measure(ours, folder, cache, workers, prepare=warm_up)
        assert first.value == second.value == slow.value, "the hashes differ from the peer's"
    show(
        f"Image pass over {NUM_IMAGES:,} JPEGs ({kind}), {workers} workers; equal hashes",
        [
            Row(
                "peer: Pillow + ImageHash, one thread",
                first.seconds,
                slow.seconds,
                first.peak_mb,
                ">= 1.6 x on 2 cores",
            ),
            Row("unchanged second pass; peer: our first", second.seconds, first.seconds, second.peak_mb, ">= 50 x"),
        ],
    )
