"""The finetune stage on tables written by hand: who keeps labels, what a method draws from, what is left behind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from safetensors import safe_open

from tasks.core import tables
from tasks.core.errors import ModelError, ParamsError
from tasks.core.states import States
from tasks.core.workspace import Workspace
from tasks.images.shards import ShardReader
from tasks.nn.model import load_config, load_model
from tasks.params import Params, parse_params
from tasks.sampling.few_labels import keep_few_labels
from tasks.stages import finetune
from tasks.training.semi.stream import unlabelled_images
from tests.stages.conftest import LABELS, UNANNOTATED, VERDICT


def with_semi(raw: dict, name: str, per_class: int = 0, **options) -> Params:
    raw["finetune"].update(labelled_per_class=per_class, semi={"name": name, name: options})
    return parse_params(raw)


def train_labels(params: Params) -> States:
    ids = Workspace(params.paths).image_ids("train")
    annotated = Workspace(params.paths).states("cleaned", ids, LABELS)
    return keep_few_labels(annotated, per_class=params.finetune.labelled_per_class, seed=params.seed)


def stream(params: Params, draws_from: str) -> States:
    workspace = Workspace(params.paths)
    pool = workspace.states("cleaned", workspace.image_ids("pool"))
    return unlabelled_images(draws_from, train_labels(params), pool)


def test_some_images_a_label_keep_their_labels_and_nothing_is_known_of_the_others(raw):
    states = train_labels(with_semi(raw, "none", per_class=2))
    assert len(states.has_known_labels()) == 4
    assert states.targets_NC.sum(axis=0).tolist() == [2, 2]
    assert not states.targets_NC[~states.known_NC].any()


def test_zero_keeps_all_labels(raw):
    assert len(train_labels(with_semi(raw, "none")).has_known_labels()) == 13


def test_a_method_draws_from_the_pool_and_the_train_images_without_a_known_label(raw):
    params = with_semi(raw, "cap")
    assert set(stream(params, "unlabelled").image_ids) == {UNANNOTATED, *(f"set/{n}" for n in range(18, 23))}
    assert len(stream(params, "labelled").image_ids) == 13
    assert len(stream(params, "all").image_ids) == 19
    assert len(stream(with_semi(raw, "cap", per_class=2), "unlabelled").image_ids) == 15


def test_calibration_images_are_never_drawn(raw):
    assert not {f"set/{n}" for n in range(14, 18)} & set(stream(with_semi(raw, "cap"), "all").image_ids)


def test_a_verdict_on_a_pool_image_comes_along(raw):
    images = stream(with_semi(raw, "cap"), "unlabelled")
    row = images.image_ids.index(VERDICT)
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
    notes = [note for note in ledger["notes"] if "learned from" in note]
    assert notes == ([f"{name} learned from {streamed} images beside the labelled ones"] if streamed else [])


def test_the_model_folder_holds_the_size_of_the_shards_that_it_was_trained_from(raw):
    """Not what params.yaml asks of the next ones: the shards are a dependency of the stage, that key is not."""
    raw["shard"]["short_side_px"] = 512
    params = parse_params(raw)
    finetune.run(params)
    reader = ShardReader(params.paths.shards)
    assert load_config(params.paths.finetuned)["short_side_px"] == reader.form.short_side_px == 16


def test_no_unlabelled_image_is_one_clear_line(raw):
    params = with_semi(raw, "barlow_twins")
    splits = Workspace(params.paths).read("splits")
    fewer = splits.filter([p != "pool" and i != UNANNOTATED for i, p in zip(*_columns(splits), strict=True)])
    Workspace(params.paths).write("splits", fewer)
    for name in ("barlow_twins", "sesemi"):
        with pytest.raises(ParamsError, match="there is no unlabelled image to learn from"):
            finetune.run(with_semi(raw, name))
    finetune.run(with_semi(raw, "sesemi", images="labelled"))


def test_a_misspelled_method_or_option_is_named(raw):
    with pytest.raises(ParamsError, match=r"finetune\.semi: 'barlow' is unknown\. Did you mean 'barlow_twins'"):
        finetune.run(with_semi(raw, "barlow"))
    with pytest.raises(ParamsError, match=r"cap: unknown option 'warmup_epoch'\. Did you mean 'warmup_epochs'"):
        finetune.run(with_semi(raw, "cap", warmup_epoch=1))


def test_it_starts_from_the_model_folder_that_paths_start_names(raw):
    """As after `migrate`: the labels that the folder knows bring their weights, whatever their order."""
    finetune.run(with_semi(raw, "none"))
    before, earlier = parse_params(raw).paths.finetuned, Path("earlier")
    before.rename(earlier)
    raw["finetune"].update(epochs=1, lr=1e-12, ema={"enabled": False, "decay": 0.98})
    raw["paths"]["start"] = "earlier"
    finetune.run(parse_params(raw))
    old, new = (load_model(folder).head.state_dict() for folder in (earlier, before))
    for name, value in old.items():
        np.testing.assert_allclose(new[name], value, atol=1e-6)


def test_a_start_that_does_not_exist_is_one_clear_line(raw):
    raw["paths"]["start"] = "data/models/migratd"
    with pytest.raises(ModelError, match=r"paths\.start: data/models/migratd: no such model folder\. Run"):
        finetune.run(parse_params(raw))


def _columns(splits: pa.Table) -> tuple[list, list]:
    return splits["image_id"].to_pylist(), splits["partition"].to_pylist()
