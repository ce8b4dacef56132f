"""Gaps of annotation: found where a run of images without a label is too long for chance, and nowhere else."""

from __future__ import annotations

import tarfile

import numpy as np
import pyarrow as pa
import pytest

from tasks.core import gaps_shown as gaps_module
from tasks.core.gaps import Gap, find_gaps, mask_of, not_refuted, without
from tasks.core.gaps_shown import TONES, Shown, gaps_shown
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


@pytest.mark.parametrize(("k", "turn"), [(2, 1), (5, 0), (7, 3)])
def test_where_images_are_dealt_out_one_annotator_may_not_know_a_label(k, turn):
    states, images = photographs()
    theirs_N = np.array([number_of(i) % k == turn for i in states.image_ids])
    lost = losing(states, theirs_N, "dog")
    taken = np.arange(NUM_IMAGES) % 3 > 0  # as where a third of the images is kept for the test
    kept = States([i for i, t in zip(states.image_ids, taken, strict=True) if t], LABELS, lost.states_NC[taken])
    for those, theirs in ((lost, theirs_N), (kept, theirs_N[taken])):
        (gap,) = find_gaps(those, images, covering(*LABELS))
        assert (gap.label, sorted(gap.rows)) == ("dog", np.flatnonzero(theirs).tolist())
        assert f"one image in {k} by id" in str(gap)


def test_remainders_of_the_numbers_in_ids_tell_where_ids_have_holes():
    states, images = photographs()
    theirs_N = np.array([number_of(i) % 5 == 2 for i in states.image_ids])
    taken = np.random.default_rng(3).random(NUM_IMAGES) < 0.7
    kept = States([i for i, t in zip(states.image_ids, taken, strict=True) if t], LABELS, states.states_NC[taken])
    (gap,) = find_gaps(losing(kept, theirs_N[taken], "dog"), images.filter(pa.array(taken)), covering(*LABELS))
    assert sorted(gap.rows) == np.flatnonzero(theirs_N[taken]).tolist()
    assert "one number in 5, such as 'src/" in str(gap)


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


def looks(states: States, *, alike: tuple[str, str] | None = None) -> np.ndarray:
    """Embeddings float (N, 16) that show what is on each image, by a direction a label, and noise.

    alike: two labels with nearly the same direction.
    """
    rng = np.random.default_rng(1)
    direction_CD = np.linalg.qr(rng.standard_normal((16, len(LABELS))))[0].T * 4
    if alike:
        one, other = map(LABELS.index, alike)
        direction_CD[other] = direction_CD[one] + 0.3 * direction_CD[other]
    return (states.states_NC == 1) @ direction_CD + rng.standard_normal((len(states.image_ids), 16))


def beside_others(states: States, images: pa.Table, embeddings_ND: np.ndarray | None) -> list[Gap]:
    return gaps_shown(states, images, covering(*LABELS), Shown(embeddings_ND, None, np.arange(len(states.image_ids))))


def never_together(states: States, one: str, other: str) -> States:
    return losing(states, states.states_NC[:, LABELS.index(other)] == 1, one)


def test_a_label_that_is_lost_wherever_another_one_is_shows_in_the_pictures():
    states, images = photographs()
    cat_N = states.states_NC[:, LABELS.index("cat")] == 1
    (gap,) = beside_others(never_together(states, "dog", "cat"), images, looks(states))
    assert (gap.label, gap.rows.tolist()) == ("dog", np.flatnonzero(cat_N).tolist())
    assert "'dog' is never annotated on" in str(gap)
    assert "those with 'cat', which look as if" in str(gap)
    assert gap.only_asked


def test_of_a_rare_label_most_may_be_lost_beside_a_common_one():
    states, images = photographs()
    rng, states_NC = np.random.default_rng(4), states.states_NC.copy()
    states_NC[:, LABELS.index("person")] = rng.random(NUM_IMAGES) < 0.6
    states_NC[rng.random(NUM_IMAGES) < 0.6, LABELS.index("dog")] = 0
    true = States(states.image_ids, LABELS, states_NC)
    lost = never_together(true, "dog", "person")
    num_left, num_true = ((those.states_NC[:, LABELS.index("dog")] == 1).sum() for those in (lost, true))
    assert num_left < num_true / 2
    (gap,) = beside_others(lost, images, looks(true))
    assert gap.label == "dog"


def test_labels_that_exclude_each_other_are_no_gap():
    states, images = photographs()
    exclusive = never_together(states, "dog", "cat")
    assert beside_others(exclusive, images, looks(exclusive)) == []


def test_nor_are_such_that_look_alike():
    states, images = photographs()
    exclusive = never_together(states, "dog", "cat")
    assert beside_others(exclusive, images, looks(exclusive, alike=("dog", "cat"))) == []


def tones() -> np.ndarray:
    """float32 (N, T), by chance."""
    return np.random.default_rng(2).uniform(0, 255, (NUM_IMAGES, len(TONES))).astype(np.float32)


def gaps_by_tone(lost: States, pictured: States, tones_NT: np.ndarray | None) -> list[Gap]:
    """pictured: what the embeddings show."""
    _, images = photographs()
    return gaps_shown(lost, images, covering(*LABELS), Shown(looks(pictured), tones_NT, np.arange(NUM_IMAGES)))


@pytest.mark.parametrize(("tone", "name"), list(enumerate(TONES)))
@pytest.mark.parametrize("most_images", [NUM_IMAGES, 500])
def test_a_label_never_on_dark_or_grey_pictures_is_a_gap_where_they_show_it(tone, name, most_images, monkeypatch):
    monkeypatch.setattr(gaps_module, "MOST_IMAGES", most_images)
    states, _ = photographs()
    tones_NT = tones()
    low_N = tones_NT[:, tone] < 80
    lost = losing(states, low_N, "person")
    (gap,) = gaps_by_tone(lost, states, tones_NT)
    assert gap.label == "person"
    assert set(gap.rows) >= set(np.flatnonzero(low_N))
    assert not lost.states_NC[gap.rows, LABELS.index("person")].any()
    assert tones_NT[gap.rows, tone].max() < 90
    assert f"{name} 0 to " in str(gap)
    assert "which look as if" in str(gap)
    assert not gap.only_asked
    assert gaps_by_tone(lost, states, None) == []


def test_one_that_by_nature_is_on_no_dark_picture_is_no_gap():
    states, _ = photographs()
    tones_NT = tones()
    bright_only = losing(states, tones_NT[:, 0] < 80, "person")
    assert gaps_by_tone(bright_only, bright_only, tones_NT) == []


def test_a_label_that_is_lost_on_full_pictures_is_asked_about_only():
    states, _ = photographs()
    full_N = np.delete(states.states_NC, LABELS.index("person"), axis=1).sum(axis=1) >= 1
    (gap,) = gaps_by_tone(losing(states, full_N, "person"), states, tones())
    assert (gap.label, sorted(gap.rows)) == ("person", np.flatnonzero(full_N).tolist())
    assert "1 to 3 other labels" in str(gap)
    assert gap.only_asked


def test_an_image_without_a_row_or_a_tone_is_in_no_run():
    states, images = photographs()
    tones_NT, row_N = tones()[:900], np.where(np.arange(NUM_IMAGES) < 900, np.arange(NUM_IMAGES), -1)
    tones_NT[:20] = np.nan
    lost = losing(states, np.append(tones_NT[:, 0] < 80, np.ones(100, bool)), "person")
    (gap,) = gaps_shown(lost, images, covering(*LABELS), Shown(looks(states)[:900], tones_NT, row_N))
    assert gap.rows.max() < 900
    assert gap.rows.min() >= 20


def test_without_embeddings_nothing_is_told_of_labels_beside_others():
    states, images = photographs()
    states = never_together(states, "dog", "cat")
    assert beside_others(states, images, None) == []
    nowhere = Shown(looks(states), None, np.full(NUM_IMAGES, -1))
    assert gaps_shown(states, images, covering(*LABELS), nowhere) == []


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
def test_an_embedding_that_is_no_number_hides_no_gap(broken):
    states, images = photographs()
    lost, embeddings_ND = never_together(states, "dog", "cat"), looks(states)
    embeddings_ND[3, 5] = broken
    assert [gap.label for gap in beside_others(lost, images, embeddings_ND)] == ["dog"]
    assert beside_others(lost, images, np.full_like(embeddings_ND, broken)) == []


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("shape", [(NUM_IMAGES, 1), (NUM_IMAGES, 16)])
def test_embeddings_that_do_not_differ_tell_nothing(shape):
    states, images = photographs()
    assert beside_others(never_together(states, "dog", "cat"), images, np.ones(shape, np.float16)) == []


def test_what_a_person_verified_as_absent_beside_others_is_believed():
    states, images = photographs()
    lost = never_together(states, "dog", "cat")
    shown = Shown(looks(states), None, np.arange(NUM_IMAGES))
    assert gaps_shown(lost, images, covering("bird", "person"), shown) == []


def test_one_label_an_image_is_no_gap_though_nobody_declared_it():
    states, images = photographs()
    first_N = np.argmax(states.states_NC, axis=1)
    one_NC = np.where(np.arange(len(LABELS)) == first_N[:, None], states.states_NC, 0).astype(np.int8)
    assert beside_others(States(states.image_ids, LABELS, one_NC), images, looks(states)) == []


@pytest.mark.parametrize(("found", "believed"), [(0, False), (1, True)])
def test_ten_answers_that_find_nothing_refute_a_gap(upright_N, found, believed):
    states, images = photographs()
    states = losing(states, upright_N, "person")
    gaps = find_gaps(states, images, covering(*LABELS))
    rows = np.flatnonzero(upright_N)[:10]
    verdicts_VC = np.full((10, len(LABELS)), -1, np.int8)
    verdicts_VC[:, LABELS.index("person")] = [1] * found + [0] * (10 - found)
    assert not_refuted(gaps, states, (rows, verdicts_VC)) == (gaps if believed else [])
    assert not_refuted(gaps, states, (rows[found:9], verdicts_VC[found:9])) == gaps


def test_pictures_of_one_size_are_an_order_of_their_own():
    states, images = photographs()
    width_N = np.tile([500, 500, 400, 375], NUM_IMAGES // 4)
    height_N = np.tile(
        [375, 334, 300, 500], NUM_IMAGES // 4
    )  # the third has the shape of the first, the fourth its area
    images = images.set_column(2, "width", pa.array(width_N)).set_column(3, "height", pa.array(height_N))
    one_size_N = (width_N == 500) & (height_N == 375)
    (gap,) = find_gaps(losing(states, one_size_N, "person"), images, covering(*LABELS))
    assert gap.rows.tolist() == np.flatnonzero(one_size_N).tolist()
    assert "500 x 375 to 500 x 375 px" in str(gap)


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
