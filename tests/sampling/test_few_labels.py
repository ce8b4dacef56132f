"""Which images keep their labels when there may be few."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tasks.sampling.few_labels import labelled_subset

ALL = np.ones((6, 2), bool)
IDS = [f"set/{i}" for i in range(6)]


def kept(targets, known=ALL, *, per_class, seed=0, ids=IDS):
    return labelled_subset(np.asarray(targets, np.uint8), known, ids, per_class=per_class, seed=seed)


def test_single_label_images_give_exactly_n_of_each_label():
    targets = [[1, 0], [1, 0], [1, 0], [0, 1], [0, 1], [0, 1]]
    chosen = kept(targets, per_class=2)
    assert np.asarray(targets)[chosen].sum(axis=0).tolist() == [2, 2]


def test_a_label_with_fewer_images_gives_all_it_has():
    chosen = kept([[1, 0], [1, 0], [1, 0], [1, 0], [1, 0], [0, 1]], per_class=3)
    assert chosen[5]
    assert chosen.sum() == 4


def test_an_image_without_a_known_positive_is_never_kept():
    known = ALL.copy()
    known[0] = False
    chosen = kept([[1, 1], [0, 0], [1, 0], [0, 1], [0, 0], [0, 0]], known, per_class=6)
    assert chosen.tolist() == [False, False, True, True, False, False]


@given(
    arrays(np.uint8, (12, 3), elements=st.integers(0, 1)),
    arrays(bool, (12, 3)),
    st.integers(1, 4),
    st.integers(0, 99),
)
def test_counts_nesting_and_order_of_rows(targets, known, per_class, seed):
    ids = [f"a/{i}" for i in range(12)]
    chosen = labelled_subset(targets, known, ids, per_class=per_class, seed=seed)
    present = targets.astype(bool) & known
    assert (present[chosen].sum(axis=0) >= np.minimum(per_class, present.sum(axis=0))).all()
    assert chosen.sum() <= per_class * 3
    assert not (chosen & ~labelled_subset(targets, known, ids, per_class=per_class + 1, seed=seed)).any()
    back = np.arange(12)[::-1]
    again = labelled_subset(targets[back], known[back], [ids[i] for i in back], per_class=per_class, seed=seed)
    assert (again[back] == chosen).all()


def test_another_seed_draws_other_images():
    targets = np.eye(2, dtype=np.uint8).repeat(50, axis=0)
    ids = [str(i) for i in range(100)]
    known = np.ones((100, 2), bool)
    draws = [kept(targets, known, per_class=5, seed=seed, ids=ids) for seed in (0, 1)]
    assert (draws[0] != draws[1]).any()
