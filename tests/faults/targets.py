"""One valid file of every reader, and how it is read: what mutants.py changes.

To add one: a function that writes the file under a folder and returns a Target, and a line in TARGETS.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
import yaml

from tasks.core import tables
from tasks.core.prediction_table import Predictions, read_predictions, write_predictions
from tasks.evaluation.external_scores import read_long_labels, read_long_scores
from tasks.export.runtime import Predictor
from tasks.images.checks import check_images
from tasks.images.shards import ShardReader, write_shards
from tasks.nn.model import load_model, save_model
from tasks.params import load_params
from tasks.review import imports
from tasks.review.verdicts import Verdict, append_verdicts, read_verdicts
from tasks.sources import SOURCES
from tasks.sources.layouts import find_layout
from tasks.sources.openimages_tables import read_hierarchy
from tasks.taxonomy.reading import parse_taxonomy, read_taxonomy
from tasks.thresholds.document import read_thresholds
from tasks.training import checkpoint
from tests.export import toy as toy_export
from tests.images import pictures
from tests.imports import ROOT
from tests.sources import deliveries


@dataclass(frozen=True)
class Target:
    """path: the file that is changed.  read: what a stage or a command does with it; raises where it is refused.

    sealed: whether `read` must notice every change that reaches what it returns.
    """

    path: Path
    read: Callable[[], object]
    sealed: bool = False


# ---------------------------------------------------------------- text


def _delivery(kind: str, file: str) -> Callable[[Path], Target]:
    """A raw file of a source: what comes of it keeps the contract of every source."""

    def write(folder: Path) -> Target:
        options = deliveries.DELIVERIES[kind](folder)

        def read() -> None:
            raw = SOURCES[kind]("pets", folder, **options)
            assert deliveries.unexplained(raw) == {}, "rows that are neither in a table nor in a reason"
            deliveries.check_source(raw, "pets")

        return Target(folder / file, read)

    return write


def _layout(kind: str, file: str, *pictures: str) -> Callable[[Path], Target]:
    """A raw file as `init` looks at it."""

    def write(folder: Path) -> Target:
        deliveries.DELIVERIES[kind](folder)
        (folder / "human.csv").unlink(missing_ok=True)  # one file of labels, or `init` asks which
        deliveries.touch(*(folder / picture for picture in pictures))
        return Target(folder / file, lambda: find_layout(folder))

    return write


def _hierarchy(folder: Path) -> Target:
    tree = {"LabelName": "a", "Subcategory": [{"LabelName": "b", "Part": [{"LabelName": "c"}]}, {"LabelName": "d"}]}
    path = deliveries.write_json(folder / "hierarchy.json", tree)
    return Target(path, lambda: read_hierarchy(path))


def _verdicts(folder: Path) -> Target:
    path = folder / "verdicts.jsonl"
    verdicts = [Verdict(f"coco/{n}", "cat", "present", "ann", f"2026-05-01T09:3{n}:00+00:00", "9f") for n in range(4)]
    append_verdicts(path, verdicts)
    taxonomy = parse_taxonomy({"labels": [{"id": "cat"}]})
    return Target(path, lambda: read_verdicts(path, taxonomy))


LABEL_STUDIO = [
    {
        "id": n,
        "data": {"image": f"/data/upload/{n}/9e3a1b2c-00{n}.jpg", "label": "cat"},
        "annotations": [
            {
                "completed_by": {"email": "ann@example.org"},
                "updated_at": "2026-05-01T09:30:00Z",
                "result": [{"from_name": "cat", "value": {"choices": ["Present"]}}],
            }
        ],
    }
    for n in (1, 2)
]
CVAT = (
    '<?xml version="1.0"?><annotations><meta><task><owner><username>ann</username></owner></task>'
    "<dumped>2026-05-01 09:30:00+00:00</dumped></meta>"
    '<image id="0" name="001.jpg"><tag label="cat" source="manual">'
    '<attribute name="verdict">absent</attribute></tag></image></annotations>'
)
EXPORTS = {
    "csv": "image,label,verdict,who,when\n001.jpg,cat,present,ann,2026-05-01T09:30:00+00:00\n002.jpg,cat,absent,,\n",
    "label-studio": json.dumps(LABEL_STUDIO),
    "cvat": CVAT,
}


def _export(format: str, zipped: bool = False) -> Callable[[Path], Target]:
    """What people judged in another tool."""

    def write(folder: Path) -> Target:
        path = folder / f"export.{format}"
        if zipped:
            with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
                archive.writestr("annotations.xml", EXPORTS[format])
        else:
            path.write_text(EXPORTS[format], encoding="utf-8")
        ids = [f"coco/{n}" for n in (1, 2)]
        images = pa.table({"image_id": ids, "sha256": ["h1", "h2"], "uri": ["raw/001.jpg", "raw/002.jpg"]})
        taxonomy = parse_taxonomy({"labels": [{"id": "cat"}]})

        def read() -> None:
            text = imports.read_export(path)
            make = imports.Importer(images, taxonomy, who="ann", when="2026-05-01T00:00:00+00:00")
            imports.FORMATS[imports.detect(text, where=str(path))](text, make, where=str(path))

        return Target(path, read)

    return write


def _taxonomy(folder: Path) -> Target:
    path = folder / "taxonomy.yaml"
    path.write_bytes((ROOT / "data/taxonomy/taxonomy.yaml").read_bytes())
    return Target(path, lambda: read_taxonomy(path).document())


def _params(folder: Path) -> Target:
    path = folder / "params.yaml"
    plain = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    path.write_text(yaml.safe_dump(plain, sort_keys=False), encoding="utf-8")
    return Target(path, lambda: load_params(path))


def _thresholds(folder: Path) -> Target:
    entry = {"threshold": 0.25, "support": 7, "shrinkage_weight": 1.0, "low": 0.1, "high": None, "reason": ""}
    document = {
        "rule": "f_beta",
        "fit_on": "calibration",
        "labels": {"cat": entry, "dog": entry | {"threshold": None}},
        "probabilities": {
            "method": "platt",
            "labels": {
                "cat": {"slope": 1.5, "intercept": -0.5},
                "dog": {"scores": [0.1, 0.9], "probabilities": [0.2, 0.8]},
            },
        },
        "fusion": {
            "dog": {"origin": "detector:yolo", "model": 1.0, "detector": 0.5, "intercept": 0.1, "threshold": 0.3}
        },
    }
    path = deliveries.write_json(folder / "thresholds.json", document)

    def read() -> None:
        saved = read_thresholds(path, ["cat", "dog"])
        scores = saved.calibration(np.full((3, 2), 0.5, np.float32))
        saved.fused(scores, np.full((3, 2), 0.5, np.float32))

    return Target(path, read)


def _scores(suffix: str) -> Callable[[Path], Target]:
    """Anybody's scores, as `score` takes them."""

    def write(folder: Path) -> Target:
        path = folder / f"scores{suffix}"
        rows = [{"image_id": f"{n}", "label": "cat", "score": n / 4} for n in range(4)]
        if suffix == ".csv":
            deliveries.write_csv(path, rows[0].keys(), *(row.values() for row in rows))
        else:
            path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return Target(path, lambda: read_long_scores(path))

    return write


TEXT: dict[str, Callable[[Path], Target]] = {
    "coco": _delivery("coco", "annotations/instances.json"),
    "openimages labels": _delivery("openimages", "human.csv"),
    "openimages boxes": _delivery("openimages", "boxes.csv"),
    "openimages classes": _delivery("openimages", "classes.csv"),
    "openimages hierarchy": _hierarchy,
    "voc": _delivery("voc", "Annotations/001.xml"),
    "voc list": _delivery("voc", "ImageSets/Main/trainval.txt"),
    "xml beside": _delivery("xml_beside", "train/a.xml"),
    "datumaro": _delivery("otx", "annotations.json"),
    "manifest": _delivery("folder", "manifest.csv"),
    "url list": _delivery("url_list", "urls.csv"),
    "downloads": _delivery("url_list", "downloads.jsonl"),
    "vendor's predictions": _delivery("predictions", "vendor.json"),
    "init: coco": _layout("coco", "annotations/instances.json"),
    "init: voc": _layout("voc", "Annotations/001.xml", "JPEGImages/001.jpg"),
    "init: datumaro": _layout("otx", "annotations.json", "images/a.jpg"),
    "init: openimages": _layout("openimages", "machine.csv"),
    "init: manifest": _layout("folder", "manifest.csv"),
    "verdicts": _verdicts,
    "verdicts from csv": _export("csv"),
    "verdicts from label studio": _export("label-studio"),
    "verdicts from cvat": _export("cvat"),
    "taxonomy": _taxonomy,
    "params": _params,
    "thresholds": _thresholds,
    "scores csv": _scores(".csv"),
    "scores jsonl": _scores(".jsonl"),
}


# ---------------------------------------------------------------- binary


def _table(folder: Path) -> Target:
    path = folder / "labels.parquet"
    rows = {
        "image_id": [f"coco/{n}" for n in range(50)],
        "label": ["cat"] * 50,
        "state": [1] * 50,
        "confidence": [0.5] * 50,
        "origin": ["box"] * 50,
    }
    tables.write_table(path, pa.table(rows), tables.LABELS)
    return Target(path, lambda: tables.read_table(path, tables.LABELS).to_pylist())


def _predictions(folder: Path) -> Target:
    path = folder / "predictions.parquet"
    scores_NC = np.random.default_rng(0).random((40, 5), np.float32)
    ids = [f"coco/{n}" for n in range(40)]
    write_predictions(path, Predictions(ids, ["test"] * 40, list("abcde"), scores_NC, "0" * 64, "ema"))

    def read() -> str:
        saved = read_predictions(path)
        return _digest([saved.image_ids, saved.partitions, saved.labels], saved.scores_NC)

    return Target(path, read, sealed=True)


def _labels(folder: Path) -> Target:
    path = folder / "states.parquet"
    rows = {"image_id": [f"{n}" for n in range(40)], "label": ["cat"] * 40, "state": [1] * 40}
    tables.write_table(path, pa.table(rows))
    return Target(path, lambda: read_long_labels(path).to_pylist())


def _shard(folder: Path) -> Target:
    for n in range(3):
        (folder / f"{n}.png").write_bytes(pictures.encode(pictures.scene(20, 16, seed=n)))
    images = pa.table({"image_id": [f"web/{n}" for n in range(3)], "uri": [f"{n}.png" for n in range(3)]})
    write_shards(images, folder / "shards", root=folder, short_side_px=16, images_per_file=8)

    def read() -> str:
        reader = ShardReader(folder / "shards")
        return _digest(reader.image_ids, *(reader[n] for n in range(len(reader))))

    return Target(folder / "shards/shard-00000.arrow", read, sealed=True)


def _checkpoint(folder: Path) -> Target:
    path = folder / checkpoint.LATEST
    parts = {"model": {"a": torch.arange(200.0), "b": torch.ones(3, 4)}, "loss": {}}
    checkpoint.write(path, parts, {"fingerprint": "f", "step": 7, "rows": [{"loss": 0.5}]})

    def read() -> str:
        saved = checkpoint.read_latest(folder, fingerprint="f")
        return "" if saved is None else _digest(saved.state, *(t.numpy() for t in saved.tensors.values()))

    return Target(path, read, sealed=True)


def _model(file: str) -> Callable[[Path], Target]:
    """A saved network: its weights, and what is said of them. `Patches` is no backbone of timm's: a small one is."""

    def write(folder: Path) -> Target:
        model = toy_export.tagger(backbone="test_resnet")
        config = {"head": {"name": "linear", "options": {}}, "image_px": list(toy_export.IMAGE_PX), "resize": "stretch"}
        save_model(folder / "model", model, config)

        def read() -> str:
            loaded = load_model(folder / "model")
            return _digest(loaded.labels, *(t.numpy() for t in loaded.state_dict().values()))

        return Target(folder / "model" / file, read, sealed=file.endswith(".safetensors"))

    return write


def _onnx(folder: Path) -> Target:
    path = toy_export.exported(folder)
    images_BHWC = toy_export.pixels(2)

    def read() -> str:
        predictor = Predictor(path, num_threads=1)
        return _digest(list(predictor.manifest.labels), *predictor(images_BHWC))

    return Target(path, read, sealed=True)


def _picture(format: str, **options) -> Callable[[Path], Target]:
    """An image of a source: used or quarantined."""

    def write(folder: Path) -> Target:
        path = folder / "picture"
        path.write_bytes(pictures.encode(pictures.scene(64, 48), format, **options))
        listed = pa.table({"image_id": ["a"], "uri": [str(path)]})

        def read() -> None:
            checked = check_images(listed)
            assert checked["status"][0].as_py() == "ok" or checked["reason"][0].as_py()

        return Target(path, read)

    return write


def _digest(content: object, *arrays: np.ndarray) -> str:
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode())
    for array in arrays:
        digest.update(f"{array.dtype}{array.shape}".encode() + np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


BINARY: dict[str, Callable[[Path], Target]] = {
    "table": _table,
    "predictions": _predictions,
    "anybody's labels": _labels,
    "shard": _shard,
    "checkpoint": _checkpoint,
    "weights": _model("model.safetensors"),
    "model.json": _model("model.json"),
    "exported model": _onnx,
    "zip of cvat": _export("cvat", zipped=True),
    "jpeg": _picture("JPEG"),
    "png": _picture("PNG"),
    "gif": _picture("GIF"),
    "webp": _picture("WEBP"),
    "tiff": _picture("TIFF", compression="tiff_lzw"),
    "bmp": _picture("BMP"),
    "avif": _picture("AVIF"),
    "jpeg 2000": _picture("JPEG2000"),
}
TARGETS = {**TEXT, **BINARY}
