"""Cleaning, then a linear classifier on frozen features of real photographs: docs/cleaning.md.

    python -m tests.benchmarks.cleaning_probe [--seeds 5] [--unknown-from 0.25] [--false-negative 0.3]
        [--false-positive 0.04] [--image-px 160]

The cheap sibling of `cleaning_training --data photographs`: the same photographs, six labels, planted errors, test
images and four labellings, but MobileNetV2 stays as ImageNet left it (160 px) and a logistic regression a label learns
from its 1,280 features. Sources of the policy: out-of-fold scores of that regression (5 folds) and the 15 nearest
neighbours. scikit-learn's default regularisation throughout, features standardised; nothing is tuned on the truth.
"""

from __future__ import annotations

import argparse
import tarfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold

from tasks.cleaning.base import TO_ABSENT, TO_PRESENT, TO_UNKNOWN
from tasks.cleaning.consensus import Consensus
from tasks.cleaning.weak_sources import Neighbours, SourceScores
from tasks.core.states import States
from tasks.nn.backbone import build_backbone
from tasks.review.queue import QuestionQueue
from tests.benchmarks.cleaning import plant
from tests.benchmarks.cleaning_training import (
    ANIMALS,
    FALSE_NEGATIVE,
    FALSE_POSITIVE,
    NUM_TEST,
    PHOTOGRAPHS,
    REAL_DATA,
    Tested,
    print_table,
)

FOLDS = 5


def read_photographs(image_px: int) -> tuple[np.ndarray, np.ndarray]:
    """Standardised features float32 (N, F) and states int8 (N, 6) in {1, 0, -1 difficult}, in order of file name."""
    folder = REAL_DATA / "voc/VOC2012-animals-train"
    backbone = build_backbone(
        "mobilenetv2_100", weights=PHOTOGRAPHS["model"]["backbone"]["weights"], options={}, image_px=(image_px,) * 2
    ).eval()
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (backbone.mean, backbone.std))
    features, states = [], []
    with tarfile.open(folder / "annotations.tar.gz") as archive:
        lists = {name: archive.extractfile(f"VOC2012/ImageSets/Main/{name}_train.txt").read() for name in ANIMALS}
    given = {name: dict(line.split() for line in text.decode().splitlines()) for name, text in lists.items()}
    with tarfile.open(folder / "images.tar") as archive, torch.inference_mode():
        for member in sorted((m for m in archive if m.name.endswith(".jpg")), key=lambda m: m.name):
            picture = Image.open(archive.extractfile(member)).convert("RGB").resize((image_px, image_px))
            pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 255
            features.append(backbone(((pixels - mean) / std)[None]).mean((2, 3))[0].numpy())
            states.append([{"1": 1, "-1": 0, "0": -1}[given[name][Path(member.name).stem]] for name in ANIMALS])
    features_NF = np.array(features)
    return (features_NF - features_NF.mean(0)) / features_NF.std(0), np.array(states, np.int8)


def learn(features_NF: np.ndarray, states_NC: np.ndarray, asked_MF: np.ndarray) -> np.ndarray:
    """P(present) float32 (M, C) by one regression a label, of its known images."""
    scores = []
    for states_N in states_NC.T:
        known = states_N >= 0
        model = LogisticRegression(max_iter=300).fit(features_NF[known], states_N[known])
        scores.append(model.predict_proba(asked_MF)[:, 1])
    return np.array(scores, np.float32).T


def out_of_fold(features_NF: np.ndarray, states_NC: np.ndarray, seed: int) -> np.ndarray:
    """Each image scored by a model of the other folds."""
    scores_NC = np.zeros(states_NC.shape, np.float32)
    for others, own in KFold(FOLDS, shuffle=True, random_state=seed).split(features_NF):
        scores_NC[own] = learn(features_NF[others], states_NC[others], features_NF[own])
    return scores_NC


def clean(
    policy: Consensus, features_NF: np.ndarray, given_NC: np.ndarray, true_NC: np.ndarray, seed: int
) -> tuple[np.ndarray, ...]:
    """States after the policy, and after the true answers to the 200 questions that it leaves."""
    known_NC = given_NC >= 0
    targets_NC = given_NC.clip(0).astype(np.uint8)
    everything = np.arange(len(given_NC))
    neighbours_NC = Neighbours(features_NF, given_NC).share(everything)
    source_scores = SourceScores(out_of_fold(features_NF, given_NC, seed), (), neighbours_NC)
    decisions = policy.fit(source_scores, targets_NC, known_NC)(source_scores, targets_NC, known_NC)
    cleaned_NC = np.select(
        [decisions.action_NC == action for action in (TO_PRESENT, TO_ABSENT, TO_UNKNOWN)], [1, 0, -1], given_NC
    )
    ids = [f"photographs/{n:05d}" for n in range(len(given_NC))]
    states = States.of(ids, list(ANIMALS), targets_NC, known_NC)
    queue = QuestionQueue(states, budget=200, audit_share=0.1, seed=seed)
    queue.add(everything, decisions.p_present_NC, decisions.p_wrong_NC)
    reviewed_NC = cleaned_NC.copy()
    for row in queue.ranked().to_pylist():
        entry = ids.index(row["image_id"]), ANIMALS.index(row["label"])
        reviewed_NC[entry] = true_NC[entry]
    return cleaned_NC, reviewed_NC


def run_seed(
    features_NF: np.ndarray, true_NC: np.ndarray, seed: int, *, policy: Consensus, rates: dict[str, float]
) -> dict[str, Tested]:
    """Learn from each labelling; test on the same images with true labels. rates: of the planted errors."""
    is_test = np.random.default_rng(0).permutation(len(true_NC)) < NUM_TEST
    train_NF, test_MF, train_NC, test_MC = (
        features_NF[~is_test],
        features_NF[is_test],
        true_NC[~is_test],
        true_NC[is_test],
    )
    planted_NC = plant(true_NC, seed, **rates)[~is_test]
    noisy_NC = np.where(train_NC >= 0, planted_NC.astype(np.int8), -1)
    errors_NC = noisy_NC != train_NC
    labellings = train_NC, noisy_NC, *clean(policy, train_NF, noisy_NC, train_NC, seed)
    results = {}
    for name, states_NC in zip(("clean", "noisy", "cleaned", "reviewed"), labellings, strict=True):
        scores_MC = learn(train_NF, states_NC, test_MF)
        left = float((states_NC != train_NC)[errors_NC].mean())
        results[name] = Tested(scores_MC, test_MC.clip(0).astype(np.uint8), test_MC >= 0, left)
    return results


def main(argv: list[str] | None = None) -> None:
    """Print the table as Markdown."""
    parser = argparse.ArgumentParser(prog="cleaning_probe", description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--unknown-from", type=float, default=Consensus().unknown_from, help="of the policy")
    parser.add_argument("--false-negative", type=float, default=FALSE_NEGATIVE, help="share of the positives")
    parser.add_argument("--false-positive", type=float, default=FALSE_POSITIVE, help="share of the negatives")
    parser.add_argument("--image-px", type=int, default=PHOTOGRAPHS["shard"]["short_side_px"])
    options = parser.parse_args(argv)
    data = read_photographs(options.image_px)
    policy = Consensus(unknown_from=options.unknown_from)
    rates = {"false_negative": options.false_negative, "false_positive": options.false_positive}
    runs = [run_seed(*data, seed, policy=policy, rates=rates) for seed in range(options.seeds)]
    print_table("photographs, frozen features", runs)


if __name__ == "__main__":
    main()
