"""Where each label of an image came from, by what the stages wrote about it."""

from __future__ import annotations

from typing import Annotated

import pyarrow.compute as pc
import typer
from rich.console import Console, RenderableType

from tasks.core.errors import TableError, did_you_mean
from tasks.core.workspace import Workspace
from tasks.params import Params, load_params
from tasks.review.agreement import match
from tasks.review.label_history import TABLES, explain_image, render
from tasks.review.verdicts import read_verdicts
from tasks.taxonomy.reading import read_taxonomy


def explain(params: Params, image_id: str) -> RenderableType:
    """For a terminal: each label's state and the chain of rows, rules and verdicts that made it.

    Raises TableError when no source lists the image, with the nearest ids.
    """
    workspace = Workspace(params.paths)
    images = workspace.read("mapped.images", ["image_id", "source", "sha256", "status"])
    image = images.filter(pc.equal(images["image_id"], image_id))
    if not image.num_rows:
        raise TableError(f"explain: no image '{image_id}'. {did_you_mean(image_id, images['image_id'].to_pylist())}")
    source = image["source"][0].as_py()
    if source not in params.sources:
        raise TableError(
            f"explain: source '{source}' is not under `sources:` of params.yaml any more. Run `map_labels`."
        )
    taxonomy = read_taxonomy(params.paths.taxonomy)
    verdicts, _ = match(read_verdicts(params.paths.verdicts, taxonomy), image)
    steps = explain_image(
        image_id,
        {name: workspace.read(name, source=source) for name in TABLES if workspace.exists(name, source=source)},
        taxonomy,
        source=source,
        vocabulary=params.sources[source].vocabulary,
        verdicts=verdicts,
    )
    return render(steps)


def command(image_id: Annotated[str, typer.Argument(help="as in the images table, e.g. digits_coco/12")]) -> None:
    """Where each label of an image came from.

    Example: python -m tasks explain digits_coco/12
    """
    Console().print(explain(load_params(), image_id))
