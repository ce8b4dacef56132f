"""Accept the last evaluation: the regression gate holds later runs against it."""

from __future__ import annotations

import typer

from tasks import tracking
from tasks.commands.summary import measured
from tasks.evaluation.accepted import accept
from tasks.params import load_params


def command() -> None:
    """Accept the last evaluation: the gate holds later runs against it. Commit the folder it writes."""
    params = load_params()
    paths = params.paths
    accepted = accept(paths.metrics, paths.evaluation, paths.accepted)
    if paths.exported.exists() and (found := measured(params)):
        tracking.promote(paths.exported, **found)
    score = accepted["test"]["mAP"]
    shown = "that the protocol leaves undefined" if score is None else f"{score:.4f}"
    typer.echo(f"mAP {shown} is accepted. Commit {paths.accepted}.")
