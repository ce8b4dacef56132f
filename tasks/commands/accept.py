"""Accept the last evaluation: the regression gate holds later runs against it."""

from __future__ import annotations

import typer

from tasks import tracking
from tasks.core.formatting import number
from tasks.evaluation.accepted import accept
from tasks.evaluation.headline import measured
from tasks.params import load_params


def command() -> None:
    """Accept the last evaluation: the gate holds later runs against it. Commit the folder it writes.

    Example: python -m tasks accept
    """
    params = load_params()
    paths = params.paths
    accepted = accept(paths.metrics, paths.evaluation, paths.accepted)
    if paths.exported.exists() and (figures := measured(paths.metrics, paths.finetuned)):
        tracking.promote(paths.exported, **figures)
    shown = number(accepted["test"]["mAP"], 4, undefined="that the protocol leaves undefined")
    typer.echo(f"mAP {shown} is accepted. Commit {paths.accepted}.")
