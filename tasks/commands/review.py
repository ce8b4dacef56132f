"""`python -m tasks review …`: push, open, pull, status, import, mine, guidelines.

Heavy imports happen inside the commands.
"""

from __future__ import annotations

import getpass
import subprocess
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="The review queue before a person, and back as verdicts.")
Who = Annotated[str | None, typer.Option(help="reviewer; git's user.name when left out")]


@app.command()
def push(who: Who = None) -> None:
    """Put the questions of the last run on the screen; brings in first what was decided there."""
    from tasks.commands import review_steps
    from tasks.params import load_params

    _say(review_steps.push(load_params(), who or default_reviewer()))


@app.command("open")
def open_screen(
    browser: Annotated[bool, typer.Option(help="also open a browser window")] = True,
) -> None:
    """Show the screen in the browser until Ctrl-C."""
    from tasks.commands import review_steps
    from tasks.params import load_params

    review_steps.open_screen(load_params(), browser=browser, say=typer.echo)


@app.command()
def pull(who: Who = None) -> None:
    """Append what was decided on the screen to the verdicts' file."""
    from tasks.commands import review_steps
    from tasks.params import load_params

    _say(review_steps.pull(load_params(), who or default_reviewer()))


@app.command()
def status() -> None:
    """How much of the queue is decided, by label."""
    from rich.console import Console

    from tasks.commands import review_steps
    from tasks.params import load_params

    Console(highlight=False).print(review_steps.status(load_params()))


@app.command("import")
def import_verdicts(
    file: Annotated[Path, typer.Argument(help="CSV, Label Studio's JSON, or CVAT for images 1.1 (.xml or .zip)")],
    file_format: Annotated[
        str | None, typer.Option("--format", help="csv, label-studio or cvat; told from the file when left out")
    ] = None,
    who: Annotated[str | None, typer.Option(help="author of verdicts without one; git's user.name")] = None,
) -> None:
    """Append the verdicts of another tool's export; importing it again changes nothing."""
    from tasks.commands import review_steps
    from tasks.params import load_params

    typer.echo(review_steps.import_verdicts(load_params(), file, file_format, who or default_reviewer()))


@app.command()
def mine(
    label: Annotated[str, typer.Argument(help="label id of the taxonomy")],
    most: Annotated[int, typer.Option(min=1, help="questions to add")] = 20,
) -> None:
    """Ask about pool images that resemble a label's positives."""
    from tasks.commands import review_steps
    from tasks.params import load_params

    found = review_steps.mine_label(load_params(), label, most=most)
    typer.echo(f"{found} pool images that resemble '{label}'. Next: python -m tasks review push")


@app.command()
def guidelines() -> None:
    """Write one page a label that says how to judge it."""
    from tasks.commands.review_guidelines import write_guidelines
    from tasks.params import load_params

    typer.echo(write_guidelines(load_params()))


def default_reviewer() -> str:
    """git's user.name, or the name of the account."""
    try:
        done = subprocess.run(["git", "config", "user.name"], capture_output=True, text=True)
    except OSError:  # no git
        return getpass.getuser()
    return done.stdout.strip() or getpass.getuser()


def _say(lines: list[str]) -> None:
    for line in lines:
        typer.echo(line)
