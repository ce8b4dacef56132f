"""A first taxonomy.yaml from the names that a source brought along."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pyarrow as pa
import pyarrow.compute as pc
import typer

from tasks.core.errors import ParamsError, TableError, did_you_mean
from tasks.core.tables import PRESENT, write_text
from tasks.core.workspace import Workspace
from tasks.params import Params, load_params
from tasks.sources.openimages_tables import read_hierarchy
from tasks.taxonomy.drafts import draft_taxonomy


def draft(params: Params, source: str, hierarchy: Path | None, *, every: bool = False) -> str:
    """YAML text for a person to edit: a label for each class that is present on an image of the ingested source.

    hierarchy: Open Images' JSON, from which `implies` comes.  every: a label for each class that it declares.
    Raises ParamsError for a source that is not in params, TableError when it was not ingested yet or would draft none.
    """
    if source not in params.sources:
        raise ParamsError(f"params.yaml: sources: no entry '{source}'. {did_you_mean(source, params.sources)}")
    workspace = Workspace(params.paths)
    names = workspace.read("ingested.vocabulary", source=source)
    if not every:
        occur = present_classes(workspace.read("ingested.labels", ["label", "state"], source=source))
        names = {name: shown for name, shown in names.items() if name in occur}
        if not names:
            raise TableError(
                f"{source}: no class is present on any image. `--all` drafts every class that it declares."
            )
    parents = {**dict.fromkeys(names, ()), **(read_hierarchy(hierarchy) if hierarchy else {})}
    return draft_taxonomy(parents, names, params.sources[source].vocabulary)


def present_classes(labels: pa.Table) -> set[str]:
    """Classes with a row that says present; LABELS, of which columns label and state are enough."""
    present = labels.filter(pc.equal(labels["state"], PRESENT))
    return set(pc.unique(present["label"]).to_pylist())


def command(
    source: Annotated[str, typer.Argument(help="an entry of `sources:`; run ingest@SOURCE first")],
    hierarchy: Annotated[Path | None, typer.Option(help="Open Images' label hierarchy, JSON")] = None,
    every: Annotated[bool, typer.Option("--all", help="every class that the source declares, present or not")] = False,
    out: Annotated[Path | None, typer.Option(help="file to write, replaced only when the draft is whole")] = None,
) -> None:
    """A first taxonomy.yaml from the classes that occur in a source, to be edited by a person.

    Example: python -m tasks draft digits_coco --out data/taxonomy/mine.yaml
    """
    text = draft(load_params(), source, hierarchy, every=every)
    if out is None:
        typer.echo(text, nl=False)
    else:
        write_text(out, text)
        typer.echo(f"{out} written")
