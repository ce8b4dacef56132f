"""The split stage where there is too little to split."""

from __future__ import annotations

import pyarrow as pa
import pytest
import yaml

from tasks.core import tables
from tasks.core.errors import SplitError
from tasks.params import Params, parse_params
from tasks.stages import split
from tests.imports import ROOT


def home(statuses: list[str]) -> Params:
    raw = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    raw["sources"] = {"set": {"kind": "coco", "path": "set.json"}}
    paths = (params := parse_params(raw)).paths
    ids = [f"set/{n}" for n in range(len(statuses))]
    own = {"image_id": ids, "source": ["set"] * len(ids), "uri": ids, "status": statuses}
    rest = {name: pa.nulls(len(ids)) for name in set(tables.IMAGES.names) - own.keys()}
    tables.write_table(paths.mapped / "images.parquet", pa.table({**own, **rest}), tables.IMAGES)
    tables.write_json(paths.mapped / "vocabulary.json", {"labels": ["cat"], "groups": [], "display_names": ["Cat"]})
    for name, schema in (("groups", tables.GROUPS), ("labels", tables.LABELS)):
        tables.write_table(paths.deduplicated / f"{name}.parquet", tables.empty(schema))
    return params


@pytest.mark.parametrize(("statuses", "counts"), [([], "0 of 0"), (["quarantined"] * 3, "0 of 3")])
def test_without_a_usable_image_nothing_is_split(tmp_path, monkeypatch, statuses, counts):
    monkeypatch.chdir(tmp_path)
    params = home(statuses)
    with pytest.raises(SplitError, match=f"no image is left to train on; {counts} are usable"):
        split.run(params)
    assert not params.paths.splits.exists()


def test_a_handful_of_images_is_split(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    params = home(["ok"] * 4)
    split.run(params)
    assert tables.read_table(params.paths.splits).num_rows == 4
