"""Tables between stages: schema held on both sides, atomic writing, unknown kept apart from absent."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest

from tasks.core import tables
from tasks.core.atomic_files import atomic_path
from tasks.core.errors import TableError


def label_rows(*rows: tuple[str, str, int]) -> pa.Table:
    return pa.Table.from_pylist(
        [{"image_id": i, "label": h, "state": s, "confidence": 1.0, "origin": "annotation"} for i, h, s in rows],
        schema=tables.LABELS,
    )


def test_a_table_comes_back_as_it_was_written(tmp_path):
    rows = label_rows(("a/1", "Füße 🦶", 1), ("a/../2", "x", 0))
    tables.write_table(tmp_path / "labels.parquet", rows, tables.LABELS)
    assert tables.read_table(tmp_path / "labels.parquet", tables.LABELS).equals(rows)


def test_equal_content_gives_equal_bytes(tmp_path):
    rows = label_rows(("b", "x", 1), ("a", "y", 0))
    for name in ("one", "two"):
        tables.write_table(tmp_path / name, tables.sort_table(rows, ["image_id", "label"]), tables.LABELS)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (pa.table({"image_id": ["a"]}), "column 'group_id' is missing; found image_id"),
        (pa.table({"image_id": ["a"], "group_id": pa.array([None], pa.string())}), "'group_id' has 1 empty values"),
        (pa.table({"image_id": ["a"], "group_id": [[1]]}), r"'group_id' is list<.*expected string"),
    ],
)
def test_a_table_that_breaks_its_schema_names_the_column(tmp_path, table, message):
    with pytest.raises(TableError, match=message):
        tables.write_table(tmp_path / "groups.parquet", table, tables.GROUPS)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_or_damaged_table_says_what_to_do(tmp_path):
    with pytest.raises(TableError, match=r"no such table\. Run `dvc repro`"):
        tables.read_table(tmp_path / "none.parquet", tables.GROUPS)
    (tmp_path / "bad.parquet").write_bytes(b"PAR1")
    with pytest.raises(TableError, match="not a readable Parquet file"):
        tables.read_table(tmp_path / "bad.parquet", tables.GROUPS)


def test_an_interrupted_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "x.json"
    tables.write_json(path, {"a": 1})
    with pytest.raises(ZeroDivisionError), atomic_path(path) as temporary:
        temporary.write_text(str(1 / 0))
    assert json.loads(path.read_text()) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]


def test_what_a_killed_writer_left_is_removed_by_the_next_and_a_living_one_keeps_its_own(tmp_path):
    path = tmp_path / "x.json"
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    left, own = (tmp_path / f".x.json.{socket.gethostname()}-{pid}.abc.json" for pid in (dead.pid, os.getpid()))
    elsewhere = tmp_path / f".x.json.another-{dead.pid}.abc.json"
    for file in (left, own, elsewhere):
        file.touch()
    tables.write_json(path, {"a": 1})
    assert sorted(tmp_path.iterdir()) == sorted([path, own, elsewhere])


def test_json_is_sorted_rounded_and_free_of_nan(tmp_path):
    tables.write_json(tmp_path / "x.json", {"b": np.float32(0.1), "a": [float("nan"), np.int64(3)]})
    assert (tmp_path / "x.json").read_text() == '{\n  "a": [\n    null,\n    3\n  ],\n  "b": 0.1\n}\n'
