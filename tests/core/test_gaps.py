"""Gaps of annotation: found where a run of images without a label is too long for chance, and nowhere else."""

from __future__ import annotations

import tarfile

import numpy as np
import pyarrow as pa
import pytest

from tasks.core.gaps import find_gaps, gaps_beside, mask_of, without
from tasks.core.states import States
from tasks.core.tables import COVERAGE

LABELS = ["bird", "cat", "dog", "person"]
NUM_IMAGES = 1000


def photographs(num_images: int = NUM_IMAGES) -> tuple[States, pa.Table]:
    """One source, a third of the images upright; each label on a fifth of them, by chance."""
    rng = np.random.default_rng(0)
    ids = [f"src/{n}.jpg" for n in range(num_images)]
    upright_N = rng.random(num_images) < 1 / 3
    states = States(sorted(ids), LABELS, (rng.random((num_images, len(LABELS))) < 0.2).astype(np.int8))
    sides = {"width": np.where(upright_N, 375, 500), "height": np.where(upright_N, 500, 375)}
    return states, pa.table({"image_id": sorted(ids), "source": ["src"] * num_images, **sides})


def covering(*labels: str) -> pa.Table:
    rows = [{"source": "src", "label": label} for label in labels]
    return pa.Table.from_pylist(rows, schema=COVERAGE)


def number_of(image_id: str) -> int:
    return int(image_id.removeprefix("src/").removesuffix(".jpg"))


@pytest.fixture
def upright_N() -> np.ndarray:
    _, images = photographs()
    return images["height"].to_numpy() > images["width"].to_numpy()


def losing(states: States, lost_N: np.ndarray, label: str) -> States:
    states_NC = states.states_NC.copy()
    states_NC[lost_N, states.labels.index(label)] = 0
    return States(states.image_ids, states.labels, states_NC)


def test_where_annotations_are_complete_there_is_no_gap():
    states, images = photographs()
    assert find_gaps(states, images, covering(*LABELS)) == []


def test_a_label_that_upright_pictures_never_have_is_unknown_there(upright_N):
    states, images = photographs()
    states = losing(states, upright_N, "person")
    (gap,) = find_gaps(states, images, covering(*LABELS))
    assert (gap.label, sorted(gap.rows)) == ("person", np.flatnonzero(upright_N).tolist())
    assert "'person' is never annotated on" in str(gap)
    assert "width / height 0.75 to 0.75" in str(gap)
    unknown_NC = ~without(states, [gap]).known_NC
    assert (unknown_NC == mask_of([gap], states)).all()
    assert unknown_NC.sum() == upright_N.sum()


def test_a_batch_of_ids_is_one_by_number_and_not_by_letter():
    states, images = photographs()
    batch_N = np.array([200 <= number_of(i) < 400 for i in states.image_ids])
    (gap,) = find_gaps(losing(states, batch_N, "cat"), images, covering(*LABELS))
    numbers = sorted(number_of(states.image_ids[n]) for n in gap.rows)
    assert numbers == list(range(numbers[0], numbers[-1] + 1))
    assert numbers[0] <= 200
    assert numbers[-1] >= 399


def test_one_positive_within_is_no_gap(upright_N):
    states, images = photographs()
    states = losing(states, upright_N, "person")
    states.states_NC[np.flatnonzero(upright_N)[upright_N.sum() // 2 :: 60], LABELS.index("person")] = 1
    assert find_gaps(states, images, covering(*LABELS)) == []


def test_what_a_person_verified_as_absent_is_believed(upright_N):
    states, images = photographs()
    assert find_gaps(losing(states, upright_N, "person"), images, covering("bird", "cat", "dog")) == []


def test_an_order_that_sorts_the_images_by_what_they_show_tells_nothing():
    states, images = photographs()
    for c, label in enumerate(LABELS):  # a folder a class, read one after the other
        elsewhere_N = np.array([number_of(i) // 250 != c for i in states.image_ids])
        states = losing(states, elsewhere_N, label)
    assert find_gaps(states, images, covering(*LABELS)) == []


def beside_a_cat(expected: float) -> tuple[States, pa.Table, np.ndarray]:
    """Every dog beside a cat is lost; a model expects one on so many of these images, and on a fifth of the others."""
    states, images = photographs()
    cat_N = states.states_NC[:, LABELS.index("cat")] == 1
    scores_NC = np.full((NUM_IMAGES, len(LABELS)), 0.2)
    scores_NC[cat_N, LABELS.index("dog")] = expected
    return losing(states, cat_N, "dog"), images, scores_NC


def test_a_label_that_is_lost_beside_another_one_is_unknown_there():
    states, images, scores_NC = beside_a_cat(0.5)
    (gap,) = gaps_beside(states, scores_NC.__getitem__, images, covering(*LABELS))
    cat_N = states.states_NC[:, LABELS.index("cat")] == 1
    assert (gap.label, gap.rows.tolist()) == ("dog", np.flatnonzero(cat_N).tolist())
    assert "those with 'cat', where a model expects it on 50%" in str(gap)


def test_labels_that_exclude_each_other_are_no_gap_for_a_model_that_knows_it():
    states, images, scores_NC = beside_a_cat(0.1)
    assert gaps_beside(states, scores_NC.__getitem__, images, covering(*LABELS)) == []


def test_without_a_model_nothing_is_told_of_labels_beside_others():
    states, images, scores_NC = beside_a_cat(np.nan)
    assert gaps_beside(states, np.full_like(scores_NC, np.nan).__getitem__, images, covering(*LABELS)) == []


def test_voc2007_has_none(real_data):
    states_of: dict[str, dict[str, int]] = {}
    sides: dict[str, tuple[int, int]] = {}
    with tarfile.open(real_data / "voc/VOC2007.tar.gz") as archive:
        for member in archive:
            name = member.name.rpartition("/")[2]
            if name.endswith("_trainval.txt"):
                lines = (line.split() for line in archive.extractfile(member).read().decode().splitlines())
                states_of[name.removesuffix("_trainval.txt")] = {i: int(state) for i, state in lines}
            elif name.endswith(".xml"):
                text = archive.extractfile(member).read().decode()
                sides[name.removesuffix(".xml")] = tuple(
                    int(text.partition(f"<{side}>")[2].partition("<")[0]) for side in ("width", "height")
                )
    labels = sorted(states_of)
    ids = sorted(states_of["cat"])
    given_NC = np.array([[states_of[label][i] for label in labels] for i in ids])
    states = States.of(ids, labels, given_NC == 1, given_NC != 0)
    width, height = zip(*(sides[i] for i in ids), strict=True)
    images = pa.table({"image_id": ids, "source": ["src"] * len(ids), "width": width, "height": height})
    assert len(ids) == 5011
    assert find_gaps(states, images, covering(*labels)) == []
