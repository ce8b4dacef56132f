"""The pretrain stage on tables written by hand: the same weights however often it runs, none when it is off."""

from __future__ import annotations

import shutil

import pyarrow as pa
import pytest

from tasks.core import tables
from tasks.core.workspace import Workspace
from tasks.params import Params, parse_params
from tasks.stages import pretrain


@pytest.fixture
def params(raw) -> Params:
    """The train images of `raw` are there to pre-train on."""
    raw["pretrain"].update(epochs=1, batch_size=6, augment=[])
    params = parse_params(raw)
    shutil.copytree(params.paths.cleaned, params.paths.deduplicated)
    workspace = Workspace(params.paths)
    splits = workspace.read("splits")
    roles = ["pretrain" if role == "train" else role for role in splits["partition"].to_pylist()]
    column = splits.column_names.index("partition")
    workspace.write("splits", splits.set_column(column, "partition", pa.array(roles)))
    return params


def test_it_learns_from_the_images_with_a_known_label(params):
    pretrain.run(params)
    assert (params.paths.pretrained / "model.safetensors").exists()
    images = tables.read_json(params.paths.ledger / "pretrain.json")["units"]["images"]
    assert images == {"in": 14, "added": {}, "out": 13, "dropped": {"no known label": 1}}


def test_run_again_it_starts_afresh_and_not_from_its_own_result(params):
    pretrain.run(params)
    first = (params.paths.pretrained / "model.safetensors").read_bytes()
    pretrain.run(params)
    assert (params.paths.pretrained / "model.safetensors").read_bytes() == first


def test_turned_off_it_leaves_no_weights_of_an_earlier_run(params, raw):
    pretrain.run(params)
    raw["pretrain"]["enabled"] = False
    pretrain.run(parse_params(raw))
    assert list(params.paths.pretrained.iterdir()) == []
