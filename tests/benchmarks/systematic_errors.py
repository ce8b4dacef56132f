"""Labels lost on images that something visible decides, as third-party exports have them: docs/cleaning.md.

    python -m tests.benchmarks.systematic_errors [--features FILE]

VOC 2007 with its official lists and xml. Lost are every chair beside a dining table, every person in a picture higher
than wide, and every bottle in one batch of ids; the rest is right. Once with the sources of `cleaning` on 2,000 test
images (a detector and a vendor that know nothing of the annotations), once on 5,008 trainval images with a model of our
own that learned from the annotations as they are: EfficientNet-Lite0 as ImageNet left it (160 px, stretched), the first
200 principal components of its 1,280 features, a logistic regression a label (scikit-learn, C = 0.1), 5 folds, and 15
nearest neighbours. A person who knows the truth answers a queue of 200.

--features: a .npz that keeps the features between runs.
"""

from __future__ import annotations

import argparse
import io
import json
import re
import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from tasks.cleaning.base import KEEP, TO_ABSENT, TO_PRESENT, TO_UNKNOWN
from tasks.cleaning.consensus import Consensus
from tasks.cleaning.decisions import decide_in_gaps
from tasks.cleaning.noise import error_probability
from tasks.cleaning.weak_sources import Neighbours, SourceScores
from tasks.core.gaps import find_gaps, gaps_beside, mask_of, without
from tasks.core.states import States
from tasks.review.queue import QuestionQueue
from tests.benchmarks.cleaning import KITS, read_scores
from tests.benchmarks.noise_shapes import LABELS

VOC = KITS.parent / "voc"
WEIGHTS = KITS.parent / "weights" / "tf_efficientnet_lite0.imagenet.safetensors"
IMAGE_PX, COMPONENTS, FOLDS, BUDGET = 160, 200, 5, 200


@dataclass(frozen=True)
class Official:
    """ids: N.  true_NC: int8 in {1, 0, -1 difficult}.  size_N2: int, width and height in px."""

    ids: list[str]
    true_NC: np.ndarray
    size_N2: np.ndarray

    def take(self, ids: list[str]) -> Official:
        row_of = {image_id: n for n, image_id in enumerate(self.ids)}
        rows = [row_of[image_id] for image_id in ids]
        return Official(ids, self.true_NC[rows], self.size_N2[rows])


def read_official(name: str) -> Official:
    """name: trainval | test."""
    states: dict[str, dict[str, int]] = {}
    sizes: dict[str, list[int]] = {}
    with tarfile.open(VOC / "VOC2007.tar.gz") as archive:
        for member in archive:
            path = Path(member.name)
            label, _, part = path.stem.rpartition("_")
            if path.suffix == ".txt" and part == name and label in LABELS:
                lines = (line.split() for line in archive.extractfile(member).read().decode().splitlines())
                states[label] = {image_id: {"1": 1, "-1": 0, "0": -1}[state] for image_id, state in lines}
            elif path.suffix == ".xml":
                text = archive.extractfile(member).read().decode()
                sizes[path.stem] = [int(re.search(rf"<{side}>(\d+)", text)[1]) for side in ("width", "height")]
    ids = sorted(states[LABELS[0]])
    true_NC = np.array([[states[label][image_id] for label in LABELS] for image_id in ids], np.int8)
    return Official(ids, true_NC, np.array([sizes[image_id] for image_id in ids]))


def lose(official: Official) -> np.ndarray:
    """Annotations uint8 without the lost labels."""
    given_NC = official.true_NC.clip(0).astype(np.uint8)
    chair, table, person, bottle = (LABELS.index(label) for label in ("chair", "diningtable", "person", "bottle"))
    batch_N = np.arange(len(official.ids)) // (len(official.ids) // 5) == 2  # the third fifth of the ids
    given_NC[given_NC[:, table] == 1, chair] = 0
    given_NC[official.size_N2[:, 1] > official.size_N2[:, 0], person] = 0
    given_NC[batch_N, bottle] = 0
    return given_NC


# ---------------------------------------------------------------- a model of our own


def read_features(kept: Path | None) -> tuple[list[str], np.ndarray]:
    """Ids and features float32 (N, 1280) of the trainval images."""
    if kept is None or not kept.exists():
        ids, features_NF = _features()
        if kept is not None:
            np.savez(kept, ids=np.array(ids), features=features_NF.astype(np.float16))
        return ids, features_NF
    stored = np.load(kept)
    return stored["ids"].tolist(), stored["features"].astype(np.float32)


def _features() -> tuple[list[str], np.ndarray]:
    import torch
    from PIL import Image

    from tasks.nn.backbone import build_backbone

    side = (IMAGE_PX, IMAGE_PX)
    net = build_backbone("tf_efficientnet_lite0", weights=str(WEIGHTS), options={}, image_px=side).eval()
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (net.mean, net.std))
    ids, features = [], []
    with tarfile.open(VOC / "VOC2007-trainval/images.tar") as archive, torch.inference_mode():
        for member in (m for m in archive if m.name.endswith(".jpg")):
            data = archive.extractfile(member).read()
            picture = Image.open(io.BytesIO(data)).convert("RGB").resize(side, Image.Resampling.BILINEAR)
            pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 255
            features.append(net(((pixels - mean) / std)[None]).mean((2, 3))[0].numpy())
            ids.append(Path(member.name).stem)
    return ids, np.array(features)


def out_of_fold(features_NF: np.ndarray, given_NC: np.ndarray, known_NC: np.ndarray) -> np.ndarray:
    """P(present) float64 (N, C), each image scored by regressions on the annotations of the other folds."""
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import KFold

    components = min(COMPONENTS, *(size // 2 for size in features_NF.shape))
    reduced_NF = PCA(components, whiten=True, svd_solver="randomized", random_state=0).fit_transform(features_NF)
    scores_NC = np.zeros(given_NC.shape)
    for others, own in KFold(FOLDS, shuffle=True, random_state=0).split(reduced_NF):
        for c in range(given_NC.shape[1]):
            rows = others[known_NC[others, c]]
            if len(set(given_NC[rows, c])) == 2:
                model = LogisticRegression(C=0.1, max_iter=50).fit(reduced_NF[rows], given_NC[rows, c])
                scores_NC[own, c] = model.predict_proba(reduced_NF[own])[:, 1]
    return scores_NC


# ---------------------------------------------------------------- what comes of it


def gaps_in(official: Official, given_NC: np.ndarray, scores_NC: np.ndarray | None = None) -> np.ndarray:
    """What `clean` takes for a gap of annotation; bool (N, C). scores_NC: out of fold; None: what needs no scores."""
    states = States.of(official.ids, list(LABELS), given_NC, official.true_NC >= 0)
    width_N, height_N = official.size_N2.T
    columns = {"image_id": official.ids, "source": ["voc"] * len(official.ids), "width": width_N, "height": height_N}
    tables = pa.table(columns), pa.table({"source": ["voc"] * len(LABELS), "label": list(LABELS)})
    gaps = find_gaps(states, *tables)
    if scores_NC is not None:
        gaps += gaps_beside(without(states, gaps), scores_NC.__getitem__, *tables)
    return mask_of(gaps, states)


def print_row(name: str, official: Official, given_NC: np.ndarray, gap_NC: np.ndarray, scores: SourceScores) -> None:
    """What the policy changed, what the queue asked, and the same for the labels that lost some."""
    known_NC = official.true_NC >= 0
    errors_NC = (given_NC != official.true_NC) & known_NC
    fitted = Consensus().fit(scores, given_NC, known_NC & ~gap_NC)
    decisions = decide_in_gaps(fitted(scores, given_NC, known_NC & ~gap_NC), gap_NC, fitted.fill_from_C)
    queue = QuestionQueue(
        States.of(official.ids, list(LABELS), given_NC, known_NC), budget=BUDGET, audit_share=0.1, seed=0
    )
    queue.add(np.arange(len(given_NC)), decisions.p_present_NC, decisions.p_wrong_NC)
    row_of, asked_NC = {image_id: n for n, image_id in enumerate(official.ids)}, np.zeros(given_NC.shape, bool)
    for question in queue.ranked().to_pylist():
        asked_NC[row_of[question["image_id"]], LABELS.index(question["label"])] = True
    changed_NC = np.isin(decisions.action_NC, (TO_PRESENT, TO_ABSENT))
    unknown_NC = decisions.action_NC == TO_UNKNOWN
    p_error_NC = error_probability(decisions.p_present_NC, given_NC, known_NC)
    first = np.argsort(-p_error_NC.ravel(), kind="stable")[:BUDGET]
    covered_NC = changed_NC | asked_NC
    print(
        f"| {name} | {errors_NC.sum()} | {changed_NC.sum()} / {errors_NC[changed_NC].sum()} | "
        f"{unknown_NC.sum()} / {errors_NC[unknown_NC].sum()} | {asked_NC.sum()} / {errors_NC[asked_NC].sum()} | "
        f"{covered_NC[errors_NC].mean():.2f} | {(covered_NC | unknown_NC)[errors_NC].mean():.2f} | "
        f"{errors_NC.ravel()[first].sum()} |"
    )
    for label in ("chair", "person", "bottle"):
        c = LABELS.index(label)
        lost_N = errors_NC[:, c]
        parts = (changed_NC, unknown_NC, asked_NC)
        shown = ", ".join(f"{part[lost_N, c].sum()}" for part in parts)
        print(f"    {label}: lost {lost_N.sum()}; changed, unknown, asked: {shown}")
    assert not (decisions.action_NC[~known_NC] != KEEP).any()


def main(argv: list[str] | None = None) -> None:
    """Print the table as Markdown."""
    parser = argparse.ArgumentParser(prog="systematic_errors", description=__doc__.splitlines()[0])
    parser.add_argument("--features", type=Path)
    options = parser.parse_args(argv)
    columns = (
        "sources",
        "lost",
        "changed / right",
        "unknown / lost",
        "asked / lost",
        "changed or asked",
        "with unknown",
    )
    print(f"| {' | '.join(columns)} | first 200 |\n|{'---|' * (len(columns) + 1)}")
    real = read_scores()
    named = list(json.loads((KITS / "voc2007_test_vendor.json").read_text(encoding="utf-8")))
    official = read_official("test").take(named)
    assert (official.true_NC == real.true_NC).all()
    scores = SourceScores(real.detector_NC, (real.vendor_NC,), np.full(real.true_NC.shape, np.nan))
    given_NC = lose(official)
    print_row("detector, vendor", official, given_NC, gaps_in(official, given_NC, scores.model_NC), scores)
    ids, features_NF = read_features(options.features)
    official = read_official("trainval").take(ids)
    given_NC = lose(official)
    for name, looks in (("own model, neighbours", True), ("the same, gaps believed", False)):
        gap_NC = gaps_in(official, given_NC) & looks
        known_NC = official.true_NC >= 0
        model_NC = out_of_fold(features_NF, given_NC, known_NC & ~gap_NC)
        gap_NC = gaps_in(official, given_NC, model_NC) & looks
        states_NC = np.where(known_NC & ~gap_NC, given_NC, -1)
        neighbours_NC = Neighbours(features_NF, states_NC).share(np.arange(len(ids)))
        print_row(name, official, given_NC, gap_NC, SourceScores(model_NC, (), neighbours_NC))


if __name__ == "__main__":
    main()
