"""Record a person's verdict without any screen."""

from __future__ import annotations

from typing import Annotated

import typer

from tasks.commands.review import default_reviewer
from tasks.commands.review_steps import record_verdict
from tasks.params import load_params


def command(
    image_id: Annotated[str, typer.Argument(help="as in the images table")],
    label: Annotated[str, typer.Argument(help="label id of the taxonomy")],
    answer: Annotated[str, typer.Argument(help="present, absent or unsure")],
    who: Annotated[str | None, typer.Option(help="reviewer; git's user.name when left out")] = None,
) -> None:
    """Record a person's verdict without any screen."""
    typer.echo(record_verdict(load_params(), image_id, label, answer, who or default_reviewer()))
