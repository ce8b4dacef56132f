"""Rewrite an annotation file in another tool's format."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tasks.sources.otx import convert


def command(
    source_format: Annotated[str, typer.Argument(help="coco, datumaro (OTX) or reid (deep-object-reid)")],
    source: Path,
    target_format: Annotated[str, typer.Argument(help="datumaro or reid")],
    target: Path,
) -> None:
    """Rewrite an annotation file in another tool's format.

    Example: python -m tasks convert coco instances_train.json datumaro train.json
    """
    convert(source_format, source, target_format, target)
    typer.echo(f"{target} written")
