"""Write the embedded data sets under paths.raw: real digits in COCO, Open Images, folder and vendor form."""

from __future__ import annotations

import pyarrow as pa

from tasks.core import tables
from tasks.core.ledger import Ledger
from tasks.core.registry import call
from tasks.core.workspace import Workspace
from tasks.demo import DEMOS
from tasks.params import Params


def run(params: Params) -> None:
    """Write every set of `make_demo.sets`, and one table of the label errors that they planted."""
    workspace = Workspace(params.paths)
    ledger = Ledger("make_demo")
    truths = [tables.TRUTH.empty_table()]
    for name, options in params.make_demo.sets.items():
        folder = params.paths.raw / name
        truth = call(DEMOS, name, options, where="params.yaml: make_demo.sets", out=folder, seed=params.seed)
        ledger.added("errors", truth.num_rows, f"planted in {name}")
        ledger.num_out("errors", truth.num_rows)
        truths.append(truth)
    if not params.make_demo.sets:
        ledger.note("no embedded set is asked for; the truth table is empty")
        params.paths.raw.mkdir(parents=True, exist_ok=True)  # an output that DVC expects
    workspace.write("truth", pa.concat_tables(truths))
    workspace.book(ledger)
