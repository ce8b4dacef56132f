"""Write the embedded data sets under paths.raw: real digits in COCO, Open Images, folder and vendor form."""

from __future__ import annotations

import shutil

import pyarrow as pa

from tasks.core import tables
from tasks.core.ledger import Ledger
from tasks.core.registry import call
from tasks.core.workspace import Workspace
from tasks.params import Params
from tasks.sources import DEMOS


def run(params: Params) -> None:
    """Compose every set of `make_demo.sets` and gather the truth of their planted errors in one table."""
    ledger = Ledger("make_demo")
    params.paths.raw.mkdir(parents=True, exist_ok=True)
    truths = [tables.empty(tables.TRUTH)]
    for name, options in params.make_demo.sets.items():
        folder = params.paths.raw / name
        shutil.rmtree(folder, ignore_errors=True)
        call(DEMOS, name, options, where="params.yaml: make_demo.sets", out=folder, seed=params.seed)
        truths.append(tables.read_table(folder / "truth.parquet", tables.TRUTH))
        ledger.added("errors", truths[-1].num_rows, f"planted in {name}")
        ledger.num_out("errors", truths[-1].num_rows)
    if not params.make_demo.sets:
        ledger.note("no embedded set is asked for; the truth table is empty")
    tables.write_table(params.paths.truth, pa.concat_tables(truths), tables.TRUTH)
    Workspace(params.paths).book(ledger)
