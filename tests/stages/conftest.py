"""The tables and shards that the stages which train read, written by hand."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import yaml
from PIL import Image

from tasks.core import tables
from tasks.core.workspace import Workspace
from tasks.images.shards import write_shards
from tasks.params import parse_params
from tests.imports import ROOT

PARTITIONS = {"train": 14, "calibration": 4, "pool": 5}
LABELS = ["cat", "dog"]
UNANNOTATED = "set/00"  # a train image of which nothing is known
VERDICT = "set/18"  # an image of the pool on which there is a verdict


@pytest.fixture
def raw(tmp_path, monkeypatch) -> dict:
    """What earlier stages leave: 13 train images with both labels known, one without, five in the pool."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TAGWRIGHT_WORKERS", "1")
    raw = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    raw["model"].update(image_px=[16, 16])
    raw["finetune"].update(epochs=2, batch_size=6, resample=False, augment=[])
    paths = parse_params(raw).paths
    workspace = Workspace(paths)
    paths.pretrained.mkdir(parents=True)  # as when there is no source to pre-train on
    partitions = [name for name, count in PARTITIONS.items() for _ in range(count)]
    ids = [f"set/{n:02}" for n in range(len(partitions))]
    rng = np.random.default_rng(0)
    for image_id in ids:
        (tmp_path / image_id).parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(f"{image_id}.png")
    images = pa.table({"image_id": ids, "uri": [f"{i}.png" for i in ids]})
    write_shards(images, paths.shards, short_side_px=16, images_per_file=100)
    own = {"image_id": ids, "source": ["set"] * len(ids), "uri": ids, "status": ["ok"] * len(ids)}
    rest = {name: pa.nulls(len(ids)) for name in set(tables.IMAGES.names) - own.keys()}
    workspace.write("mapped.images", pa.table({**own, **rest}))
    workspace.write("mapped.coverage", tables.empty(tables.COVERAGE))
    workspace.write("mapped.vocabulary", {"labels": LABELS, "groups": [], "display_names": ["Cat", "Dog"]})
    splits = pa.table({"image_id": ids, "partition": partitions, "fold": [0] * len(ids)})
    workspace.write("splits", splits)
    annotated = [i for i, partition in zip(ids, partitions, strict=True) if partition != "pool" and i != UNANNOTATED]
    rows = [(i, label, (n + c) % 2) for n, i in enumerate(annotated) for c, label in enumerate(LABELS)]
    rows.append((VERDICT, "cat", 1))
    columns = dict(zip(("image_id", "label", "state"), zip(*rows, strict=True), strict=True))
    more = {"confidence": [1.0] * len(rows), "origin": ["annotation"] * len(rows)}
    workspace.write("cleaned.labels", pa.table({**columns, **more}))
    workspace.write("cleaned.unknown", tables.empty(tables.UNKNOWN))
    return raw
