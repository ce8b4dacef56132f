"""Label statistics against published counts and by hand."""

from __future__ import annotations

import tarfile

import numpy as np
import pytest

from tasks.nn import cooccurrence as module
from tasks.nn.cooccurrence import Cooccurrence

# rows: images; columns a b c
TARGETS = np.array([[1, 1, 0], [1, 0, 0], [1, 1, 1], [0, 1, 1]], np.uint8)
KNOWN = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 0], [1, 1, 1]], bool)


def test_counts_are_of_known_presences():
    counts = Cooccurrence.count(TARGETS, KNOWN)
    assert counts.nums_C.tolist() == [3, 3, 1]  # c of the third image is unknown
    assert counts.adj_CC.tolist() == [[0, 2, 0], [2, 0, 1], [0, 1, 0]]


def test_conditional_probabilities_leave_pairs_with_an_unknown_out():
    p = Cooccurrence.count(TARGETS, KNOWN).conditional_probability()
    # a on images 0 1 2; b known on 0 and 2, present on both; c known on 0 and 1, present on none
    assert p[0].tolist() == [0, 1, 0]
    # b on 0 2 3; a known on all, present on two; c known on 0 and 3, present on one
    assert p[1].tolist() == pytest.approx([2 / 3, 0, 1 / 2])


def test_a_label_without_images_has_probability_zero_and_no_warning():
    p = Cooccurrence.count(np.zeros((2, 2), np.uint8), np.ones((2, 2), bool)).conditional_probability()
    assert p.tolist() == [[0, 0], [0, 0]]


def test_counts_do_not_depend_on_how_rows_are_split(monkeypatch):
    rng = np.random.default_rng(0)
    targets, known = rng.integers(0, 2, (50, 4), np.uint8), rng.random((50, 4)) < 0.5
    full = Cooccurrence.count(targets, known)
    monkeypatch.setattr(module, "ROWS_PER_PRODUCT", 7)
    in_parts = Cooccurrence.count(targets, known)
    assert np.array_equal(full.adj_CC, in_parts.adj_CC)
    assert np.array_equal(full.known_CC, in_parts.known_CC)


def test_voc2007_trainval_equals_the_published_counts(real_data):
    published = np.load(real_data / "graph" / "voc_cooccurrence.npz")
    names = published["labels"].tolist()
    with tarfile.open(next((real_data / "voc").rglob("VOC2007.tar.gz"))) as archive:
        columns = []
        for name in names:
            lines = archive.extractfile(f"VOC2007/ImageSets/Main/{name}_trainval.txt").read().decode().splitlines()
            columns.append([int(line.split()[1]) for line in lines])
    marks = np.array(columns).T  # 1 present, -1 absent, 0 difficult objects only; the publication counts 0 as absent
    assert marks.shape == (5011, 20)
    counts = Cooccurrence.count((marks == 1).astype(np.uint8), np.ones(marks.shape, bool))
    assert np.array_equal(counts.nums_C, published["nums"])
    assert np.array_equal(counts.adj_CC, published["adj"])
