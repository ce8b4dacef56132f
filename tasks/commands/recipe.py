"""Recipes: overlays of params.yaml, one a published system.

A recipe file holds the keys that differ, plus `extends:` (one other recipe) and `about:` (source, expected result,
cost). Applying one writes params.yaml; comments of unchanged lines survive, because only the values that differ are
replaced.
"""

from __future__ import annotations

import copy
import difflib
import io
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from ruamel.yaml import YAML

from tasks.core.atomic_files import locked
from tasks.core.errors import ParamsError, did_you_mean
from tasks.core.tables import write_text
from tasks.params import PARAMS_FILE, parse_params

RECIPES = Path("recipes")


def list_recipes(folder: Path = RECIPES) -> str:
    """One line a recipe: its name and what it is about."""
    lines = []
    for path in sorted(folder.glob("*.yaml")):
        about = (yaml.safe_load(path.read_text(encoding="utf-8")) or {}).get("about", {})
        lines.append(f"{path.stem:<24} {about.get('what', '')}")
    return "\n".join(lines) or f"{folder}/ holds no recipe."


def read_recipe(name: str, folder: Path = RECIPES, seen: tuple[str, ...] = ()) -> dict[str, Any]:
    """The overlay of `name` on top of what it extends. Raises ParamsError for an unknown name or a circle."""
    path = folder / f"{name}.yaml"
    if not path.exists():
        raise ParamsError(f"{path}: no such recipe. {did_you_mean(name, [p.stem for p in folder.glob('*.yaml')])}")
    if name in seen:
        raise ParamsError(f"{path}: `extends:` runs in a circle: {' -> '.join([*seen, name])}.")
    overlay = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    overlay.pop("about", None)
    parent = overlay.pop("extends", None)
    return merge(read_recipe(parent, folder, (*seen, name)), overlay) if parent else overlay


# Mappings whose keys are the user's own: an overlay replaces them whole instead of adding to them.
REPLACED_WHOLE = {("sources",), ("make_demo", "sets"), ("model", "backbone", "options")}


def merge(base: Any, overlay: Any) -> Any:
    """A copy of `base` with the values of `overlay`, key by key; lists and REPLACED_WHOLE mappings are replaced."""
    return _put_in(copy.deepcopy(base), copy.deepcopy(overlay), ())


def _put_in(base: Any, overlay: Any, at: tuple[str, ...]) -> Any:
    if not (isinstance(base, dict) and isinstance(overlay, dict)) or at in REPLACED_WHOLE:
        return overlay
    for key, value in overlay.items():
        base[key] = _put_in(base[key], value, (*at, key)) if key in base else value
    return base


def apply_recipe(name: str, params_file: Path = PARAMS_FILE, folder: Path = RECIPES) -> str:
    """Write the recipe into params.yaml and return the unified diff; '' -> 'nothing to change'.

    Raises ParamsError, with params.yaml untouched, when the result would not be valid.
    """
    with locked(params_file):
        return _apply(read_recipe(name, folder), name, params_file, folder)


def _apply(overlay: dict[str, Any], name: str, params_file: Path, folder: Path) -> str:
    before = params_file.read_text(encoding="utf-8")
    after = overlaid(before, overlay, where=f"{folder / name}.yaml")
    diff = difference(before, after, params_file, f"recipe {name}")
    if not diff:
        return f"params.yaml already follows recipe {name}."
    write_text(params_file, after)
    return diff


def overlaid(before: str, overlay: dict[str, Any], *, where: str) -> str:
    """The text of params.yaml with the values of `overlay` put in, its comments kept.

    where: of the overlay, for messages. Raises ParamsError when the result would not be valid.
    """
    round_trip = YAML()
    round_trip.preserve_quotes = True
    round_trip.width = 200
    document = merge(round_trip.load(before), overlay)
    buffer = io.StringIO()
    round_trip.dump(document, buffer)
    parse_params(yaml.safe_load(buffer.getvalue()), where=where)
    return buffer.getvalue()


def difference(before: str, after: str, path: Path, what: str) -> str:
    """Unified diff without context."""
    return "".join(difflib.unified_diff(before.splitlines(True), after.splitlines(True), str(path), what, n=0))


def command(name: Annotated[str | None, typer.Argument(help="file name under recipes/, without .yaml")] = None) -> None:
    """Apply a recipe to params.yaml and print what changed; without a name, list the recipes.

    Example: python -m tasks recipe photos
    """
    typer.echo(apply_recipe(name) if name else list_recipes())
