"""Tables as matrices: unknown kept apart from absent, predictions with what must be known of them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.core import prediction_table, tables
from tasks.core.errors import TableError
from tasks.core.prediction_table import Predictions, read_predictions, write_predictions
from tasks.core.states import states_of


def label_rows(*rows: tuple[str, str, int]) -> pa.Table:
    return pa.Table.from_pylist(
        [{"image_id": i, "label": h, "state": s, "confidence": 1.0, "origin": "annotation"} for i, h, s in rows],
        schema=tables.LABELS,
    )


def test_no_row_is_unknown_and_a_covered_pair_without_a_row_is_absent():
    rows = label_rows(("i1", "cat", 1), ("i2", "dog", 0))
    coverage = pa.table({"source": ["s"], "label": ["cat"]}, schema=tables.COVERAGE)
    dense = states_of(rows, ["i1", "i2"], ["cat", "dog"], coverage=coverage, sources=["s", "other"])
    assert dense.targets_NC.tolist() == [[1, 0], [0, 0]]
    assert dense.known_NC.tolist() == [[True, False], [False, True]]


def test_an_unknown_cell_beats_coverage_but_not_a_row():
    rows = label_rows(("i1", "cat", 1))
    coverage = pa.table({"source": ["s", "s"], "label": ["cat", "dog"]}, schema=tables.COVERAGE)
    unknown = pa.table({"image_id": ["i1", "i1"], "label": ["cat", "dog"]}, schema=tables.UNKNOWN)
    dense = states_of(rows, ["i1"], ["cat", "dog"], coverage=coverage, sources=["s"], unknown=unknown)
    assert dense.known_NC.tolist() == [[True, False]]


def test_a_pair_that_is_both_present_and_absent_is_refused():
    rows = label_rows(("i", "cat", 1), ("i", "cat", 0))
    with pytest.raises(TableError, match="image 'i' has label 'cat' both present and absent"):
        states_of(rows, ["i"], ["cat"])


def test_dense_labels_of_nothing_are_empty():
    dense = states_of(tables.empty(tables.LABELS), [], ["cat"])
    assert dense.targets_NC.shape == (0, 1)


@pytest.mark.parametrize("embeddings", [None, np.eye(2, 3, dtype=np.float32)])
def test_predictions_carry_label_order_model_hash_and_weights_kind(tmp_path, embeddings):
    written = Predictions(
        ["a", "b"],
        ["test", "pool"],
        ["x", "ü"],
        np.array([[0.1, 0.2], [0.3, 0.4]], np.float32),
        "f00",
        "ema",
        embeddings,
    )
    write_predictions(tmp_path / "p.parquet", written)
    read = read_predictions(tmp_path / "p.parquet")
    assert (read.image_ids, read.labels, read.model_sha256, read.weights_kind) == (["a", "b"], ["x", "ü"], "f00", "ema")
    np.testing.assert_array_equal(read.scores_NC, written.scores_NC)
    assert read.select("pool").image_ids == ["b"]
    if embeddings is not None:
        np.testing.assert_array_equal(read.select("pool").embeddings_ND, embeddings[1:])


def test_many_predictions_are_read_part_by_part_and_embeddings_only_where_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(prediction_table, "GROUP_BYTES", 200)
    rng, ids = np.random.default_rng(0), [f"a/{n}" for n in range(50)]
    scores_NC, embeddings_ND = rng.random((50, 2), np.float32), rng.normal(size=(50, 3)).astype(np.float16)
    tones_NT = rng.uniform(0, 255, (50, 2)).astype(np.float32)
    written = Predictions(ids, ["pool"] * 50, ["x", "y"], scores_NC, "", "raw", embeddings_ND, tones_NT)
    write_predictions(tmp_path / "p.parquet", written)
    assert pq.ParquetFile(tmp_path / "p.parquet").num_row_groups > 5
    read = read_predictions(tmp_path / "p.parquet")
    np.testing.assert_array_equal(read.scores_NC, scores_NC)
    np.testing.assert_array_equal(read.embeddings_ND, embeddings_ND)
    np.testing.assert_array_equal(read.tones_NT, tones_NT)
    np.testing.assert_array_equal(read.rows_of(["a/7", "b", "a/3"]), [7, -1, 3])
    scores_alone = read_predictions(tmp_path / "p.parquet", with_embeddings=False)
    assert scores_alone.embeddings_ND is scores_alone.tones_NT is None


def test_no_predictions_are_predictions_too(tmp_path):
    nothing = Predictions([], [], ["x"], np.zeros((0, 1), np.float32), "", "raw")
    write_predictions(tmp_path / "p.parquet", nothing)
    assert read_predictions(tmp_path / "p.parquet").scores_NC.shape == (0, 1)
