"""`--help` of every command and stage ends with an example that the command line takes."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

import click
import pytest
import typer
import yaml

from flows.__main__ import app as flows_app
from tasks.__main__ import COMMANDS, command_line, modules
from tests.imports import ROOT, stage_names


def leaves(command: click.Command, *words: str) -> Iterator[tuple[str, click.Command]]:
    """("python -m tasks review web", its command) of a command, or of all commands of a group."""
    if hasattr(command, "commands"):
        for name, below in command.commands.items():
            yield from leaves(below, *words, name)
        if command.params:  # it does something itself, as `flows review` does
            yield " ".join(words), command
    else:
        yield " ".join(words), command


def all_commands() -> Iterator[tuple[str, click.Command]]:
    for name in modules(COMMANDS):
        command = typer.main.get_command(command_line(name)).commands[name.replace("_", "-")]
        yield from leaves(command, "python -m tasks", name.replace("_", "-"))
    yield from leaves(typer.main.get_command(flows_app), "python -m flows")


LEAVES = dict(all_commands())


@pytest.mark.parametrize("typed", LEAVES)
def test_the_example_of_a_command_is_one_that_it_takes(typed):
    (example,) = re.findall(r"^Example: (.+)$", LEAVES[typed].help, re.MULTILINE)
    assert example == typed or example.startswith(f"{typed} ")
    assert len(f" Example: {example}") < 80  # one line of a terminal
    LEAVES[typed].make_context(typed, shlex.split(example.removeprefix(typed)))  # raises for what it does not know


def test_the_example_of_a_stage_is_the_one_command_that_makes_it_alone():
    stages = typer.main.get_command(command_line("")).commands
    declared = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    shown = [stages[name].help.partition("Example: ")[2] for name in stage_names() if name not in modules(COMMANDS)]
    expected = [f"python -m dvc repro --single-item {name}" for name in declared if name not in modules(COMMANDS)]
    assert sorted(shown) == sorted(expected)
