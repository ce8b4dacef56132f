"""The review queue before a person, and back as verdicts: web, push, open, pull, status, export, import, mine, …

Heavy imports happen inside the commands.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="The review queue before a person, and back as verdicts.")
Who = Annotated[str | None, typer.Option(help="reviewer; git's user.name when left out")]


@app.command()
def web(
    who: Who = None,
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8151,
    browser: Annotated[bool, typer.Option(help="also open a browser window")] = True,
) -> None:
    """The queue on a page of this machine: one question, one key, one line of verdicts; until Ctrl-C.

    Example: python -m tasks review web --who ann
    """
    import webbrowser

    import uvicorn

    from tasks.core.listening import listening
    from tasks.core.workspace import Workspace
    from tasks.images.decode import open_rgb
    from tasks.params import load_params
    from tasks.report.pictures import jpeg
    from tasks.review.recording import default_reviewer
    from tasks.review.web import ReviewPage, create_app

    reviewer = who or default_reviewer()
    page = ReviewPage.of_last_run(Workspace(load_params().paths), reviewer, lambda uri: jpeg(open_rgb(uri)))
    with listening("127.0.0.1", port) as listener:
        address = f"http://127.0.0.1:{port}"
        typer.echo(f"{len(page.questions)} open questions for {reviewer} at {address}; Ctrl-C ends it.")
        if browser:
            webbrowser.open(address)
        uvicorn.Server(uvicorn.Config(create_app(page), log_level="warning")).run(sockets=[listener])


@app.command()
def push(who: Who = None) -> None:
    """Put the questions of the last run on the screen; brings in first what was decided there.

    Example: python -m tasks review push --who ann
    """
    from tasks.core.workspace import Workspace
    from tasks.params import load_params
    from tasks.review.recording import default_reviewer
    from tasks.review.screen import exchange

    params = load_params()
    for line in exchange.push(Workspace(params.paths), params.review.dataset, who or default_reviewer()):
        typer.echo(line)


@app.command("open")
def open_screen(
    browser: Annotated[bool, typer.Option(help="also open a browser window")] = True,
) -> None:
    """Show the screen in the browser until Ctrl-C.

    Example: python -m tasks review open
    """
    from tasks.params import load_params
    from tasks.review.screen import exchange

    review = load_params().review
    exchange.open_screen(review.dataset, port=review.port, browser=browser, say=typer.echo)


@app.command()
def pull(who: Who = None) -> None:
    """Append what was decided on the screen to the verdicts' file.

    Example: python -m tasks review pull --who ann
    """
    from tasks.core.workspace import Workspace
    from tasks.params import load_params
    from tasks.review.recording import default_reviewer
    from tasks.review.screen import exchange

    params = load_params()
    for line in exchange.pull(Workspace(params.paths), params.review.dataset, who or default_reviewer()):
        typer.echo(line)


@app.command()
def status() -> None:
    """How much of the queue is decided, by label.

    Example: python -m tasks review status
    """
    from rich.console import Console

    from tasks.core.workspace import Workspace
    from tasks.params import load_params
    from tasks.review.status import review_status

    Console(highlight=False).print(review_status(Workspace(load_params().paths)))


@app.command("export")
def export_questions(
    file: Annotated[Path, typer.Argument(help="to write: .csv, .json for Label Studio, .xml for CVAT")],
) -> None:
    """Write the open questions for another tool; `review import` reads its answers.

    Example: python -m tasks review export questions.csv
    """
    from tasks.core.workspace import Workspace
    from tasks.params import load_params
    from tasks.review import exports

    for line in exports.export_questions(Workspace(load_params().paths), file):
        typer.echo(line)


@app.command("import")
def import_verdicts(
    file: Annotated[Path, typer.Argument(help="CSV, Label Studio's JSON, or CVAT for images 1.1 (.xml or .zip)")],
    file_format: Annotated[
        str | None, typer.Option("--format", help="csv, label-studio or cvat; told from the file when left out")
    ] = None,
    who: Annotated[str | None, typer.Option(help="author of verdicts without one; git's user.name")] = None,
) -> None:
    """Append the verdicts of another tool's export; importing it again changes nothing.

    Example: python -m tasks review import answers.csv --who ann
    """
    from tasks.core.workspace import Workspace
    from tasks.params import load_params
    from tasks.review import recording

    workspace = Workspace(load_params().paths)
    typer.echo(recording.import_verdicts(workspace, file, file_format, who or recording.default_reviewer()))


@app.command()
def mine(
    label: Annotated[str, typer.Argument(help="label id of the taxonomy")],
    most: Annotated[int, typer.Option(min=1, help="questions to add")] = 20,
) -> None:
    """Ask about pool images that resemble a label's positives.

    Example: python -m tasks review mine seven --most 20
    """
    from tasks.core.workspace import Workspace
    from tasks.params import load_params
    from tasks.review.mining import mine_label

    num_images = mine_label(Workspace(load_params().paths), label, most=most)
    typer.echo(f"{num_images} pool images that resemble '{label}'. Next: python -m tasks review push")


@app.command()
def guidelines() -> None:
    """Write one page a label that says how to judge it.

    Example: python -m tasks review guidelines
    """
    import numpy as np

    from tasks.core.workspace import Workspace
    from tasks.images.decode import open_rgb
    from tasks.params import load_params
    from tasks.report.pictures import data_uri
    from tasks.review.guidelines import write_guidelines

    workspace = Workspace(load_params().paths)
    typer.echo(write_guidelines(workspace, picture_of=lambda uri: data_uri(np.asarray(open_rgb(uri)))))
