"""Decode every usable image once, at training size, into memory-mapped Arrow files."""

from __future__ import annotations

from tasks.core.environment import num_workers
from tasks.core.ledger import Ledger
from tasks.core.workspace import Workspace
from tasks.images.shards import write_shards
from tasks.params import Params


def run(params: Params) -> None:
    """Mapped images -> a few shard files."""
    section, workspace = params.shard, Workspace(params.paths)
    num_images, usable = workspace.read("mapped.images").num_rows, workspace.usable_images()
    write_shards(
        usable,
        params.paths.shards,
        short_side_px=section.short_side_px,
        jpeg_quality=section.jpeg_quality,
        images_per_file=section.images_per_file,
        workers=num_workers(),
    )
    ledger = Ledger("shard")
    ledger.num_in("images", num_images)
    ledger.dropped("images", num_images - usable.num_rows, "quarantined")
    ledger.num_out("images", usable.num_rows)
    workspace.book(ledger)
