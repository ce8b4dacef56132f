"""The calibrate stage where few images are there to calibrate on: train images join, scored out of fold."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import yaml

from tasks.core.prediction_table import Predictions
from tasks.core.workspace import Workspace
from tasks.params import parse_params
from tasks.stages import calibrate
from tests.stages.conftest import LABELS, PARTITIONS

NUM_TRAIN_KNOWN = 13
"""Train images of which something is known."""


@pytest.fixture
def thresholds(raw):
    """thresholds(cross_fit_below, own scores of train images, with out-of-fold scores) -> thresholds.json."""
    paths = parse_params(raw).paths
    workspace = Workspace(paths)
    shutil.copytree(paths.cleaned, paths.deduplicated)
    paths.taxonomy.parent.mkdir(parents=True)
    paths.taxonomy.write_text(yaml.safe_dump({"labels": [{"id": label} for label in LABELS]}), encoding="utf-8")
    rows = workspace.read("splits").to_pylist()
    ids, partitions = [row["image_id"] for row in rows], [row["partition"] for row in rows]
    out_of_fold_NC = np.random.default_rng(0).random((len(ids), 2)).astype(np.float32)

    def made(cross_fit_below: int, *, own: float = 0.5, with_out_of_fold: bool = True) -> dict:
        own_NC = np.where(np.array(partitions)[:, None] == "train", np.float32(own), out_of_fold_NC)
        workspace.write_predictions("predictions", Predictions(ids, partitions, LABELS, own_NC, "", "raw"))
        kept = len(ids) if with_out_of_fold else 0
        folds = Predictions(ids[:kept], partitions[:kept], LABELS, out_of_fold_NC[:kept], "", "raw")
        workspace.write_predictions("out_of_fold", folds)
        section = {**raw["calibrate"], "cross_fit_below": cross_fit_below, "bootstrap": 0}
        calibrate.run(parse_params({**raw, "calibrate": section}))
        return json.loads(paths.thresholds.read_text(encoding="utf-8"))

    return made


def notes() -> list[str]:
    return json.loads(open("data/reports/ledger/calibrate.json", encoding="utf-8").read())["notes"]


def supports(document: dict) -> int:
    return sum(entry["support"] for entry in document["labels"].values())


def test_train_images_join_with_their_out_of_fold_scores_where_calibration_images_are_few(thresholds):
    few, joined = thresholds(0), thresholds(PARTITIONS["calibration"] + 1)
    # each image has one of the two labels
    assert (supports(few), supports(joined)) == (PARTITIONS["calibration"], PARTITIONS["calibration"] + NUM_TRAIN_KNOWN)
    assert joined["out_of_fold_images"] == NUM_TRAIN_KNOWN
    assert notes() == ["4 calibration images, fewer than 5: thresholds cross-fitted, train images join"]


def test_what_the_model_says_of_images_that_it_trained_on_moves_no_threshold(thresholds):
    assert thresholds(100, own=0.1) == thresholds(100, own=0.9)


def test_with_as_many_calibration_images_as_asked_for_they_stay_alone(thresholds):
    document = thresholds(PARTITIONS["calibration"])
    assert (supports(document), "out_of_fold_images" in document, notes()) == (PARTITIONS["calibration"], False, [])


def test_without_out_of_fold_scores_it_is_said(thresholds):
    assert supports(thresholds(100, with_out_of_fold=False)) == PARTITIONS["calibration"]
    assert notes() == ["4 calibration images, fewer than 100: thresholds of these alone, out_of_fold is off"]
