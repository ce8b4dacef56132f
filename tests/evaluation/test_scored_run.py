"""A scored run survives the disk."""

from __future__ import annotations

import numpy as np
import pytest

from tasks.core import tables
from tasks.core.errors import TableError
from tasks.evaluation.scored_run import ScoredRun, read_scored_run, write_scored_run


def a_run(group_ids=None):
    return ScoredRun(
        ["ü/1", "2"],
        ["cat", "dög"],
        np.float32([[0.25, 0.5], [0.75, 1]]),
        np.array([[1, 0], [0, 1]], np.uint8),
        np.array([[True, True], [False, True]]),
        np.array([0.5, np.inf]),
        group_ids,
        {"name": "tagwright"},
    )


@pytest.mark.parametrize("group_ids", [None, ["g", "g"]])
def test_what_is_written_is_read(tmp_path, group_ids):
    write_scored_run(tmp_path / "run.parquet", a_run(group_ids))
    back = read_scored_run(tmp_path / "run.parquet")
    assert (back.image_ids, back.labels, back.group_ids, back.stamp) == (
        ["ü/1", "2"],
        ["cat", "dög"],
        group_ids,
        {"name": "tagwright"},
    )
    np.testing.assert_array_equal(back.scores_NC, a_run().scores_NC)
    np.testing.assert_array_equal(back.known_NC, a_run().known_NC)
    np.testing.assert_array_equal(back.targets_NC[back.known_NC], [1, 0, 1])
    np.testing.assert_array_equal(back.thresholds_C, [0.5, np.inf])


def test_another_table_is_refused(tmp_path):
    tables.write_table(tmp_path / "images.parquet", tables.empty(tables.IMAGES))
    with pytest.raises(TableError, match="not a scored run"):
        read_scored_run(tmp_path / "images.parquet")
