"""Write the embedded data sets under paths.raw: real digits in COCO, Open Images, folder and vendor form."""

from __future__ import annotations

import shutil

import pyarrow as pa

from tasks import tables
from tasks.choice import call
from tasks.ledger import Ledger
from tasks.params import Params
from tasks.sources import COMPOSERS
from tasks.stages._common import write_ledger


def run(params: Params) -> None:
    """Compose every set of `compose.sets` and gather the truth of their planted errors in one table."""
    ledger = Ledger("compose")
    params.paths.raw.mkdir(parents=True, exist_ok=True)
    truths = [tables.empty(tables.TRUTH)]
    for name, options in params.compose.sets.items():
        folder = params.paths.raw / name
        shutil.rmtree(folder, ignore_errors=True)
        call(COMPOSERS, name, options, where="params.yaml: compose.sets", out=folder, seed=params.seed)
        truths.append(tables.read_table(folder / "truth.parquet", tables.TRUTH))
        ledger.added("errors", truths[-1].num_rows, f"planted in {name}")
        ledger.went_out("errors", truths[-1].num_rows)
    if not params.compose.sets:
        ledger.note("no embedded set is asked for; the truth table is empty")
    tables.write_table(params.paths.truth, pa.concat_tables(truths), tables.TRUTH)
    write_ledger(ledger, params)
