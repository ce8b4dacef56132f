"""The correlation matrix and the vectors of labels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.core.errors import ModelError
from tasks.nn.cooccurrence import Cooccurrence
from tasks.nn.heads.graph import (
    correlation_matrix,
    node_vectors,
    spectral_vectors,
    word_vectors,
)


def test_a_label_without_images_has_no_neighbours_and_no_division_by_zero():
    counts = Cooccurrence.count(np.zeros((4, 3), np.uint8), np.ones((4, 3), bool))
    probability_CC = counts.conditional_probability()
    assert (probability_CC == 0).all()
    np.testing.assert_array_equal(correlation_matrix(probability_CC, threshold=0.4, rho=0.25), np.eye(3))


def test_the_correlation_matrix_by_hand():
    # Label 1 goes with 0 (P(0|1) = 0.8), and 0 not with 1; label 2 is alone.
    probability_CC = np.array([[0, 0.1, 0], [0.8, 0, 0.3], [0, 0, 0]])
    # A = [[1, 0, 0], [0.25, 1, 0], [0, 0, 1]]; row sums 1, 1.25, 1; A^_ij = A_ji d_i d_j
    expected = [[1, 0.25 / 1.25**0.5, 0], [0, 1 / 1.25, 0], [0, 0, 1]]
    np.testing.assert_allclose(correlation_matrix(probability_CC, threshold=0.4, rho=0.25), expected, rtol=1e-5)


def published_gen_adj(probability_CC, threshold, rho):
    """ML-GCN's two helper functions, written as the method notes describe them, with matrices instead of scaling."""
    a = (probability_CC >= threshold).astype(float)
    a = a * rho / (a.sum(0, keepdims=True) + 1e-6) + np.eye(len(a))
    d = np.diag(a.sum(1) ** -0.5)
    return (a @ d).T @ d


@settings(max_examples=25)
@given(seed=st.integers(0, 2**16), num_labels=st.integers(1, 12))
def test_the_correlation_matrix_is_that_of_matrix_algebra(seed, num_labels):
    probability_CC = np.random.default_rng(seed).random((num_labels, num_labels))
    np.fill_diagonal(probability_CC, 0)
    ours = correlation_matrix(probability_CC, threshold=0.4, rho=0.25)
    np.testing.assert_allclose(ours, published_gen_adj(probability_CC, 0.4, 0.25), rtol=1e-5)
    assert np.isfinite(ours).all()
    assert (ours.diagonal() > 0).all()


def test_the_graph_of_voc_2007_says_what_stands_beside_what(real_data):
    with np.load(real_data / "graph" / "voc_cooccurrence.npz") as file:
        labels = [str(name) for name in file["labels"]]
        probability_CC = file["adj"] / file["nums"][:, None]
    implied = {(labels[i], labels[j]) for i, j in zip(*np.nonzero(probability_CC >= 0.4), strict=True)}
    company = {("diningtable", "chair"), ("diningtable", "person")}
    assert implied == company | {(name, "person") for name in ("bicycle", "bottle", "horse", "motorbike")}
    # The transpose: row "chair" of the result holds the labels that imply it.
    matrix_CC = correlation_matrix(probability_CC, threshold=0.4, rho=0.25)
    assert matrix_CC[labels.index("chair"), labels.index("diningtable")] > 0
    assert matrix_CC[labels.index("diningtable"), labels.index("chair")] == 0


def test_word_vectors_are_found_by_name_and_not_by_position(real_data):
    path = real_data / "graph" / "coco_glove300.npz"
    with np.load(path) as file:
        labels, vectors = [str(x) for x in file["labels"]], file["vectors"]
    picked = word_vectors(path, ["Zebra", "hair_drier", "airplane"])
    for vector, name in zip(picked, ["zebra", "hair drier", "airplane"], strict=True):
        np.testing.assert_array_equal(vector, vectors[labels.index(name)])


def test_voc_and_coco_agree_on_the_vectors_of_names_they_share(real_data):
    voc, coco = (real_data / "graph" / f"{n}_glove300.npz" for n in ("voc", "coco"))
    shared = ["bicycle", "cat", "dog", "person", "train"]
    np.testing.assert_array_equal(word_vectors(voc, shared), word_vectors(coco, shared))


def test_a_name_without_a_vector_is_refused_with_the_way_out(real_data):
    path = real_data / "graph" / "voc_glove300.npz"
    with pytest.raises(ModelError, match=r"no word vector for 1 of 2 labels \('digit 7'\).*node_features: spectral"):
        word_vectors(path, ["cat", "digit 7"])


def test_a_file_that_holds_no_word_vectors_is_refused(tmp_path):
    (tmp_path / "x.npz").write_bytes(b"no")
    with pytest.raises(ModelError, match=r"x\.npz: not an \.npz with arrays 'labels' and 'vectors'"):
        word_vectors(tmp_path / "x.npz", ["cat"])


def test_pickled_objects_are_not_loaded(tmp_path):
    np.savez(tmp_path / "x.npz", labels=np.array(["a"], dtype=object), vectors=np.zeros((1, 3)))
    with pytest.raises(ModelError, match="not an"):
        word_vectors(tmp_path / "x.npz", ["a"])


def test_spectral_vectors_reproduce_the_company_of_labels():
    counts = Cooccurrence.count(
        np.random.default_rng(0).random((500, 6)) < [0.5, 0.4, 0.3, 0.2, 0.2, 0.1], np.ones((500, 6))
    )
    assert spectral_vectors(counts, dim=300).shape == (6, 6)
    assert spectral_vectors(counts, dim=2).shape == (6, 2)


def test_labels_that_keep_the_same_company_have_like_vectors():
    # labels 0 and 1 each go with 2 (never with each other), 3 goes with 4
    images = [[1, 0, 1, 0, 0]] * 5 + [[0, 1, 1, 0, 0]] * 5 + [[0, 0, 0, 1, 1]] * 5
    vectors = spectral_vectors(Cooccurrence.count(np.array(images, np.uint8), np.ones((15, 5), bool)), dim=5)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    assert unit[0] @ unit[1] > 0.99
    assert abs(unit[0] @ unit[3]) < 1e-6


def test_labels_that_never_meet_have_no_spectral_vectors():
    counts = Cooccurrence.count(np.eye(3, dtype=np.uint8), np.ones((3, 3), bool))
    assert (spectral_vectors(counts, dim=300) == 0).all()


def test_an_unknown_kind_of_node_features_is_refused_with_the_nearest():
    with pytest.raises(ModelError, match=r"node_features 'onehot' is unknown\. Did you mean 'one_hot'"):
        node_vectors("onehot", Cooccurrence.placeholder(3), None, glove="", dim=300)


def test_glove_without_a_file_is_refused():
    with pytest.raises(ModelError, match="needs label names and `glove`"):
        node_vectors("glove", Cooccurrence.placeholder(3), ["a", "b", "c"], glove="", dim=300)
