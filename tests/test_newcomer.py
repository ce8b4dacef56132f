"""A newcomer's path: from an export as it lies to a split of it, by the commands that README names."""

from __future__ import annotations

from collections import Counter

import pyarrow.parquet as pq
import pytest

from tests.cases.project import coco_file, picture
from tests.homes import new_home, run

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


def test_an_export_is_found_drafted_and_split_without_an_edit(tmp_path):
    home = new_home(tmp_path / "home", {})
    for split, count in {"train": 30, "valid": 6, "test": 6}.items():
        names = [f"{split}_{n}.jpg" for n in range(count)]
        kinds = (["boat"], ["boat", "dock"], ["dock"])
        coco_file(tmp_path / f"pets/{split}/_annotations.coco.json", {f: kinds[n % 3] for n, f in enumerate(names)})
        for file in names:
            picture(tmp_path / f"pets/{split}/{file}")
    init = run(home, "tasks", "init", str(tmp_path / "pets"))
    assert "42 images (30 train, 6 val, 6 test)" in init.stdout
    flow = run(home, "flows", "run", "--until", "split", TAGWRIGHT_TRACKING="off")
    partitions = Counter(pq.read_table(home / "data/interim/splits.parquet")["partition"].to_pylist())
    assert partitions["test"] == 6
    assert sum(partitions.values()) == 42
    assert "labels have fewer than 5 positives to measure on (test): boat (4), dock (4)" in flow.stdout + flow.stderr
