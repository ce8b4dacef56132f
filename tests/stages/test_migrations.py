"""A taxonomy that changes, seen from the stages: labels that were exported under old ids, frozen splits, `explain`."""

from __future__ import annotations

import io

import pyarrow as pa
import pytest
import yaml
from rich.console import Console

from tasks.commands.explain import explain
from tasks.core import tables
from tasks.params import Params, parse_params
from tasks.review.verdicts import Verdict, append_verdicts
from tasks.stages import deduplicate, map_labels, split
from tests.conftest import ROOT
from tests.taxonomy.kits import label_rows, pairs_of, states, unknown_rows

IDS = [f"earlier/{n:02}" for n in range(20)]
BEFORE = "labels: [{id: auto}, {id: shoe}, {id: boot}, {id: bat}]"
AFTER = """
labels: [{id: car}, {id: footwear}, {id: bat_animal}, {id: baseball_bat}, {id: brand new}]
migrations:
  - rename: {auto: car}
  - merge: {footwear: [shoe, boot]}
  - split: {bat: [bat_animal, baseball_bat]}
"""


@pytest.fixture
def params(tmp_path, monkeypatch) -> Params:
    """What `ingest` leaves of labels exported under the ids of BEFORE, exhaustive except for boots."""
    monkeypatch.chdir(tmp_path)
    raw = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    raw["sources"] = {"earlier": {"kind": "folder", "path": "data/raw/earlier", "vocabulary": "taxonomy"}}
    raw["split"] |= {"num_folds": 4, "test_folds": [0], "calibration_folds": [1]}
    params = parse_params(raw)
    folder = params.paths.ingested / "earlier"
    images = [
        {"image_id": i, "source": "earlier", "uri": i, "sha256": f"sha {i}", "phash": n << 40, "status": "ok"}
        for n, i in enumerate(IDS)
    ]
    tables.write_table(folder / "images.parquet", pa.Table.from_pylist(images, schema=tables.IMAGES))
    stated = [(i, label, 1) for n, i in enumerate(IDS) for label in ("auto", "bat") if n % 2]
    stated += [(IDS[0], "shoe", 0), (IDS[0], "boot", 0), (IDS[1], "shoe", 1), (IDS[2], "bat", 0)]
    tables.write_table(folder / "labels.parquet", label_rows(stated))
    tables.write_table(folder / "unknown.parquet", unknown_rows([(IDS[4], "auto")]))
    tables.write_table(folder / "objects.parquet", tables.OBJECTS.empty_table())
    covered = [{"source": "earlier", "label": label} for label in ("auto", "bat", "shoe")]
    tables.write_table(folder / "coverage.parquet", pa.Table.from_pylist(covered, schema=tables.COVERAGE))
    tables.write_json(folder / "vocabulary.json", {label: label for label in ("auto", "shoe", "boot", "bat")})
    run(params, BEFORE)
    return params


def run(params: Params, taxonomy: str) -> None:
    """The stages up to the split; each balances its ledger."""
    params.paths.taxonomy.parent.mkdir(parents=True, exist_ok=True)
    params.paths.taxonomy.write_text(taxonomy, encoding="utf-8")
    for stage in (map_labels, deduplicate, split):
        stage.run(params)


def mapped(params: Params, name: str) -> pa.Table:
    return tables.read_table(params.paths.mapped / f"{name}.parquet")


def test_labels_of_an_earlier_export_follow_the_migrations(params):
    run(params, AFTER)
    found = states(mapped(params, "labels"))
    assert [found[i, "car"] for i in IDS[1::2]] == [1] * 10
    assert (found[IDS[0], "footwear"], found[IDS[1], "footwear"]) == (0, 1)
    assert (found[IDS[2], "bat_animal"], found[IDS[2], "baseball_bat"]) == (0, 0)
    assert {label for _, label in found} == {"car", "footwear", "bat_animal", "baseball_bat"}
    assert (IDS[4], "car") in pairs_of(mapped(params, "unknown"))


def test_a_presence_that_was_split_is_unknown_and_on_the_list_of_images_to_look_at_again(params):
    run(params, AFTER)
    open_pairs = {(i, part) for i in IDS[1::2] for part in ("bat_animal", "baseball_bat")}
    assert pairs_of(mapped(params, "look_again")) == open_pairs
    assert open_pairs <= pairs_of(mapped(params, "unknown"))
    assert not open_pairs & states(mapped(params, "labels")).keys()


def test_a_merged_label_is_covered_only_if_all_its_parts_were_and_a_new_one_never(params):
    run(params, AFTER)
    assert set(mapped(params, "coverage")["label"].to_pylist()) == {"car", "bat_animal", "baseball_bat"}


def test_every_row_that_a_migration_takes_or_makes_is_in_the_books(params):
    run(params, AFTER)
    books = tables.read_json(params.paths.ledger / "map_labels.json")["units"]["labels"]
    assert books["in"] == 24
    assert books["dropped"]["present before a split: nobody has said which part"] == 10
    report = tables.read_json(params.paths.coverage_report)["sources"]["earlier"]
    assert (report["rows_in"], report["dropped"], report["unmapped"]) == (24, books["dropped"], [])


def test_a_new_taxonomy_moves_no_image_to_another_fold(params):
    before = params.paths.splits.read_bytes()
    run(params, AFTER)
    assert params.paths.splits.read_bytes() == before


def test_explain_names_the_old_label_behind_a_row_and_a_verdict(params):
    run(params, AFTER)
    review = {"who": "ann", "when": "2026-05-01T00:00:00+00:00", "sha256": f"sha {IDS[2]}"}
    append_verdicts(params.paths.verdicts, [Verdict(IDS[2], "auto", "present", **review)])
    assert "'auto' present (annotation, 1.00), now car" in explained(params, IDS[1])
    assert "'bat' present (annotation, 1.00), now bat_animal or baseball_bat" in explained(params, IDS[1])
    assert "ann: present (2026-05-01) of 'auto', now car" in explained(params, IDS[2])


def explained(params: Params, image_id: str) -> str:
    console = Console(width=100, file=io.StringIO())
    console.print(explain(params, image_id))
    return console.file.getvalue()
