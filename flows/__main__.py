"""The pipeline under Prefect.

Exit 0 on success, 1 on a user's error or a failed stage (one line), 2 on wrong usage, 130 on Ctrl-C, 143 on SIGTERM.
Heavy imports happen inside the commands, so that `--help` is instant.
"""

from __future__ import annotations

import signal

# Until `one_line` Ctrl-C ends the process as it does any other program, not with the traceback of an import.
if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import subprocess
import sys
from typing import Annotated

import typer

from tasks.core.error_lines import one_line

app = typer.Typer(
    add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__.splitlines()[0]
)
review_app = typer.Typer(invoke_without_command=True)
app.add_typer(review_app, name="review")


@app.command()
def run(
    recipe: Annotated[str | None, typer.Option(help="apply recipes/NAME.yaml to params.yaml first")] = None,
    until: Annotated[str | None, typer.Option(help="stop after this stage; run only what it needs")] = None,
    share: Annotated[
        bool, typer.Option("--share", help="take results from the DVC remote, and push this run's")
    ] = False,
) -> None:
    """Bring the pipeline up to date; a stage that is fresh says so and runs nothing.

    Example: python -m flows run --until calibrate
    """
    from flows import dead_runs, terminal
    from flows.pipeline import pipeline
    from flows.server import reach_server

    terminal.show_only_stages()
    reach_server()
    with dead_runs.signed():
        pipeline(until=until, recipe=recipe, share=share)


@app.command()
def plan(until: Annotated[str | None, typer.Option(help="only this stage and what it needs")] = None) -> None:
    """What would run, why, and how long it took last time.

    Example: python -m flows plan --until finetune
    """
    from flows import terminal
    from flows.outlook import outlook
    from flows.plan import plan as make_plan

    rows = make_plan(until=until)
    terminal.show_plan(rows)
    terminal.show_lines(outlook(rows))


@review_app.callback()
def review(
    context: typer.Context,
    open_screen: Annotated[bool, typer.Option("--open", help="show the screen here while it waits")] = False,
) -> None:
    """The review queue. Without a step: push, wait for a person, pull.

    Example: python -m flows review --open
    """
    if context.invoked_subcommand is None:
        from flows import dead_runs, terminal
        from flows.review import review as review_flow
        from flows.server import reach_server

        terminal.show_only_stages()
        reach_server()
        with dead_runs.signed():
            review_flow(open_screen=open_screen)


def _review_step(step: str, help: str) -> None:
    help = f"{help}\n\nExample: python -m flows review {step}"

    @review_app.command(step, help=help, context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
    def run_step(context: typer.Context) -> None:
        raise typer.Exit(subprocess.run([sys.executable, "-m", "tasks", "review", step, *context.args]).returncode)


_review_step("push", "Put the ranked queue on the screen.")
_review_step("open", "Open the screen in the browser.")
_review_step("pull", "Write the person's decisions to data/review/verdicts.jsonl.")
_review_step("status", "How much of the queue is decided.")


@app.command()
def serve() -> None:
    """Run the pipeline every night, while this command runs and a Prefect server is up.

    Example: python -m flows serve
    """
    from flows.deploy import serve as serve_nightly

    serve_nightly()


def main() -> None:
    """Entry point: errors become one line and exit 1 (typer does the rest: 2 for usage, 130 for Ctrl-C)."""
    signal.signal(signal.SIGTERM, _terminated)  # during a flow Prefect tells its server first
    with one_line():
        app()


def _terminated(*_: object) -> None:
    print("stopped", file=sys.stderr)
    sys.exit(143)


if __name__ == "__main__":
    main()
