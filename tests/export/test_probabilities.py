"""Calibrated probabilities inside the exported file."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tasks.export.manifest import Manifest
from tasks.export.onnx_file import parity
from tasks.export.probabilities import Calibrated, calibrated
from tasks.export.runtime import open_session
from tasks.thresholds.probability_calibration import calibrate
from tests.export import toy

PLATT = {"slope": 0.5, "intercept": -1.0}
STEPS = {"scores": [0.2, 0.4, 0.41, 0.9], "probabilities": [0.1, 0.1, 0.6, 0.95]}
MAPS = [PLATT, None, STEPS, None, PLATT]


def test_the_graph_computes_what_numpy_does():
    scores = np.random.default_rng(0).random((200, 5)).astype(np.float32)
    scores[0], scores[1] = 0, 1
    scores[2:6, 2] = STEPS["scores"]
    by_torch = Calibrated(MAPS)(torch.from_numpy(scores)).numpy()
    np.testing.assert_allclose(by_torch, calibrated(scores, MAPS), atol=5e-5)
    np.testing.assert_array_equal(by_torch[:, [1, 3]], scores[:, [1, 3]])


@pytest.mark.parametrize("method", ["platt", "temperature", "isotonic"])
def test_the_map_of_thresholds_json_gives_the_scores_that_thresholds_were_fitted_on(method):
    rng = np.random.default_rng(0)
    scores = rng.random((300, 2)).astype(np.float32)
    fitted = calibrate(scores, (rng.random((300, 2)) < scores**2).astype(np.uint8), np.ones((300, 2), bool), method)
    maps = [one_map.as_dict() for one_map in fitted.maps]
    np.testing.assert_allclose(Calibrated(maps)(torch.from_numpy(scores)).numpy(), fitted(scores), atol=5e-5)


def test_the_file_scores_as_torch_after_calibration(tmp_path):
    model = toy.tagger()
    path = toy.exported(tmp_path, model, probabilities=MAPS, implications=())
    assert parity(path, model, toy.pixels()).max_score_difference < 1e-4
    scores_BC = open_session(path)[0].run(["scores"], {"images": toy.pixels()})[0]
    with torch.inference_mode():
        plain_BC = model.scores(model(torch.from_numpy(toy.pixels()).permute(0, 3, 1, 2))).numpy()
    np.testing.assert_allclose(scores_BC[:, 1], plain_BC[:, 1], atol=5e-5)
    np.testing.assert_allclose(scores_BC[:, 0], 1 / (1 + np.exp(1) * np.sqrt(1 / plain_BC[:, 0] - 1)), atol=1e-4)


def test_the_manifest_tells_of_calibration_only_where_there_is_any():
    assert "probabilities" not in toy.manifest().as_metadata()
    manifest = toy.manifest(probabilities=MAPS)
    assert Manifest.from_metadata(manifest.as_metadata()).probabilities == MAPS
