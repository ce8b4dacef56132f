"""Is run B better than run A? Paired bootstrap on the same images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tasks.commands import print_json
from tasks.evaluation.comparison import compare
from tasks.evaluation.scored_run import read_scored_run


def command(
    a: Annotated[Path, typer.Argument(help="scored run, e.g. of another commit or `score --save`")],
    b: Annotated[Path, typer.Argument(help="scored run; the difference is B - A")],
    bootstrap: Annotated[int, typer.Option(min=1)] = 1000,
) -> None:
    """Is B better than A? Paired bootstrap on the same images; unlike protocols are refused.

    Example: python -m tasks compare before.parquet after.parquet
    """
    print_json(compare(read_scored_run(a), read_scored_run(b), bootstrap=bootstrap))
