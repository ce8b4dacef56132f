"""Record a person's verdict without any screen."""

from __future__ import annotations

from typing import Annotated

import typer

from tasks.core.workspace import Workspace
from tasks.params import load_params
from tasks.review.recording import default_reviewer, record_verdict


def command(
    image_id: Annotated[str, typer.Argument(help="as in the images table")],
    label: Annotated[str, typer.Argument(help="label id of the taxonomy")],
    answer: Annotated[str, typer.Argument(help="present, absent or unsure")],
    who: Annotated[str | None, typer.Option(help="reviewer; git's user.name when left out")] = None,
) -> None:
    """Record a person's verdict without any screen.

    Example: python -m tasks verdict digits_coco/12 seven absent --who ann
    """
    workspace = Workspace(load_params().paths)
    typer.echo(record_verdict(workspace, image_id, label, answer, who or default_reviewer()))
