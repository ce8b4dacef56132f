"""The embedded data: scenes of real handwritten digits, written the way four kinds of supplier deliver.

    coco/         images, annotations/instances_{train,test}.json: exhaustive; train has planted label errors, test none
    openimages/   images, human-imagelabels.csv, class-descriptions.csv: some labels verified, the rest unknown
    pool/         images only
    vendor/       predictions.csv: what a vendor's model predicts on the train images, under odd class names

As in real deliveries there are copies among the images, exact and nearly so, and two files that are no readable images.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from tasks.core.errors import ParamsError
from tasks.core.tables import ABSENT, PRESENT, TRUTH
from tasks.demo.new_folder import new_folder
from tasks.demo.scenes import Scene, draw_scene, jpeg, load_glyphs, split_glyphs

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
CATEGORY_IDS = (1, 2, 3, 5, 8, 13, 21, 34, 55, 89)  # with gaps, as COCO's 1..90 for 80 categories
MIDS = tuple(f"/m/digit{digit}" for digit in range(10))
CONFUSABLE = ((6, 8), (7, 4), (3, 7), (8, 5), (9, 1), (3, 6), (0, 5), (1, 9), (3, 0), (4, 7))
VENDOR_NAMES = (
    ("Nought", "0"),
    ("One", "the number one"),
    ("Two", "deux"),
    ("THREE",),
    ("number 4 ",),
    ("five", "fünf"),
    ("six",),
    ("Sieben", "7"),
    ("eight ",),
    ("Nine",),
)
VENDOR_NOISE = ("blurry photo", "handwriting", "six or nine")  # says nothing about any one digit
COCO_SOURCE = "digits_coco"  # the entry under `sources:` whose image ids the truth speaks of

NUM_COPIES = 6  # in COCO train; every second one exact


def write(
    out: Path,
    *,
    seed: int,
    num_coco: int = 2000,
    num_test: int = 500,
    num_openimages: int = 1200,
    num_pool: int = 300,
    image_px: int = 64,
    missing_rate: float = 0.06,
    wrong_rate: float = 0.04,
    verified_share: float = 0.6,
    vendor_recall: float = 0.9,
    vendor_precision: float = 0.9,
) -> pa.Table:
    """Write the whole delivery to the folder `out`, replacing what is there. Equal arguments give equal bytes.

    num_*: scenes of the COCO train and test parts, the Open Images part and the pool; copies and unreadable files come
    on top.  image_px: side of the square scenes.  missing_rate, wrong_rate: shares of the present labels of COCO train
    that lose their annotations, or get those of a digit of similar shape.  verified_share: share of the labels of an
    Open Images scene that people verified.  vendor_recall, vendor_precision: of the vendor's predictions, expected.
    Returns the planted label errors, TRUTH; only the scoring of cleaning reads them.
    Raises ParamsError for a share outside [0, 1] and for too few scenes to plant faults in.
    """
    _check_scenes(num_coco=num_coco, num_pool=num_pool)
    _check_shares(missing_rate=missing_rate, wrong_rate=wrong_rate, verified_share=verified_share)
    _check_shares(vendor_recall=vendor_recall, vendor_precision=vendor_precision)

    # A stream for each part: the size of one changes nothing in another.
    names = ("glyphs", "coco", "noise", "test", "openimages", "pool", "vendor")
    rng = dict(zip(names, np.random.default_rng(seed).spawn(len(names)), strict=True))
    ours, theirs = split_glyphs(load_glyphs(), rng["glyphs"])

    train = [draw_scene(ours, image_px, rng["coco"]) for _ in range(num_coco)]
    train = [plant_errors(scene, missing_rate, wrong_rate, rng["noise"]) for scene in train]
    train += [*planted_copies(train, rng["noise"]), truncated(train[0])]
    test = [draw_scene(theirs, image_px, rng["test"]) for _ in range(num_test)]
    openimages = [draw_scene(ours, image_px, rng["openimages"]) for _ in range(num_openimages)]
    pool = [draw_scene(ours, image_px, rng["pool"]).content for _ in range(num_pool)]
    pool += [pool[0], b"<!doctype html>\n<title>404 Not Found</title>\n"]

    with new_folder(out) as built:
        write_coco(built / "coco", "train", train, image_px, first_id=1)
        write_coco(built / "coco", "test", test, image_px, first_id=100_001)
        write_openimages(built / "openimages", openimages, verified_share, rng["openimages"])
        for number, content in enumerate(pool, start=1):
            _write_bytes(built / "pool" / f"scan_{number:05d}.jpg", content)
        rows = vendor_rows(train, vendor_recall, vendor_precision, rng["vendor"])
        _write_csv(built / "vendor" / "predictions.csv", ("image", "label", "score"), rows)
    return planted_truth(train)


def _check_scenes(**counts: int) -> None:
    for name, count in counts.items():
        if count < 20:
            raise ParamsError(f"make_demo digits: {name} is {count}; expected at least 20, to plant faults among them.")


def _check_shares(**shares: float) -> None:
    for name, share in shares.items():
        if not 0 <= share <= 1:
            raise ParamsError(f"make_demo digits: {name} is {share}; expected a share in [0, 1].")


# ---------------------------------------------------------------- planted faults


def plant_errors(scene: Scene, missing_rate: float, wrong_rate: float, rng: np.random.Generator) -> Scene:
    """The scene with some of its labels forgotten (all boxes of a digit) or taken for a digit of similar shape."""
    given = list(scene.drawn)
    for digit in sorted(scene.digits):
        fate = rng.random()
        if fate < missing_rate:
            given = [d for d in given if d.digit != digit]
        elif fate < missing_rate + wrong_rate:
            free = [other for other in CONFUSABLE[digit] if other not in scene.digits | {d.digit for d in given}]
            if free:
                given = [replace(d, digit=free[0]) if d.digit == digit else d for d in given]
    return replace(scene, given=tuple(given))


def planted_copies(scenes: Sequence[Scene], rng: np.random.Generator) -> list[Scene]:
    """Copies, in turn exact and slightly brighter at lower quality, correctly annotated.

    The first of each kind copies a scene with a planted error, so that two annotations of one picture disagree.
    """
    faulty = [i for i, s in enumerate(scenes) if s.digits != s.given_digits]
    sound = [i for i, s in enumerate(scenes) if s.digits == s.given_digits and s.drawn]
    chosen = [*rng.permutation(faulty)[:2], *rng.permutation(sound)][:NUM_COPIES]
    copies = []
    for number, index in enumerate(chosen):
        original = scenes[index]
        content = original.content if number % 2 == 0 else _brighter(original.content)
        copies.append(Scene(content, original.drawn, original.drawn))
    return copies


def _brighter(content: bytes) -> bytes:
    pixels_HWC = np.asarray(Image.open(io.BytesIO(content)), np.float64)
    return jpeg(pixels_HWC * 1.04 + 4, quality=70)


def truncated(scene: Scene) -> Scene:
    """A correctly annotated scene whose file ends half way."""
    return Scene(scene.content[: len(scene.content) // 2], scene.drawn, scene.drawn)


def planted_truth(train: Sequence[Scene]) -> pa.Table:
    """TRUTH rows of every (image, label) whose annotations are wrong."""
    rows = []
    for number, scene in enumerate(train, start=1):
        true_of_box = {d.box: d.digit for d in scene.drawn}
        mistaken = {true_of_box[d.box] for d in scene.given if true_of_box[d.box] != d.digit}
        for digit in sorted(scene.digits ^ scene.given_digits):
            lost = digit in scene.digits
            kind = "missing" if lost and digit not in mistaken else "wrong"
            given, true = (ABSENT, PRESENT) if lost else (PRESENT, ABSENT)
            rows.append((f"{COCO_SOURCE}/{number}", NAMES[digit], kind, given, true))
    return pa.Table.from_pylist([dict(zip(TRUTH.names, row, strict=True)) for row in rows], TRUTH)


# ---------------------------------------------------------------- what each supplier writes


def write_coco(folder: Path, part: str, scenes: Sequence[Scene], image_px: int, *, first_id: int) -> None:
    """COCO instances JSON of what the scenes are given as, with their images beside it."""
    images, annotations = [], []
    for image_id, scene in enumerate(scenes, start=first_id):
        name = f"{image_id:012d}.jpg"
        _write_bytes(folder / "images" / name, scene.content)
        images.append({"id": image_id, "file_name": name, "width": image_px, "height": image_px, "license": 1})
        for d in scene.given:
            annotations.append(
                {
                    "id": first_id + len(annotations),
                    "image_id": image_id,
                    "category_id": CATEGORY_IDS[d.digit],
                    "bbox": list(d.box),
                    "area": d.area,
                    "segmentation": [],
                    "iscrowd": 0,
                }
            )
    content = {
        "info": {"description": f"Scenes of handwritten digits, {part} part", "version": "1.0"},
        "licenses": [{"id": 1, "name": "CC BY 4.0", "url": "https://creativecommons.org/licenses/by/4.0/"}],
        "images": images,
        "annotations": annotations,
        "categories": [
            {"id": category_id, "name": name, "supercategory": "digit"}
            for category_id, name in zip(CATEGORY_IDS, NAMES, strict=True)
        ],
    }
    _write_bytes(folder / "annotations" / f"instances_{part}.json", json.dumps(content).encode())


def write_openimages(folder: Path, scenes: Sequence[Scene], verified_share: float, rng: np.random.Generator) -> None:
    """Images, and verdicts on a random `verified_share` of their ten labels, confidence spelled as both 1 and 1.0."""
    rows = []
    for scene in scenes:
        image_id = f"{rng.integers(2**63):016x}"
        _write_bytes(folder / "images" / f"{image_id}.jpg", scene.content)
        for digit in np.flatnonzero(rng.random(10) < verified_share):
            present = int(digit in scene.digits)
            if rng.random() < 0.5:
                rows.append((image_id, "verification", MIDS[digit], f"{present}"))
            else:
                rows.append((image_id, "crowdsource-verification", MIDS[digit], f"{present:.1f}"))
    _write_csv(folder / "human-imagelabels.csv", ("ImageID", "Source", "LabelName", "Confidence"), rows)
    descriptions = [(mid, f"Digit {digit}") for digit, mid in enumerate(MIDS)]
    _write_csv(folder / "class-descriptions.csv", ("LabelName", "DisplayName"), descriptions)


def vendor_rows(
    train: Sequence[Scene], recall: float, precision: float, rng: np.random.Generator
) -> list[tuple[str, str, str]]:
    """(image file, the vendor's class, score) of an imperfect model that saw the true scenes."""
    rows = []
    false_per_right = (1 - precision) / max(precision, 0.05)  # bounded: a precision of 0 would ask for endlessly many

    def predict(image: str, digit: int, score: float) -> None:
        rows.append((image, str(rng.choice(VENDOR_NAMES[digit])), f"{score:.3f}"))

    for number, scene in enumerate(train, start=1):
        image = f"{number:012d}.jpg"
        absent = [digit for digit in range(10) if digit not in scene.digits]
        for digit in sorted(scene.digits):
            if rng.random() < recall:
                predict(image, digit, rng.beta(8, 2))
        num_false = rng.poisson(recall * len(scene.digits) * false_per_right)
        for digit in rng.permutation(absent)[:num_false]:
            predict(image, int(digit), rng.beta(5, 4))
        if rng.random() < 0.1:
            rows.append((image, str(rng.choice(VENDOR_NOISE)), f"{rng.uniform(0.2, 0.9):.3f}"))
    return rows


def _write_bytes(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
