"""The photographs of VOC2007 `trainval` for benchmarks that train: from the data kits, or from a tar made of them.

Axes: N images, C labels.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import yaml
from PIL import Image

from tasks.commands.recipe import merge, read_recipe
from tasks.core.environment import loader_workers
from tasks.core.states import States
from tasks.core.workspace import Vocabulary
from tasks.images.shards import write_shards
from tasks.params import Params, parse_params
from tasks.training.fitting import Network
from tests.imports import ROOT

REAL_DATA = ROOT.parent / "shared" / "data"
VOC = REAL_DATA / "voc"
LITE0 = REAL_DATA / "weights" / "tf_efficientnet_lite0.imagenet.safetensors"
LISTS = "VOC2007/ImageSets/Main"
LABELS_FILE = "labels.json"


@dataclass(frozen=True)
class Photographs:
    """files: image id -> JPEG.  train, test: what is known of them; difficult objects only means unknown."""

    files: dict[str, bytes]
    train: States
    test: States


def voc2007(num_train: int | None = None, num_test: int | None = None) -> Photographs:
    """Train on `train`, test on `val`; of each so many drawn with seed 0, or all."""
    with tarfile.open(VOC / "VOC2007.tar.gz") as archive:
        lists = {m.name: archive.extractfile(m).read().decode() for m in archive if m.name.startswith(f"{LISTS}/")}
    with tarfile.open(VOC / "VOC2007-trainval" / "images.tar") as archive:
        files = {Path(m.name).stem: archive.extractfile(m).read() for m in archive if m.name.endswith(".jpg")}
    labels = sorted(name.split("/")[-1].removesuffix("_train.txt") for name in lists if name.endswith("_train.txt"))
    parts = []
    for part, count in (("train", num_train), ("val", num_test)):
        state_of = [dict(line.split() for line in lists[f"{LISTS}/{c}_{part}.txt"].splitlines()) for c in labels]
        ids = np.array(sorted(state_of[0].keys() & files.keys()))
        if count is not None:
            ids = np.sort(np.random.default_rng(0).permutation(ids)[:count])
        listed_NC = np.array([[int(states[i]) for states in state_of] for i in ids])
        parts.append(States.of(ids.tolist(), labels, listed_NC == 1, listed_NC != 0))
    used = {i for states in parts for i in states.image_ids}
    return Photographs({i: jpeg for i, jpeg in files.items() if i in used}, *parts)


def pack(photographs: Photographs, path: Path, *, short_side_px: int, quality: int = 80) -> None:
    """One tar of JPEGs and labels.json, for a machine that has no data kits."""
    with tarfile.open(path, "w") as archive:

        def add(name: str, content: bytes) -> None:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))

        for name, jpeg in photographs.files.items():
            picture, smaller = Image.open(io.BytesIO(jpeg)).convert("RGB"), io.BytesIO()
            ratio = short_side_px / min(picture.size)
            size = tuple(round(side * ratio) for side in picture.size)
            picture.resize(size, Image.Resampling.BICUBIC).save(smaller, "JPEG", quality=quality)
            add(f"{name}.jpg", smaller.getvalue())
        states = {
            part: dict(zip(s.image_ids, s.states_NC.tolist(), strict=True))
            for part, s in (("train", photographs.train), ("test", photographs.test))
        }
        add(LABELS_FILE, json.dumps({"labels": photographs.train.labels, **states}).encode())


def unpacked(path: Path) -> Photographs:
    """What `pack` wrote."""
    with tarfile.open(path) as archive:
        files = {m.name: archive.extractfile(m).read() for m in archive if m.isfile()}
    content = json.loads(files.pop(LABELS_FILE))
    parts = [
        States(list(content[part]), content["labels"], np.array(list(content[part].values()), np.int8))
        for part in ("train", "test")
    ]
    return Photographs({name.removesuffix(".jpg"): jpeg for name, jpeg in files.items()}, *parts)


def params_of(recipe: str | None, *changes: Mapping[str, Any], weights: Path = LITE0) -> Params:
    """params.yaml under a recipe, Lite0 from its file, and changes."""
    raw = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    backbone = {"name": "tf_efficientnet_lite0", "weights": str(weights), "options": {}}
    for overlay in (
        read_recipe(recipe, ROOT / "recipes") if recipe else {},
        {"model": {"backbone": backbone}},
        *changes,
    ):
        raw = merge(raw, overlay)
    return parse_params(raw)


def network_in(folder: Path, photographs: Photographs, params: Params) -> Network:
    """The network of `params` over the photographs, packed below `folder` as the pipeline packs them."""
    shards, jpegs = folder / "shards", folder / "jpegs"
    if not shards.exists():
        jpegs.mkdir(parents=True)
        for name, jpeg in photographs.files.items():
            (jpegs / f"{name}.jpg").write_bytes(jpeg)
        ids = list(photographs.files)
        write_shards(
            pa.table({"image_id": ids, "uri": [f"{i}.jpg" for i in ids]}), shards, root=jpegs,
            workers=max(loader_workers(), 1), short_side_px=params.shard.short_side_px,
            jpeg_quality=params.shard.jpeg_quality, images_per_file=params.shard.images_per_file,
        )  # fmt: skip
    labels = photographs.train.labels
    return Network(params.model, Vocabulary(labels, [], labels), shards, folder / "checkpoints", params.seed)
