"""The embedded data: what each supplier's files say, and that nothing but the planted faults is wrong with them."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tasks.core.errors import ParamsError
from tasks.demo import digits, scenes

ARGUMENTS = {
    "seed": 7,
    "num_coco": 300,
    "num_test": 60,
    "num_openimages": 120,
    "num_pool": 40,
    "image_px": 48,
    "missing_rate": 0.06,
    "wrong_rate": 0.04,
    "verified_share": 0.6,
    "vendor_recall": 0.9,
    "vendor_precision": 0.9,
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict]]:
    """The delivery, and the rows of its truth."""
    out = tmp_path_factory.mktemp("demo") / "digits"
    return out, digits.write(out, **ARGUMENTS).to_pylist()


@pytest.fixture(scope="module")
def delivery(made: tuple[Path, list[dict]]) -> Path:
    return made[0]


@pytest.fixture(scope="module")
def truth(made: tuple[Path, list[dict]]) -> list[dict]:
    return made[1]


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def given_labels(delivery: Path, part: str) -> dict[int, set[str]]:
    """Image id -> category names that the annotations claim, read without our own readers."""
    content = json.loads((delivery / f"coco/annotations/instances_{part}.json").read_text())
    name_of = {category["id"]: category["name"] for category in content["categories"]}
    labels = {image["id"]: set() for image in content["images"]}
    for annotation in content["annotations"]:
        labels[annotation["image_id"]].add(name_of[annotation["category_id"]])
    return labels


def true_labels(delivery: Path, truth: list[dict]) -> dict[int, set[str]]:
    """Labels of COCO train after undoing the planted errors."""
    labels = given_labels(delivery, "train")
    for row in truth:
        of_image = labels[int(row["image_id"].removeprefix("digits_coco/"))]
        (of_image.add if row["true"] else of_image.remove)(row["label"])
    return labels


def is_readable(path: Path) -> bool:
    try:
        Image.open(path).load()
    except OSError:
        return False
    return True


def test_the_size_of_one_part_leaves_the_others_as_they_are(delivery: Path, tmp_path: Path) -> None:
    other = tmp_path / "digits"
    digits.write(other, **{**ARGUMENTS, "num_openimages": 21, "num_test": 22, "num_pool": 23})
    for name in ("coco/annotations/instances_train.json", "vendor/predictions.csv", "coco/images/000000000299.jpg"):
        assert (other / name).read_bytes() == (delivery / name).read_bytes()


def test_another_seed_gives_other_scenes() -> None:
    glyphs = scenes.load_glyphs()
    one, two = (scenes.draw_scene(glyphs, 48, np.random.default_rng(seed)) for seed in (1, 2))
    assert one.content != two.content


def test_writing_again_replaces_what_was_there(tmp_path: Path) -> None:
    out = tmp_path / "digits"
    out.mkdir()
    (out / "stale.txt").write_text("from an earlier run")
    digits.write(out, **{**ARGUMENTS, "num_coco": 20, "num_test": 1, "num_openimages": 1, "num_pool": 20})
    assert not (out / "stale.txt").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["digits"]


def test_no_glyph_serves_both_test_and_other_scenes() -> None:
    glyphs = scenes.load_glyphs()
    ours, theirs = scenes.split_glyphs(glyphs, np.random.default_rng(0))
    assert len(ours.digits_N) + len(theirs.digits_N) == 1797
    assert not {g.tobytes() for g in ours.images_NHW} & {g.tobytes() for g in theirs.images_NHW}
    np.testing.assert_allclose(np.bincount(theirs.digits_N) / np.bincount(glyphs.digits_N), 0.25, atol=0.01)


def test_boxes_lie_inside_the_scene_and_hold_dark_ink() -> None:
    glyphs, rng = scenes.load_glyphs(), np.random.default_rng(3)
    for _ in range(50):
        scene = scenes.draw_scene(glyphs, 64, rng)
        pixels_HW = np.asarray(Image.open(io.BytesIO(scene.content)).convert("L"))
        assert pixels_HW.shape == (64, 64)
        for drawn in scene.drawn:
            x, y, width, height = drawn.box
            assert 0 <= x < x + width <= 64
            assert 0 <= y < y + height <= 64
            assert 0 < drawn.area <= width * height
            assert pixels_HW[y : y + height, x : x + width].min() < 120 < np.median(pixels_HW)


def test_coco_lists_every_image_once_with_gapped_category_ids(delivery: Path) -> None:
    content = json.loads((delivery / "coco/annotations/instances_train.json").read_text())
    assert [c["name"] for c in content["categories"]] == list(digits.NAMES)
    assert len({c["id"] for c in content["categories"]}) == 10 < max(c["id"] for c in content["categories"])
    assert len(content["images"]) == len({i["file_name"] for i in content["images"]}) == 300 + digits.NUM_COPIES + 1
    assert all((delivery / "coco/images" / i["file_name"]).is_file() for i in content["images"])
    assert len({a["id"] for a in content["annotations"]}) == len(content["annotations"])
    assert {a["iscrowd"] for a in content["annotations"]} == {0}


def test_train_and_test_share_no_image_and_no_annotation_id(delivery: Path) -> None:
    train, test = (
        json.loads((delivery / f"coco/annotations/instances_{p}.json").read_text()) for p in ("train", "test")
    )
    for key in ("images", "annotations"):
        assert not {row["id"] for row in train[key]} & {row["id"] for row in test[key]}


def test_some_scenes_hold_no_digit_and_none_holds_more_than_four(delivery: Path) -> None:
    sizes = [len(labels) for labels in given_labels(delivery, "test").values()]
    assert min(sizes) == 0
    assert max(sizes) <= 4


def test_planted_errors_are_as_frequent_as_asked_for(delivery: Path, truth: list[dict]) -> None:
    num_present = sum(len(labels) for labels in true_labels(delivery, truth).values())
    num_missing = sum(row["kind"] == "missing" for row in truth)
    num_wrong = sum(row["kind"] == "wrong" and row["true"] == 1 for row in truth)
    assert num_missing / num_present == pytest.approx(0.06, abs=0.03)
    assert num_wrong / num_present == pytest.approx(0.04, abs=0.025)


def test_a_wrong_label_costs_the_true_one_and_claims_one_of_similar_shape(truth: list[dict]) -> None:
    assert all(row["given"] != row["true"] for row in truth)
    assert all((row["given"], row["true"]) == (0, 1) for row in truth if row["kind"] == "missing")
    wrong = [row for row in truth if row["kind"] == "wrong"]
    assert sum(row["true"] == 1 for row in wrong) == sum(row["true"] == 0 for row in wrong) > 0
    for row in wrong:
        if row["true"] == 1:
            similar = {digits.NAMES[d] for d in digits.CONFUSABLE[digits.NAMES.index(row["label"])]}
            claimed = {r["label"] for r in wrong if r["image_id"] == row["image_id"] and r["true"] == 0}
            assert claimed & similar


def test_the_truth_is_what_the_scenes_were_drawn_with() -> None:
    drawn = (scenes.Drawn(3, (0, 0, 5, 5), 9), scenes.Drawn(3, (9, 9, 5, 5), 9), scenes.Drawn(1, (20, 0, 5, 5), 9))
    mistaken = (scenes.Drawn(8, (0, 0, 5, 5), 9), scenes.Drawn(8, (9, 9, 5, 5), 9))  # both threes as eights, no one
    sound = scenes.Scene(b"", drawn, drawn)
    rows = digits.planted_truth([sound, scenes.Scene(b"", drawn, mistaken)]).to_pylist()
    assert [(r["image_id"], r["label"], r["kind"], r["given"], r["true"]) for r in rows] == [
        ("digits_coco/2", "one", "missing", 0, 1),
        ("digits_coco/2", "three", "wrong", 0, 1),
        ("digits_coco/2", "eight", "wrong", 1, 0),
    ]


def test_rates_of_zero_plant_nothing() -> None:
    scene = scenes.draw_scene(scenes.load_glyphs(), 48, np.random.default_rng(1))
    assert digits.plant_errors(scene, 0.0, 0.0, np.random.default_rng(0)) == scene


def test_open_images_verdicts_are_true_and_leave_labels_unknown(delivery: Path) -> None:
    rows = read_csv(delivery / "openimages/human-imagelabels.csv")
    assert {row["Confidence"] for row in rows} == {"0", "1", "0.0", "1.0"}
    assert {row["Source"] for row in rows} == {"verification", "crowdsource-verification"}
    assert len({(row["ImageID"], row["LabelName"]) for row in rows}) == len(rows)
    assert len(rows) / (120 * 10) == pytest.approx(0.6, abs=0.05)
    assert {row["ImageID"] for row in rows} <= {p.stem for p in (delivery / "openimages/images").iterdir()}
    described = {
        row["LabelName"]: row["DisplayName"] for row in read_csv(delivery / "openimages/class-descriptions.csv")
    }
    assert described == {f"/m/digit{d}": f"Digit {d}" for d in range(10)}


def test_the_vendor_is_as_good_as_asked_for_and_has_class_names_of_its_own(delivery: Path, truth: list[dict]) -> None:
    true = true_labels(delivery, truth)
    digit_of = {name: digits.NAMES[d] for d, names in enumerate(digits.VENDOR_NAMES) for name in names}
    rows = read_csv(delivery / "vendor/predictions.csv")
    assert {"Nought", "Sieben", "number 4 ", "blurry photo"} <= {row["label"] for row in rows}
    assert all(0 <= float(row["score"]) <= 1 for row in rows)
    predicted = [(int(Path(row["image"]).stem), digit_of[row["label"]]) for row in rows if row["label"] in digit_of]
    num_right = sum(label in true[image] for image, label in predicted)
    assert num_right / len(predicted) == pytest.approx(0.9, abs=0.04)
    assert num_right / sum(len(labels) for labels in true.values()) == pytest.approx(0.9, abs=0.04)


def test_exactly_two_files_are_no_readable_images(delivery: Path) -> None:
    images = [p for p in delivery.rglob("*.jpg") if not is_readable(p)]
    assert sorted(str(p.relative_to(delivery)) for p in images) == [
        "coco/images/000000000307.jpg",
        "pool/scan_00042.jpg",
    ]


def test_exact_copies_share_their_bytes_and_nothing_else_does(delivery: Path) -> None:
    by_hash: dict[str, list[str]] = {}
    for path in sorted(delivery.rglob("*.jpg")):
        by_hash.setdefault(hashlib.sha256(path.read_bytes()).hexdigest(), []).append(path.parts[-3] + path.stem)
    assert sorted(len(paths) for paths in by_hash.values() if len(paths) > 1) == [
        2,
        2,
        2,
        2,
    ]  # 3 in COCO, 1 in the pool


def test_near_copies_are_near_in_perceptual_hash_and_other_scenes_are_not(delivery: Path) -> None:
    imagehash = pytest.importorskip("imagehash")
    paths = [delivery / f"coco/images/{number:012d}.jpg" for number in range(1, 307)]
    bits_NB = np.array([imagehash.phash(Image.open(path)).hash.ravel() for path in paths])
    nearest = [int(np.delete((bits_NB != bits_NB[i]).sum(1), i).min()) for i in range(len(paths))]
    assert max(nearest[300:]) <= 4
    assert sum(distance <= 4 for distance in nearest) == 2 * digits.NUM_COPIES


def test_two_copies_contradict_their_originals(delivery: Path, truth: list[dict]) -> None:
    given = given_labels(delivery, "train")
    true = true_labels(delivery, truth)
    contents = {i: (delivery / f"coco/images/{i:012d}.jpg").read_bytes() for i in given}
    original = next(i for i in range(1, 301) if contents[i] == contents[301])
    assert given[original] != given[301] == true[original]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"missing_rate": 1.5}, "missing_rate is 1.5; expected a share in [0, 1]"),
        ({"vendor_precision": -0.1}, "vendor_precision is -0.1"),
        ({"num_coco": 3}, "num_coco is 3; expected at least 20"),
    ],
)
def test_impossible_arguments_are_refused_before_anything_is_written(
    change: dict, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ParamsError) as caught:
        digits.write(tmp_path / "digits", **{**ARGUMENTS, **change})
    assert message in str(caught.value)
    assert not list(tmp_path.iterdir())
