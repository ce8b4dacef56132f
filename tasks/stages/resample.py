"""f(h), r(h) and r(I) of the training images, and what repeating them does to every label."""

from __future__ import annotations

import pyarrow as pa

from tasks.core import tables
from tasks.core.ledger import Ledger
from tasks.core.workspace import Workspace
from tasks.nn.cooccurrence import Cooccurrence
from tasks.params import Params
from tasks.sampling import SAMPLERS
from tasks.sampling.replication import before_after, replication


def run(params: Params) -> None:
    """Cleaned labels of the train partition -> r(I) a image, before/after table."""
    section, words = params.resample, Workspace(params.paths).vocabulary()
    ids = Workspace(params.paths).image_ids("train")
    dense = Workspace(params.paths).states("cleaned", ids, words.labels)
    sampler = section.sampler if section.enabled else section.sampler.model_copy(update={"name": "natural"})
    phi = sampler.build(SAMPLERS, where="params.yaml: resample.sampler")
    r_N = replication(dense.targets_NC, dense.known_NC, phi)
    table = pa.table({"image_id": ids, "replication": r_N}, schema=tables.REPLICATION)
    tables.write_table(params.paths.replication, table, tables.REPLICATION)

    counts = Cooccurrence.count(dense.targets_NC, dense.known_NC)
    tables.write_json(
        params.paths.resampling_report,
        {
            "sampler": sampler.name,
            "labels": before_after(dense.targets_NC, dense.known_NC, r_N, words.labels),
            "images_a_epoch": float(r_N.sum()),
            "cooccurrence": {"labels": words.labels, "conditional": counts.conditional_probability()},
        },
    )
    ledger = Ledger("resample")
    ledger.num_in("images", len(ids))
    ledger.num_out("images", len(ids))
    if not section.enabled:
        ledger.note("turned off in params.yaml: every image once an epoch")
    Workspace(params.paths).book(ledger)
