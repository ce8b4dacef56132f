"""Fetch a public data set; run again, it goes on where it stopped."""

from __future__ import annotations

from typing import Annotated

import typer

from tasks.core.errors import ParamsError, did_you_mean
from tasks.core.registry import call
from tasks.params import load_params
from tasks.sources.transfer import DOWNLOADERS


def command(name: Annotated[str, typer.Argument(help="an entry of `download:` in params.yaml")]) -> None:
    """Fetch a public data set; run again, it goes on where it stopped.

    Example: python -m tasks download coco
    """
    entries = load_params().download
    if name not in entries:
        raise ParamsError(f"params.yaml: download: no entry '{name}'. {did_you_mean(name, entries)}")
    entry = entries[name]
    call(DOWNLOADERS, entry.kind, entry.options, where=f"params.yaml: download.{name}", root=entry.path)
