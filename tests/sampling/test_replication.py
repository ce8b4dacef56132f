"""r(I): by hand, by its bounds, and drawn alike on every rank."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tasks.core.errors import ParamsError
from tasks.core.registry import Choice
from tasks.sampling import SAMPLERS
from tasks.sampling.replication import (
    Natural,
    SquareRoot,
    Uniform,
    before_after,
    epoch_replicas,
    label_frequency,
    replication,
)

# 16 images: all carry a, 4 carry b, 1 carries c (together with a and b)
TARGETS = np.zeros((16, 3), np.uint8)
TARGETS[:, 0] = 1
TARGETS[:4, 1] = 1
TARGETS[0, 2] = 1
KNOWN = np.ones(TARGETS.shape, bool)


def test_frequency_is_the_share_of_all_training_images():
    assert label_frequency(TARGETS, KNOWN).tolist() == [1, 4 / 16, 1 / 16]


@pytest.mark.parametrize(
    ("sampler", "factors"),
    [
        (Natural(), [1, 1, 1]),
        (Uniform(target_frequency=0.5), [1, 2, 8]),  # 0.5 / 0.25, 0.5 / 0.0625
        (SquareRoot(target_frequency=0.5), [1, 2**0.5, 8**0.5]),
        (Uniform(target_frequency=0.5, cap=3), [1, 2, 3]),
    ],
)
def test_an_image_is_repeated_for_its_rarest_label(sampler, factors):
    r = replication(TARGETS, KNOWN, sampler)
    assert sampler(label_frequency(TARGETS, KNOWN)) == pytest.approx(factors)
    assert r[0] == pytest.approx(factors[2])
    assert r[1:4] == pytest.approx(factors[1])
    assert r[4:] == pytest.approx(factors[0])


def test_an_image_without_labels_is_not_repeated():
    targets = np.array([[1], [0], [0], [0]], np.uint8)
    assert replication(targets, np.ones((4, 1), bool), Uniform(target_frequency=1.0)).tolist() == [4, 1, 1, 1]


def test_an_unknown_label_asks_for_no_repetition_whatever_its_target_says():
    targets, known = TARGETS.copy(), KNOWN.copy()
    targets[10, 2], known[10, 2] = 1, False
    sampler = Uniform(target_frequency=0.5)
    assert np.array_equal(replication(targets, known, sampler), replication(TARGETS, KNOWN, sampler))


def test_a_label_without_images_changes_nothing():
    targets = np.pad(TARGETS, ((0, 0), (0, 1)))
    sampler = SquareRoot(target_frequency=0.5)
    r = replication(targets, np.ones(targets.shape, bool), sampler)
    assert np.array_equal(r, replication(TARGETS, KNOWN, sampler))
    assert sampler(np.zeros(1)).tolist() == [1]


@settings(max_examples=80)
@given(
    targets=hnp.arrays(np.uint8, st.tuples(st.integers(1, 20), st.integers(1, 6)), elements=st.integers(0, 1)),
    seed=st.integers(0, 999),
    name=st.sampled_from(sorted(SAMPLERS)),
    target_frequency=st.floats(0.001, 1),
)
def test_r_is_at_least_one_and_blind_to_the_order_of_labels(targets, seed, name, target_frequency):
    rng = np.random.default_rng(seed)
    known = rng.random(targets.shape) < 0.7
    sampler = SAMPLERS[name]() if name == "natural" else SAMPLERS[name](target_frequency=target_frequency)
    r = replication(targets, known, sampler)
    order = rng.permutation(targets.shape[1])
    assert r.min() >= 1
    assert np.array_equal(replication(targets[:, order], known[:, order], sampler), r)


def test_an_epoch_has_r_draws_of_an_image_on_average():
    r = np.array([1.0, 1.25, 2.5, 7.0])
    epochs = np.stack([epoch_replicas(r, seed=0, epoch=e) for e in range(4000)])
    assert epochs.mean(axis=0) == pytest.approx(r, abs=0.03)
    assert set(epochs[:, 0]) == {1}
    assert set(epochs[:, 2]) == {2, 3}
    assert set(epochs[:, 3]) == {7}


def test_draws_depend_on_seed_and_epoch_alone():
    r = np.full(100, 1.5)
    np.random.default_rng(1).random(7)
    assert np.array_equal(epoch_replicas(r, seed=3, epoch=2), epoch_replicas(r, seed=3, epoch=2))
    assert not np.array_equal(epoch_replicas(r, seed=3, epoch=2), epoch_replicas(r, seed=3, epoch=3))
    assert not np.array_equal(epoch_replicas(r, seed=3, epoch=2), epoch_replicas(r, seed=4, epoch=2))


def test_the_table_shows_what_repetition_does_to_heads_that_stand_beside_rare_labels():
    # with t = 0.5: image 0 eight times, 1-3 twice, the other twelve once: 26 draws
    r = replication(TARGETS, KNOWN, Uniform(target_frequency=0.5))
    rows = before_after(TARGETS, KNOWN, r, ["a", "b", "c"])
    assert [row["label"] for row in rows] == ["c", "b", "a"]
    assert [row["num_images"] for row in rows] == [1, 4, 16]
    assert [row["after"] for row in rows] == pytest.approx([8 / 26, 14 / 26, 1])
    assert [row["gain"] for row in rows] == pytest.approx([8 / 26 * 16, 14 / 26 * 4, 1])
    # b's images are repeated 7 times extra for c and 3 times for b itself; a's 7 for c and 3 for b
    assert [row["raised_by"] for row in rows] == [None, "c", "c"]


def test_the_table_of_no_images_is_no_error():
    assert before_after(np.zeros((0, 1), np.uint8), np.zeros((0, 1), bool), np.zeros(0), ["a"])[0]["gain"] == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [({"target_frequency": 0}, "target_frequency is 0"), ({"cap": 0.5}, "cap is 0.5"), ({"t": 1}, "'t'")],
)
def test_options_out_of_range_are_refused(options, message):
    choice = Choice(name="uniform", uniform=options)
    with pytest.raises(ParamsError, match=message):
        choice.build(SAMPLERS, where="params.yaml: resample.sampler")
