"""`python -m tasks draft SOURCE`: a first taxonomy.yaml from the names that a source brought along."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tasks.core import tables
from tasks.core.errors import ParamsError, did_you_mean
from tasks.params import Params, load_params
from tasks.sources.openimages_tables import read_hierarchy
from tasks.taxonomy.drafts import draft_taxonomy


def draft(params: Params, source: str, hierarchy: Path | None) -> str:
    """YAML text for a person to edit, a label for each name of the ingested source.

    hierarchy: Open Images' JSON, from which `implies` comes.
    Raises ParamsError for a source that is not in params, TableError when it was not ingested yet.
    """
    if source not in params.sources:
        raise ParamsError(f"params.yaml: sources: no entry '{source}'. {did_you_mean(source, params.sources)}")
    names = tables.read_json(params.paths.ingested / source / "vocabulary.json")
    parents = {**dict.fromkeys(names, ()), **(read_hierarchy(hierarchy) if hierarchy else {})}
    return draft_taxonomy(parents, names, params.sources[source].vocabulary)


def command(
    source: Annotated[str, typer.Argument(help="an entry of `sources:`; run ingest@SOURCE first")],
    hierarchy: Annotated[Path | None, typer.Option(help="Open Images' label hierarchy, JSON")] = None,
) -> None:
    """A first taxonomy.yaml from the names of a source, to be edited by a person."""
    typer.echo(draft(load_params(), source, hierarchy), nl=False)
