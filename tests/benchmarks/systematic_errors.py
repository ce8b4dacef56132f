"""Labels lost on images that something visible decides, as third-party exports have them: docs/cleaning.md.

    python -m tests.benchmarks.systematic_errors [--features FILE] [--images train] [--only PATTERN … | --beside 25]

VOC 2007 with its official lists and xml: patterns of loss, one at a time; the rest is right. *three at once* are
every chair beside a dining table, every person in a picture higher than wide, and every bottle in one batch of ids.
Patterns that need no pixels with the sources of `cleaning` on 2,000 test images (a detector and a vendor that know
nothing of the annotations), and all of them on 5,008 trainval images, or 2,500 of train, with a model of our own that
learned from the annotations as they are: EfficientNet-Lite0 as ImageNet left it (160 px, stretched), the first 200
principal components of its 1,280 features, a logistic regression a label (scikit-learn, C = 0.1), 5 folds, and 15
nearest neighbours. A person who knows the truth answers a queue of 200.

--beside: instead, each label lost beside each other one with which it is on so many images or more.
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

from tasks.cleaning.base import TO_ABSENT, TO_PRESENT, TO_UNKNOWN
from tasks.cleaning.consensus import Consensus
from tasks.cleaning.decisions import decide_in_gaps
from tasks.cleaning.weak_sources import Neighbours, SourceScores
from tasks.core.gaps import Gap, mask_of
from tasks.core.gaps_shown import Shown, all_gaps
from tasks.core.states import States
from tasks.review.queue import QuestionQueue
from tests.benchmarks.cleaning import KITS, read_scores
from tests.benchmarks.noise_shapes import LABELS

VOC = KITS.parent / "voc"
WEIGHTS = KITS.parent / "weights" / "tf_efficientnet_lite0.imagenet.safetensors"
IMAGE_PX, COMPONENTS, FOLDS, BUDGET = 160, 200, 5, 200


Lost = tuple[str, np.ndarray]  # a label, and the images that lose it, bool (N,)


@dataclass(frozen=True)
class Official:
    """ids: N.  true_NC: int8 in {1, 0, -1 difficult}.  size_N2: int, width and height in px.

    largest_NC: of each label's boxes the largest, as a share of the image; 0 without one.
    number_NC: objects of each label that are not difficult.  whole_NC: those of them that the picture does not cut off.
    tones_NT: as of `tasks.training.folds.tones`; None where the pictures are not at hand.
    """

    ids: list[str]
    true_NC: np.ndarray
    size_N2: np.ndarray
    largest_NC: np.ndarray
    number_NC: np.ndarray
    whole_NC: np.ndarray
    tones_NT: np.ndarray | None = None

    def take(self, ids: list[str], tones_NT: np.ndarray | None = None) -> Official:
        """These images, of which the tones are given here."""
        row_of = {image_id: n for n, image_id in enumerate(self.ids)}
        rows = [row_of[image_id] for image_id in ids]
        of_objects = (of[rows] for of in (self.largest_NC, self.number_NC, self.whole_NC))
        return Official(ids, self.true_NC[rows], self.size_N2[rows], *of_objects, tones_NT)

    def has(self, label: str) -> np.ndarray:
        return self.true_NC[:, LABELS.index(label)] == 1

    @property
    def three_at_once(self) -> list[Lost]:
        (width_N, height_N), place_N = self.size_N2.T, np.arange(len(self.ids)) / len(self.ids)
        upright, batch = ("person", width_N < height_N), ("bottle", (place_N >= 0.4) & (place_N < 0.6))
        return [("chair", self.has("diningtable")), upright, batch]

    @property
    def patterns(self) -> dict[str, list[Lost]]:
        wide_N, (width_N, height_N) = self.size_N2[:, 0] / self.size_N2[:, 1], self.size_N2.T
        place_N = np.arange(len(self.ids)) / len(self.ids)
        beside = [("person", "horse"), ("person", "bicycle"), ("person", "chair"), ("car", "person")]
        beside += [("chair", "person"), ("chair", "sofa"), ("tvmonitor", "chair")]
        present_NC = self.true_NC == 1
        others_NC = present_NC.sum(axis=1, keepdims=True) - present_NC
        of_objects = self.largest_NC, self.number_NC, self.whole_NC
        largest, number, whole = (dict(zip(LABELS, of_NC.T, strict=True)) for of_NC in of_objects)
        cut_off = {label: (number[label] > 0) & (whole[label] == 0) for label in ("person", "dog")}
        small = {"chair": 0.03, "car": 0.05, "person": 0.05, "tvmonitor": 0.05}
        toned: dict[str, list[Lost]] = {}
        if self.tones_NT is not None:
            dark_N, grey_N = (t < np.quantile(t, s) for t, s in zip(self.tones_NT.T[:2], (0.25, 0.1), strict=True))
            toned = {f"{label}, darkest quarter": [(label, dark_N)] for label in ("person", "car", "bottle")}
            toned |= {f"{label}, greyest tenth": [(label, grey_N)] for label in ("person", "car")}
        return {
            "three at once": self.three_at_once,
            **{f"{lost} beside {other}": [(lost, self.has(other))] for lost, other in beside},
            "car, wider than 1.45": [("car", wide_N > 1.45)],
            "cat, 500 x 375 px": [("cat", (width_N == 500) & (height_N == 375))],
            "car, last fifth of the ids": [("car", place_N >= 0.8)],
            "person, every fifth id": [("person", np.arange(len(self.ids)) % 5 == 0)],
            **{
                f"{label}, under {100 * s:g} % of the image": [(label, largest[label] < s)]
                for label, s in small.items()
            },
            **{f"{label}, all cut off": [(label, images_N)] for label, images_N in cut_off.items()},
            **{f"{label}, only one": [(label, number[label] == 1)] for label in ("chair", "car")},
            "chair, two or more": [("chair", number["chair"] >= 2)],
            **toned,
            "person, two others or more": [("person", others_NC[:, LABELS.index("person")] >= 2)],
            "chair, two others or more": [("chair", others_NC[:, LABELS.index("chair")] >= 2)],
            "dog, with any other": [("dog", others_NC[:, LABELS.index("dog")] >= 1)],
            "person, alone": [("person", others_NC[:, LABELS.index("person")] == 0)],
        }

    def pairs(self, least: int) -> dict[str, list[Lost]]:
        """Each label beside each other one, where they are together on `least` images or more."""
        together_CC = (self.true_NC == 1).T.astype(int) @ (self.true_NC == 1)
        pairs = [(LABELS[c], LABELS[d]) for c, d in np.argwhere(together_CC >= least) if c != d]
        return {f"{lost} beside {other}": [(lost, self.has(other))] for lost, other in pairs}


def read_official(name: str) -> Official:
    """name: of an official list, trainval | train | test."""
    states: dict[str, dict[str, int]] = {}
    sizes: dict[str, list[int]] = {}
    of_objects: dict[str, np.ndarray] = {}
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
                of_objects[path.stem] = objects_in(text, *sizes[path.stem])
    ids = sorted(states[LABELS[0]])
    true_NC = np.array([[states[label][image_id] for label in LABELS] for image_id in ids], np.int8)
    size_N2 = np.array([sizes[image_id] for image_id in ids])
    return Official(ids, true_NC, size_N2, *np.array([of_objects[image_id] for image_id in ids]).swapaxes(0, 1))


def objects_in(xml: str, width: int, height: int) -> np.ndarray:
    """Of each label, see `Official`: the largest, the number, and those that are whole; float (3, C)."""
    seen_3C = np.zeros((3, len(LABELS)))
    for thing in re.findall(r"<object>.*?</object>", xml, re.DOTALL):
        left, top, right, bottom = (
            float(re.search(rf"<{s}>([\d.]+)", thing)[1]) for s in ("xmin", "ymin", "xmax", "ymax")
        )
        c = LABELS.index(re.search(r"<name>(\w+)", thing)[1])
        seen_3C[0, c] = max(seen_3C[0, c], (right - left) * (bottom - top) / (width * height))
        if "<difficult>1" not in thing:
            seen_3C[1:, c] += 1, "<truncated>1" not in thing
    return seen_3C


def without_lost(official: Official, lost: list[Lost]) -> np.ndarray:
    """Annotations uint8 (N, C)."""
    given_NC = official.true_NC.clip(0).astype(np.uint8)
    for label, images_N in lost:
        given_NC[images_N, LABELS.index(label)] = 0
    return given_NC


# ---------------------------------------------------------------- a model of our own


def read_features(kept: Path | None) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Ids, features float32 (N, 1280) and tones float32 (N, 3) of the trainval images."""
    if kept is None or not kept.exists():
        ids, features_NF, tones_NT = _features()
        if kept is not None:
            np.savez(kept, ids=np.array(ids), features=features_NF.astype(np.float16), tones=tones_NT)
        return ids, features_NF, tones_NT
    stored = np.load(kept)
    return stored["ids"].tolist(), stored["features"].astype(np.float32), stored["tones"]


def _features() -> tuple[list[str], np.ndarray, np.ndarray]:
    import torch
    from PIL import Image

    from tasks.nn.backbone import build_backbone
    from tasks.training.folds import tones

    side = (IMAGE_PX, IMAGE_PX)
    net = build_backbone("tf_efficientnet_lite0", weights=str(WEIGHTS), options={}, image_px=side).eval()
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (net.mean, net.std))
    ids, features, toned = [], [], []
    with tarfile.open(VOC / "VOC2007-trainval/images.tar") as archive, torch.inference_mode():
        for member in (m for m in archive if m.name.endswith(".jpg")):
            data = archive.extractfile(member).read()
            picture = Image.open(io.BytesIO(data)).convert("RGB").resize(side, Image.Resampling.BILINEAR)
            pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)
            features.append(net(((pixels.float() / 255 - mean) / std)[None]).mean((2, 3))[0].numpy())
            toned.append(tones(pixels[None])[0].numpy())
            ids.append(Path(member.name).stem)
    return ids, np.array(features), np.array(toned)


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


def gaps_in(official: Official, given_NC: np.ndarray, features_NF: np.ndarray | None = None) -> list[Gap]:
    """What `clean` takes for gaps of annotation."""
    states = States.of(official.ids, list(LABELS), given_NC, official.true_NC >= 0)
    width_N, height_N = official.size_N2.T
    columns = {"image_id": official.ids, "source": ["voc"] * len(official.ids), "width": width_N, "height": height_N}
    coverage = pa.table({"source": ["voc"] * len(LABELS), "label": list(LABELS)})
    shown = Shown(features_NF, official.tones_NT, np.arange(len(official.ids)))
    return all_gaps(states, pa.table(columns), coverage, shown)


def print_row(name: str, official: Official, given_NC: np.ndarray, gaps: list[Gap], scores: SourceScores) -> None:
    """What the policy changed, what the queue asked, and the gaps that it saw."""
    known_NC = official.true_NC >= 0
    states = States.of(official.ids, list(LABELS), given_NC, known_NC)
    gap_NC, only_asked_NC = mask_of(gaps, states), mask_of([gap for gap in gaps if gap.only_asked], states)
    errors_NC = (given_NC != official.true_NC) & known_NC
    fitted = Consensus().fit(scores, given_NC, known_NC & ~gap_NC)
    decisions = fitted(scores, given_NC, known_NC & ~gap_NC)
    decisions = decide_in_gaps(decisions, gap_NC, fitted.fill_from_C, only_asked_NC)
    queue = QuestionQueue(states, budget=BUDGET, audit_share=0.1, seed=0)
    queue.add(np.arange(len(given_NC)), decisions.p_present_NC, decisions.p_wrong_NC, gap_NC)
    row_of, asked_NC = {image_id: n for n, image_id in enumerate(official.ids)}, np.zeros(given_NC.shape, bool)
    for question in queue.ranked().to_pylist():
        asked_NC[row_of[question["image_id"]], LABELS.index(question["label"])] = True
    changed_NC = np.isin(decisions.action_NC, (TO_PRESENT, TO_ABSENT))
    unknown_NC = decisions.action_NC == TO_UNKNOWN
    covered_NC = changed_NC | asked_NC
    seen = ", ".join(f"{gap.label} {len(gap.rows)}" for gap in gaps)
    print(
        f"| {name} | {errors_NC.sum()} | {changed_NC.sum()} / {errors_NC[changed_NC].sum()} | "
        f"{unknown_NC.sum()} / {errors_NC[unknown_NC].sum()} | {asked_NC.sum()} / {errors_NC[asked_NC].sum()} | "
        f"{_share(covered_NC[errors_NC])} | {_share((covered_NC | unknown_NC)[errors_NC])} | {seen} |",
        flush=True,
    )


def _share(covered_K: np.ndarray) -> str:
    return f"{covered_K.mean():.2f}" if len(covered_K) else ""


def main(argv: list[str] | None = None) -> None:
    """Print the table as Markdown."""
    parser = argparse.ArgumentParser(prog="systematic_errors", description=__doc__.splitlines()[0])
    parser.add_argument("--features", type=Path)
    parser.add_argument("--images", choices=("trainval", "train"), default="trainval", help="of the official lists")
    parser.add_argument("--beside", type=int, default=None, metavar="IMAGES")
    parser.add_argument("--only", nargs="+", default=None, help="patterns")
    options = parser.parse_args(argv)
    columns = ("lost", "errors", "changed / right", "unknown / lost", "asked / lost", "changed or asked", "or unknown")
    print(f"| {' | '.join(columns)} | gaps, images |\n|{'---|' * (len(columns) + 1)}")
    real = read_scores()
    named = list(json.loads((KITS / "voc2007_test_vendor.json").read_text(encoding="utf-8")))
    official = read_official("test").take(named)
    assert (official.true_NC == real.true_NC).all()
    scores = SourceScores(real.detector_NC, (real.vendor_NC,), np.full(real.true_NC.shape, np.nan))
    for name, lost in official.patterns.items() if options.beside is None else ():
        if not options.only or name in options.only:
            given_NC = without_lost(official, lost)
            print_row(f"{name}, by detector and vendor", official, given_NC, gaps_in(official, given_NC), scores)
    ids, features_NF, tones_NT = read_features(options.features)
    official = read_official(options.images)
    wanted = set(official.ids)
    listed = [n for n, image_id in enumerate(ids) if image_id in wanted]
    ids, features_NF = [ids[n] for n in listed], features_NF[listed]
    official = official.take(ids, tones_NT[listed])
    patterns = official.patterns if options.beside is None else official.pairs(options.beside)
    rows = {"nothing": ([], True), **{name: (lost, True) for name, lost in patterns.items()}}
    if options.beside is None:
        rows["three at once, gaps believed"] = official.three_at_once, False
    for name, (lost, looks) in rows.items():
        if options.only and name not in options.only:
            continue
        given_NC = without_lost(official, lost)
        gaps = gaps_in(official, given_NC, features_NF) if looks else []
        gap_NC = mask_of(gaps, States.of(ids, list(LABELS), given_NC, official.true_NC >= 0))
        known_NC = (official.true_NC >= 0) & ~gap_NC
        model_NC = out_of_fold(features_NF, given_NC, known_NC)
        neighbours_NC = Neighbours(features_NF, np.where(known_NC, given_NC, -1)).share(np.arange(len(ids)))
        print_row(name, official, given_NC, gaps, SourceScores(model_NC, (), neighbours_NC))


if __name__ == "__main__":
    main()
