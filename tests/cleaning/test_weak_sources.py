"""weak_sources.py: who abstains, who says no, what neighbours have, and the album rule."""

from __future__ import annotations

import numpy as np
import pytest

from tasks.cleaning.weak_sources import Neighbours, SourceScores, WeakSources, model_proposals, top_labels
from tasks.core import tables
from tasks.core.prediction_table import Predictions
from tasks.core.states import States
from tests.taxonomy.kits import label_rows

LABELS = ["cat", "dog"]


def states(num_images: int = 3) -> States:
    ids = [f"a/{n}" for n in range(num_images)]
    return States.of(ids, LABELS, np.zeros((num_images, 2), np.uint8), np.ones((num_images, 2), bool))


def predictions(ids: list[str], scores_NC, labels=("dog", "cat"), embeddings_ND=None) -> Predictions:
    scores_NC = np.asarray(scores_NC, np.float32)
    return Predictions(ids, ["train"] * len(ids), list(labels), scores_NC, "", "raw", embeddings_ND)


def scores_of(*sources) -> SourceScores:
    return WeakSources(states(), *sources).scores(np.arange(3))


def label_spaces(*pairs: tuple[str, str]):
    return tables.COVERAGE.empty_table().from_pylist(
        [{"source": source, "label": label} for source, label in pairs], schema=tables.COVERAGE
    )


def test_model_scores_follow_the_labels_and_the_model_abstains_on_images_that_it_did_not_see():
    result = scores_of(predictions(["a/2", "a/0"], [[0.1, 0.2], [0.3, 0.4]]), label_rows([]), label_spaces())
    np.testing.assert_allclose(result.model_NC, [[0.4, 0.3], [np.nan, np.nan], [0.2, 0.1]], rtol=1e-6)
    assert np.isnan(result.neighbours_NC).all()


def test_an_origin_says_no_only_about_labels_it_can_name_on_images_it_mentions():
    rows = label_rows([("a/0", "cat", 1, 0.8, "vendor:x"), ("a/2", "dog", 1, 0.6, "detector:y")])
    names = label_spaces(("vendor:x", "cat"), ("detector:y", "cat"), ("detector:y", "dog"))
    y, x = scores_of(predictions([], np.zeros((0, 2))), rows, names).others_NC
    np.testing.assert_allclose(x, [[0.8, np.nan], [np.nan, np.nan], [np.nan, np.nan]], rtol=1e-6)
    np.testing.assert_allclose(y, [[np.nan, np.nan], [np.nan, np.nan], [0.0, 0.6]], rtol=1e-6)


def test_a_keyword_votes_for_itself_and_against_no_other():
    rows, names = label_rows([("a/0", "cat", 1, 1.0, "keyword")]), label_spaces(("keyword", "cat"), ("keyword", "dog"))
    (scores_NC,) = scores_of(predictions([], np.zeros((0, 2))), rows, names).others_NC
    assert np.nansum(scores_NC) == scores_NC[0, 0] == 1
    assert np.isnan(scores_NC).sum() == scores_NC.size - 1


def test_a_batch_of_images_has_the_scores_that_it_has_among_all():
    rng = np.random.default_rng(0)
    images = states(50)
    scores = predictions(images.image_ids[5:], rng.random((45, 2)), embeddings_ND=rng.normal(size=(45, 4)))
    rows = label_rows([(f"a/{n}", "cat", 1, 0.8, "vendor:x") for n in range(0, 50, 3)])
    sources = WeakSources(images, scores, rows, label_spaces(("vendor:x", "cat"), ("vendor:x", "dog")))
    together, part = sources.scores(np.arange(50)), sources.scores(np.array([40, 3, 21]))
    for ours, theirs in zip(part.all_NC, together.all_NC, strict=True):
        np.testing.assert_allclose(ours, theirs[[40, 3, 21]])


def test_the_share_of_neighbours_counts_neither_the_image_itself_nor_unknown_pairs():
    # Two tight pairs and their nearest: 0 and 1 point one way, 2 and 3 the other.
    embeddings_ND = np.array([[1.0, 0.0], [1.0, 0.1], [-1.0, 0.0], [-1.0, 0.1]])
    states_NC = np.array([[1, 0], [0, 1], [1, 1], [-1, 0]], np.int8)
    share_NC = Neighbours(embeddings_ND, states_NC, num=1).share(np.arange(4))
    np.testing.assert_array_equal(share_NC, [[0, 1], [1, 0], [np.nan, 0], [1, 1]])


def test_neighbours_are_those_of_an_exhaustive_search():
    rng = np.random.default_rng(0)
    embeddings_ND, targets_NC = rng.normal(size=(300, 5)), (rng.random((300, 3)) < 0.5).astype(np.int8)
    centred = embeddings_ND - embeddings_ND.mean(0)
    unit = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    expected = []
    for n in range(300):
        order = [m for m in np.argsort(-(unit @ unit[n])) if m != n][:7]
        expected.append(targets_NC[order].mean(0))
    share_NC = Neighbours(embeddings_ND, targets_NC, num=7).share(np.arange(300))
    np.testing.assert_allclose(share_NC, expected)


@pytest.mark.parametrize("num_images", [0, 1])
def test_too_few_images_have_no_neighbours(num_images):
    result = Neighbours(np.ones((num_images, 3)), np.ones((num_images, 2), np.int8))
    assert np.isnan(result.share(np.arange(num_images))).all()


def test_the_album_rule_takes_the_top_scores_above_the_bar():
    scores_NC = np.array([[0.9, 0.8, 0.7, 0.2], [0.6, 0.4, np.nan, 0.1]])
    np.testing.assert_array_equal(top_labels(scores_NC, top_k=2, min_score=0.5), [[1, 1, 0, 0], [1, 0, 0, 0]])


def test_model_proposals_carry_their_origin_and_score():
    result = model_proposals(predictions(["p/é", "p/1"], [[0.9, 0.2], [0.5, 0.5]]), origin="model:out_of_fold")
    assert result.to_pylist() == [
        {"image_id": "p/é", "label": "dog", "state": 1, "confidence": pytest.approx(0.9), "origin": "model:out_of_fold"}
    ]
    assert result.schema == tables.LABELS
