"""The out_of_fold stage on few images: every labelled one is scored by a model that never saw it."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from tasks.core import tables
from tasks.core.errors import TableError
from tasks.core.prediction_table import read_predictions
from tasks.core.workspace import Workspace
from tasks.nn.model import save_model
from tasks.params import Params, parse_params
from tasks.stages import out_of_fold
from tasks.training.fitting import Network, build_model


def ready(raw: dict, num_folds: int) -> Params:
    raw["out_of_fold"].update(num_folds=num_folds, epochs=1)
    params = parse_params(raw)
    shutil.copytree(params.paths.cleaned, params.paths.deduplicated)
    Workspace(params.paths).write("deduplicated.groups", tables.empty(tables.GROUPS))
    return params


def test_labelled_images_and_the_pool_have_scores_and_embeddings(raw):
    params = ready(raw, 2)
    out_of_fold.run(params)
    scored = read_predictions(params.paths.out_of_fold)
    assert scored.partitions.count("train") + scored.partitions.count("calibration") == 18
    assert scored.partitions.count("pool") == 5
    assert (scored.scores_NC > 0).all()
    assert len(scored.embeddings_ND) == 23
    assert scored.tones_NT.shape == (23, 3)
    assert np.ptp(scored.tones_NT[:, 0]) > 0


@pytest.mark.parametrize(("cross_fit_below", "scored"), [(5, 23), (4, 0)])
def test_auto_trains_where_there_are_too_few_calibration_images(raw, cross_fit_below, scored):
    raw["out_of_fold"]["enabled"], raw["calibrate"]["cross_fit_below"] = "auto", cross_fit_below
    params = ready(raw, 2)
    out_of_fold.run(params)
    assert len(read_predictions(params.paths.out_of_fold).image_ids) == scored


def test_a_fold_may_be_left_without_an_image(raw):
    params = ready(raw, 20)  # 18 images
    out_of_fold.run(params)
    assert (read_predictions(params.paths.out_of_fold).scores_NC > 0).all()


def test_where_no_label_is_known_it_says_where_to_look(raw):
    params = ready(raw, 2)
    workspace = Workspace(params.paths)
    rows = workspace.read("deduplicated.labels")
    workspace.write("deduplicated.labels", rows.filter(pc.equal(rows["image_id"], "none")))
    with pytest.raises(TableError, match=r"out_of_fold-0: no image with a known label is left to learn from.*coverage"):
        out_of_fold.run(params)


def embeddings_with(params: Params, state: int) -> np.ndarray:
    """Embeddings when every label is `state`."""
    workspace = Workspace(params.paths)
    rows = workspace.read("deduplicated.labels")
    states = pa.array([state] * rows.num_rows, pa.int8())
    column = rows.column_names.index("state")
    workspace.write("deduplicated.labels", rows.set_column(column, "state", states))
    out_of_fold.run(params)
    return read_predictions(params.paths.out_of_fold).embeddings_ND


def test_embeddings_of_weights_that_have_learned_have_not_seen_these_labels(raw):
    params = ready(raw, 2)
    workspace = Workspace(params.paths)
    network = Network(params.model, workspace.vocabulary(), params.paths.shards, Path("checkpoints"), params.seed)
    states = workspace.states("deduplicated", ["set/01"])
    model, _ = build_model(network, params.finetune.loss, where="finetune.loss", states=states, start=None)
    head = {"name": params.model.head.name, "options": {}}
    save_model(params.paths.pretrained, model, {"head": head, "image_px": [16, 16], "resize": "stretch"})
    np.testing.assert_array_equal(embeddings_with(params, 0), embeddings_with(params, 1))


def test_random_weights_say_less_than_those_of_the_first_fold(raw):
    params = ready(raw, 2)
    assert not np.array_equal(embeddings_with(params, 0), embeddings_with(params, 1))
