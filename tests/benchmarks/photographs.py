"""Photographs for benchmarks that train: VOC2007 `trainval` or Aerial Maritime, from the data kits or a tar of them.

Axes: N images, C labels.
"""

from __future__ import annotations

import io
import json
import tarfile
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import yaml
from PIL import Image

from tasks.commands.recipe import merge, read_recipe
from tasks.core.environment import loader_workers
from tasks.core.states import States, states_of
from tasks.core.workspace import Vocabulary
from tasks.images.shards import write_shards
from tasks.params import Params, parse_params
from tasks.sources import xml_beside
from tasks.training.fitting import Network
from tests.imports import ROOT

REAL_DATA = ROOT.parent / "shared" / "data"
VOC = REAL_DATA / "voc"
AERIAL = REAL_DATA / "aerial_maritime" / "aerial_maritime_tiled.tar"
LITE0 = REAL_DATA / "weights" / "tf_efficientnet_lite0.imagenet.safetensors"
LISTS = "VOC2007/ImageSets/Main"
LABELS_FILE = "labels.json"


@dataclass(frozen=True)
class Photographs:
    """files: image id -> JPEG.  train, test: what is known of them; difficult objects only means unknown.

    scene_of: image id -> what it is a part of, where several images are parts of one thing.
    """

    files: dict[str, bytes]
    train: States
    test: States
    scene_of: dict[str, str] = field(default_factory=dict)

    def scenes(self, states: States) -> list[str]:
        """Of each image; images of one scene belong on one side of a cut, and are drawn together."""
        return [self.scene_of.get(i, i) for i in states.image_ids]


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


def aerial_maritime() -> Photographs:
    """Drone tiles with boxes of five classes: train on `train`, test on `valid` and `test`, which are small.

    Every tile is annotated exhaustively. A scene is the photograph that a tile was cut from.
    """
    with tempfile.TemporaryDirectory() as folder, tarfile.open(AERIAL) as archive:
        archive.extractall(folder, filter="data")
        raw = xml_beside.read("aerial", Path(folder), folders={part: part for part in ("train", "valid", "test")})
        uris = dict(zip(*(raw.images[column].to_pylist() for column in ("image_id", "uri")), strict=True))
        files = {i: Path(uri).read_bytes() for i, uri in uris.items()}
    split_N = np.array(raw.images["official_split"].to_pylist())
    coverage = pa.table({"source": ["aerial"] * len(raw.coverage), "label": raw.coverage})
    states = states_of(
        raw.labels, list(files), raw.coverage, coverage=coverage, sources=["aerial"] * len(files), unknown=raw.unknown
    )
    parts = (states.take(np.flatnonzero(chosen)) for chosen in (split_N == "train", split_N != "train"))
    return Photographs(files, *parts, {i: Path(i).name.split(".rf.")[0] for i in files})


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
        content = {"labels": photographs.train.labels, "scene_of": photographs.scene_of, **states}
        add(LABELS_FILE, json.dumps(content).encode())


def unpacked(path: Path) -> Photographs:
    """What `pack` wrote."""
    with tarfile.open(path) as archive:
        files = {m.name: archive.extractfile(m).read() for m in archive if m.isfile()}
    content = json.loads(files.pop(LABELS_FILE))
    parts = [
        States(list(content[part]), content["labels"], np.array(list(content[part].values()), np.int8))
        for part in ("train", "test")
    ]
    files = {name.removesuffix(".jpg"): jpeg for name, jpeg in files.items()}
    return Photographs(files, *parts, content.get("scene_of", {}))


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
        for name, jpeg in photographs.files.items():
            (jpegs / name).parent.mkdir(parents=True, exist_ok=True)
            (jpegs / f"{name}.jpg").write_bytes(jpeg)
        ids = list(photographs.files)
        write_shards(
            pa.table({"image_id": ids, "uri": [f"{i}.jpg" for i in ids]}), shards, root=jpegs,
            workers=max(loader_workers(), 1), short_side_px=params.shard.short_side_px,
            jpeg_quality=params.shard.jpeg_quality, images_per_file=params.shard.images_per_file,
        )  # fmt: skip
    labels = photographs.train.labels
    return Network(params.model, Vocabulary(labels, [], labels), shards, folder / "checkpoints", params.seed)
