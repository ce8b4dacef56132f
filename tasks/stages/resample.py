"""f(h), r(h) and r(I) of the training images, and what repeating them does to every label."""

from __future__ import annotations

import pyarrow as pa

from tasks.core.ledger import Ledger
from tasks.core.workspace import Workspace
from tasks.nn.cooccurrence import Cooccurrence
from tasks.params import Params
from tasks.sampling import SAMPLERS
from tasks.sampling.replication import before_after, replication


def run(params: Params) -> None:
    """Cleaned labels of the train partition -> r(I) a image, before/after table."""
    workspace, section = Workspace(params.paths), params.resample
    labels, ids = workspace.vocabulary().labels, workspace.image_ids("train")
    states = workspace.states("cleaned", ids, labels)
    sampler = section.sampler if section.enabled else section.sampler.model_copy(update={"name": "natural"})
    phi = sampler.build(SAMPLERS, where="params.yaml: resample.sampler")
    r_N = replication(states.targets_NC, states.known_NC, phi)
    workspace.write("replication", pa.table({"image_id": pa.array(ids, pa.string()), "replication": r_N}))

    counts = Cooccurrence.count(states.targets_NC, states.known_NC)
    workspace.write(
        "resampling_report",
        {
            "sampler": sampler.name,
            "labels": before_after(states.targets_NC, states.known_NC, r_N, labels),
            "images_a_epoch": float(r_N.sum()),
            "cooccurrence": {"labels": labels, "conditional": counts.conditional_probability()},
        },
    )
    ledger = Ledger("resample")
    ledger.num_in("images", len(ids))
    ledger.num_out("images", len(ids))
    if not section.enabled:
        ledger.note("turned off in params.yaml: every image once an epoch")
    workspace.book(ledger)
