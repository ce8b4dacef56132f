"""Decode every usable image once, at training size, into memory-mapped Arrow files."""

from __future__ import annotations

import pyarrow.compute as pc

from tasks.core.environment import num_workers
from tasks.core.ledger import Ledger
from tasks.core.workspace import Workspace
from tasks.images.shards import write_shards
from tasks.params import Params


def run(params: Params) -> None:
    """Mapped images -> a few shard files."""
    images = Workspace(params.paths).read("mapped.images")
    usable = images.filter(pc.equal(images["status"], "ok")).sort_by("image_id")
    write_shards(
        usable,
        params.paths.shards,
        short_side_px=params.shard.short_side_px,
        images_per_file=params.shard.images_per_file,
        workers=num_workers(),
    )
    ledger = Ledger("shard")
    ledger.num_in("images", images.num_rows)
    ledger.dropped("images", images.num_rows - usable.num_rows, "quarantined")
    ledger.num_out("images", usable.num_rows)
    Workspace(params.paths).book(ledger)
