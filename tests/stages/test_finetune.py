"""The finetune stage on tables written by hand: who keeps labels, what a method draws from, what is left behind."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import yaml
from PIL import Image
from safetensors import safe_open

from tasks import matrices, tables
from tasks.errors import ParamsError
from tasks.images.shards import write_shards
from tasks.params import Params, parse_params
from tasks.stages import finetune
from tasks.stages._common import labels_of, learnable, partition_ids, read_splits
from tests.imports import ROOT

PARTITIONS = {"train": 14, "calibration": 4, "pool": 5}
LABELS = ["cat", "dog"]
UNANNOTATED = "set/00"  # a train image of which nothing is known
JUDGED = "set/18"  # an image of the pool about which a person said something


@pytest.fixture
def raw(tmp_path, monkeypatch) -> dict:
    """What earlier stages leave: 13 train images with both labels known, one without, five in the pool."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TAGWRIGHT_WORKERS", "1")
    raw = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    raw["model"].update(image_px=[16, 16])
    raw["finetune"].update(epochs=2, batch_size=6, resample=False, augment=[])
    paths = parse_params(raw).paths
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
    tables.write_table(paths.mapped / "images.parquet", pa.table({**own, **rest}), tables.IMAGES)
    tables.write_table(paths.mapped / "coverage.parquet", tables.empty(tables.COVERAGE))
    tables.write_json(
        paths.mapped / "vocabulary.json", {"labels": LABELS, "groups": [], "display_names": ["Cat", "Dog"]}
    )
    splits = pa.table({"image_id": ids, "partition": partitions, "fold": [0] * len(ids)})
    tables.write_table(paths.splits, splits, tables.SPLITS)
    stated = [i for i, partition in zip(ids, partitions, strict=True) if partition != "pool" and i != UNANNOTATED]
    rows = [(i, label, (n + c) % 2) for n, i in enumerate(stated) for c, label in enumerate(LABELS)]
    rows.append((JUDGED, "cat", 1))
    columns = dict(zip(("image_id", "label", "state"), zip(*rows, strict=True), strict=True))
    more = {"confidence": [1.0] * len(rows), "origin": ["annotation"] * len(rows)}
    tables.write_table(paths.cleaned / "labels.parquet", pa.table({**columns, **more}), tables.LABELS)
    tables.write_table(paths.cleaned / "unknown.parquet", tables.empty(tables.UNKNOWN))
    return raw


def with_semi(raw: dict, name: str, per_class: int = 0, **options) -> Params:
    raw["finetune"].update(labelled_per_class=per_class, semi={"name": name, name: options})
    return parse_params(raw)


def train_labels(params: Params) -> matrices.DenseLabels:
    ids = partition_ids(read_splits(params), "train")
    return finetune.few_labels(params, labels_of(params, params.paths.cleaned, ids, LABELS))


def stream(params: Params, draws_from: str):
    pool = partition_ids(read_splits(params), "pool")
    return finetune.stream_of(params, draws_from, train_labels(params), pool)


def test_some_images_a_label_keep_their_labels_and_nothing_is_known_of_the_others(raw):
    dense = train_labels(with_semi(raw, "none", per_class=2))
    assert len(learnable(dense)) == 4
    assert (dense.targets_NC * dense.known_NC).sum(axis=0).tolist() == [2, 2]
    assert not dense.targets_NC[~dense.known_NC].any()


def test_zero_keeps_all_labels(raw):
    assert len(learnable(train_labels(with_semi(raw, "none")))) == 13


def test_a_method_draws_from_the_pool_and_the_train_images_without_a_known_label(raw):
    params = with_semi(raw, "cap")
    assert set(stream(params, "unlabelled").image_ids) == {UNANNOTATED, *(f"set/{n}" for n in range(18, 23))}
    assert len(stream(params, "labelled")) == 13
    assert len(stream(params, "all")) == 19
    assert len(stream(with_semi(raw, "cap", per_class=2), "unlabelled")) == 15


def test_calibration_images_are_never_drawn(raw):
    assert not {f"set/{n}" for n in range(14, 18)} & set(stream(with_semi(raw, "cap"), "all").image_ids)


def test_what_a_person_said_of_a_pool_image_comes_along(raw):
    images = stream(with_semi(raw, "cap"), "unlabelled")
    row = images.image_ids.index(JUDGED)
    assert images.known_NC[row].tolist() == [True, False]
    assert images.targets_NC[row, 0] == 1
    assert images.known_NC.sum() == 1


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("none", {}),
        ("barlow_twins", {"projection_dim": 16}),
        ("sesemi", {}),
        ("pseudo_labels", {}),
        ("cap", {"warmup_epochs": 1}),
    ],
)
def test_the_stage_runs_with_every_method_and_exports_the_tagger_alone(raw, name, options):
    params = with_semi(raw, name, per_class=3, **options)
    finetune.run(params)
    with safe_open(params.paths.finetuned / "model.safetensors", "np") as file:
        assert {key.split(".")[0] for key in file.keys()} == {"backbone", "head"}  # noqa: SIM118
    ledger = tables.read_json(params.paths.ledger / "finetune.json")
    assert ledger["units"]["images"] == {
        "in": 14, "added": {}, "out": 6, "dropped": {"labels withheld (labelled_per_class)": 7, "no known label": 1}
    }  # fmt: skip
    streamed = {"none": None, "sesemi": 19}.get(name, 13)
    said = [note for note in ledger["notes"] if "learned from" in note]
    assert said == ([f"{name} learned from {streamed} images beside the labelled ones"] if streamed else [])


def test_no_unlabelled_image_is_one_clear_line(raw):
    params = with_semi(raw, "barlow_twins")
    splits = read_splits(params)
    fewer = splits.filter([p != "pool" and i != UNANNOTATED for i, p in zip(*_columns(splits), strict=True)])
    tables.write_table(params.paths.splits, fewer, tables.SPLITS)
    for name in ("barlow_twins", "sesemi"):
        with pytest.raises(ParamsError, match="there is no unlabelled image to learn from"):
            finetune.run(with_semi(raw, name))
    finetune.run(with_semi(raw, "sesemi", images="labelled"))


def test_a_misspelled_method_or_option_is_named(raw):
    with pytest.raises(ParamsError, match=r"finetune\.semi: 'barlow' is unknown\. Did you mean 'barlow_twins'"):
        finetune.run(with_semi(raw, "barlow"))
    with pytest.raises(ParamsError, match=r"cap: unknown option 'warmup_epoch'\. Did you mean 'warmup_epochs'"):
        finetune.run(with_semi(raw, "cap", warmup_epoch=1))


def _columns(splits: pa.Table) -> tuple[list, list]:
    return splits["image_id"].to_pylist(), splits["partition"].to_pylist()
