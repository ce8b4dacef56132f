"""One stage by hand, and the commands that answer a question.

Exit 0 on success, 1 on a user's error (one line), 2 on wrong usage, 130 on Ctrl-C, 143 when SIGTERM stopped a training
that saved its state. A stage is a module of tasks/stages, a command one of tasks/commands with a function `command`
(or a group of them, `app`); only the one that is asked for is imported, so that `--help` is instant.
"""

from __future__ import annotations

import signal

# Until `one_line` Ctrl-C ends the process as it does any other program, not with the traceback of an import.
if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import importlib
import logging
import os
import sys
from pathlib import Path

try:
    import typer
except ModuleNotFoundError:  # a machine that only predicts: onnxruntime, numpy and Pillow are all it has
    if __name__ != "__main__" or sys.argv[1:2] != ["predict"]:
        raise
    from tasks.commands.predict import main as predict_alone
    from tasks.images.stored_pixels import stored_pixels

    sys.exit(predict_alone(sys.argv[2:], read=stored_pixels))

from tasks.core import environment
from tasks.core.error_lines import one_line
from tasks.core.log_lines import LogLine
from tasks.core.names import escaped

# Threads that spin as long as they wait bring training to a crawl when anything else wants a core; those that never do
# sleep between short operations: 248 images/s, 467 if they spin for microseconds. Read when torch loads OpenMP.
os.environ |= {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "20000"} | os.environ

COMMANDS, STAGES = "commands", "stages"
NOISY = "onnx_ir alembic mlflow httpx matplotlib fontTools onnxscript torch.onnx PIL"


def modules(package: str) -> dict[str, str]:
    """Name at the command line -> first line of the docstring, read without importing anything."""
    paths = sorted((Path(__file__).parent / package).glob("[!_]*.py"))
    return {path.stem: path.read_text(encoding="utf-8").split('"""', 2)[1].strip().splitlines()[0] for path in paths}


def command_line(wanted: str) -> typer.Typer:
    """Every command and stage by its first line; only `wanted` with its arguments."""
    app = typer.Typer(
        add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__.splitlines()[0]
    )
    commands = modules(COMMANDS)
    for stem, line in commands.items():
        name = stem.replace("_", "-")
        module = importlib.import_module(f"tasks.{COMMANDS}.{stem}") if wanted in (name, stem) else None
        if hasattr(module, "app"):
            app.add_typer(module.app, name=name, rich_help_panel="Commands")
        else:
            app.command(name, help=module and module.command.__doc__, short_help=line, rich_help_panel="Commands")(
                module.command if module else lambda: None
            )
    for name, line in modules(STAGES).items():
        if name not in commands:  # `predict` is both: without arguments, the stage
            text = f"{line}\n\nExample: python -m dvc repro --single-item {name}"
            app.command(name, help=text, short_help=line, rich_help_panel="Stages")(lambda name=name: run(name))
    return app


def run(stage: str) -> None:
    """One stage, as dvc.yaml calls it."""
    from tasks.stages import run_stage

    sys.exit(run_stage(stage))


def main() -> None:
    """Entry point: turn errors into exit codes."""
    # Names from strangers' files are printed and logged: a terminal must not obey them.
    if sys.stdout.isatty():  # a file or a pipe obeys nothing
        sys.stdout = escaped(sys.stdout)
    terminal = logging.StreamHandler(escaped(sys.stderr) if sys.stderr.isatty() else sys.stderr)
    terminal.setFormatter(LogLine())
    logging.basicConfig(level=environment.log_level(), handlers=[terminal])
    for name in NOISY.split():
        logging.getLogger(name).setLevel(logging.WARNING)
    wanted = next((argument for argument in sys.argv[1:] if not argument.startswith("-")), "")
    with one_line():
        if len(sys.argv) == 2 and "@" in wanted:
            run(wanted)
        command_line(wanted)()


if __name__ == "__main__":
    main()
