"""137 photographs with 73 labels, scored by a model that learned from them: the default policy leaves them alone."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from tasks.cleaning.base import TO_ABSENT, TO_PRESENT, TO_UNKNOWN
from tasks.cleaning.consensus import Consensus
from tasks.cleaning.weak_sources import Neighbours, SourceScores
from tasks.nn.backbone import build_backbone
from tests.benchmarks.systematic_errors import out_of_fold

SIDE = (96, 96)


@pytest.fixture(scope="module")
def project(real_data) -> tuple[SourceScores, np.ndarray]:
    """Out-of-fold scores and neighbours by frozen EfficientNet-Lite0, and the annotations."""
    named: dict[str, set[int]] = {}
    for part in ("train", "val"):
        content = json.loads((real_data / f"coco/annotations/instances_{part}.json").read_text(encoding="utf-8"))
        file_of = {image["id"]: image["file_name"] for image in content["images"]}
        named |= {name: set() for name in file_of.values()}
        for annotation in content["annotations"]:
            if not annotation["iscrowd"]:
                named[file_of[annotation["image_id"]]].add(annotation["category_id"])
    categories = sorted(set.union(*named.values()))
    labels_NC = np.array([[c in named[name] for c in categories] for name in sorted(named)], np.uint8)
    weights = real_data / "weights/tf_efficientnet_lite0.imagenet.safetensors"
    net = build_backbone("tf_efficientnet_lite0", weights=str(weights), options={}, image_px=SIDE).eval()
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (net.mean, net.std))
    pictures = [Image.open(real_data / "coco/images" / name).convert("RGB").resize(SIDE) for name in sorted(named)]
    pixels = torch.from_numpy(np.stack([np.array(p) for p in pictures])).permute(0, 3, 1, 2).float() / 255
    with torch.inference_mode():
        features_NF = net((pixels - mean) / std).mean((2, 3)).numpy()
    known_NC = np.ones(labels_NC.shape, bool)
    model_NC = out_of_fold(features_NF, labels_NC, known_NC)
    neighbours_NC = Neighbours(features_NF, labels_NC.astype(np.int8)).share(np.arange(len(labels_NC)))
    return SourceScores(model_NC, (), neighbours_NC), labels_NC


def decided(scores: SourceScores, labels_NC: np.ndarray, policy: Consensus):
    known_NC = np.ones(labels_NC.shape, bool)
    fitted = policy.fit(scores, labels_NC, known_NC)
    return fitted, fitted(scores, labels_NC, known_NC)


def test_by_default_everything_is_asked_and_nothing_changed(project):
    fitted, decisions = decided(*project, Consensus())
    assert not decisions.action_NC.any()
    assert "cannot tell" in fitted.messages[0]
    assert (decisions.p_wrong_NC > 0.5).any()


def test_even_with_a_vendor_and_no_least_number_only_labels_that_it_knows_change_and_few_lose_much(project):
    """It knows three labels of four, and names them on 19 of 20 images that have them; the others it guesses."""
    (scores, labels_NC), rng = project, np.random.default_rng(0)
    knows_C = np.arange(labels_NC.shape[1]) % 4 < 3
    named_NC = rng.random(labels_NC.shape) < np.where(knows_C, np.where(labels_NC == 1, 0.95, 0.002), labels_NC.mean(0))
    given_NC = np.where(rng.random(labels_NC.shape) < 0.2, 0, labels_NC).astype(np.uint8)
    scores = SourceScores(scores.model_NC, (named_NC.astype(float),), scores.neighbours_NC)
    _, decisions = decided(scores, given_NC, Consensus(min_images=0, min_positives=5))
    invented_C = (decisions.action_NC == TO_PRESENT).sum(axis=0)
    assert invented_C[knows_C].any()
    assert not invented_C[~knows_C].any()
    lost_NC = np.isin(decisions.action_NC, (TO_ABSENT, TO_UNKNOWN)) & (given_NC == 1)
    assert (lost_NC.sum(axis=0) <= 0.5 * given_NC.sum(axis=0)).all()
