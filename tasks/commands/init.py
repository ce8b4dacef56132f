"""A project from one's own pictures: finds the format, drafts the taxonomy, writes params.yaml.

It reads the annotation files as `ingest` will, so that what it says is what will be read; it opens no picture.
"""

from __future__ import annotations

import math
import re
import shutil
import statistics
import sys
import textwrap
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import pyarrow.compute as pc
import typer
import yaml

from tasks.commands.draft import present_classes
from tasks.commands.recipe import difference, merge, overlaid, read_recipe
from tasks.core.errors import SourceError
from tasks.core.registry import call
from tasks.core.tables import ABSENT, PRESENT, write_text
from tasks.params import PARAMS_FILE
from tasks.sampling.support import FEW
from tasks.sources import SOURCES, RawSource
from tasks.sources.layouts import Layout, find_layout
from tasks.sources.openimages_tables import read_hierarchy
from tasks.taxonomy.drafts import draft_taxonomy

RECIPE = "photos"
TELL_NOTHING = {"annotations", "images", "data", "dataset", "train", "raw"}
"""Names of folders that say nothing about what is in them."""
SHOWN = 8
"""Classes of which the images are counted at the terminal."""


@dataclass(frozen=True)
class Project:
    """What `init` would write. summary: lines that say what was found."""

    summary: list[str]
    params: str
    taxonomy: str
    taxonomy_file: Path


def plan_project(
    path: Path,
    before: str,
    *,
    name: str = "",
    options: Mapping[str, Any] | None = None,
    every: bool = False,
    recipe: str = RECIPE,
    weights: Path | None = None,
) -> Project:
    """Project of the files at `path`.  before: text of params.yaml.  name: of the source; taken from the path when "".

    options: of the source's reader, beside those that were found.
    every: a label for each declared class, not only for those present on an image.
    weights: a file of the recipe's network, for a machine without a connection.
    Raises SourceError for a layout that is not known, and where nothing could be learned from it.
    """
    layout = find_layout(path)
    name = name or name_of(layout.root)
    layout = replace(layout, options={**layout.options, **(options or {})})
    try:
        raw = read_source(name, layout)
    except SourceError as error:
        if "option" not in str(error):
            raise
        raise SourceError(f"{error} Here: `--option NAME=VALUE`.") from error
    if layout.kind == "folder" and "exhaustive" not in layout.options and ABSENT not in raw.labels["state"].to_pylist():
        layout.options["exhaustive"] = True  # with nothing but positives there is nothing to tell apart
        raw = read_source(name, layout)
    present = present_classes(raw.labels)
    classes = {c: shown for c, shown in raw.vocabulary.items() if every or c in present}
    if not classes:
        raise SourceError(
            f"{path}: {layout.what} with {raw.images.num_rows} images, but no class is present on any. "
            "Point at annotations, or `--all-classes` for every declared class."
        )
    parents = {**dict.fromkeys(classes, ()), **(read_hierarchy(layout.hierarchy) if layout.hierarchy else {})}
    file = Path(f"data/taxonomy/{name}.yaml")
    overlay = {
        **read_recipe(recipe),
        "sources": {name: {"kind": layout.kind, "path": shown_path(layout.root), "use": "train", **layout.options}},
        "make_demo": {"sets": {}},
    }
    if weights:
        overlay = merge(overlay, {"model": {"backbone": {"weights": shown_path(existing(weights))}}})
    summary = list(summary_lines(layout, raw, present, len(classes)))
    if not {"test", "val"} & set(raw.images["official_split"].to_pylist()):
        num_folds = yaml.safe_load(before)["split"]["num_folds"]
        test_folds = folds_to_test_on(positives_of(raw, classes), num_folds)
        overlay["split"] = {"test_folds": test_folds, "calibration_folds": [1]}
        summary.append(
            f"{len(test_folds)} of {num_folds} folds are the test set (split.test_folds), by the labels' positives"
        )
    overlay["paths"] = {**overlay.get("paths", {}), "taxonomy": file.as_posix()}
    return Project(
        summary,
        overlaid(before, overlay, where=f"recipes/{recipe}.yaml with {path}"),
        draft_taxonomy(parents, classes, layout.kind),
        file,
    )


def read_source(name: str, layout: Layout) -> RawSource:
    return call(SOURCES, layout.kind, layout.options, where=f"sources.{name}", name=name, root=layout.root)


def summary_lines(layout: Layout, raw: RawSource, present: set[str], num_labels: int) -> Iterator[str]:
    """Lines for the terminal: format, options, images by official split, classes."""
    yield f"{layout.what} in {layout.root}"
    for key, value in layout.options.items():
        shown = yaml.safe_dump(value, default_flow_style=True, width=10_000, allow_unicode=True).splitlines()[0]
        yield "  " + textwrap.shorten(f"{key}: {shown}", 300, placeholder=" …")
    splits = Counter(raw.images["official_split"].to_pylist())
    parts = ", ".join(f"{splits[split]} {split}" for split in ("train", "val", "test") if splits[split])
    yield f"{raw.images.num_rows} images{f' ({parts})' if parts else ', no official split'}"
    if missing := [uri for uri in raw.images["uri"].to_pylist() if "://" not in uri and not Path(uri).is_file()]:
        yield f"{len(missing)} of them are not there, e.g. {missing[0]}"
    yield f"{len(raw.vocabulary)} classes declared, {len(present)} present on an image, {num_labels} labels drafted"
    otherwise = "absent" if raw.coverage else "unknown"
    chosen = " (exhaustive: true, since the files say of no class that it is absent)"
    yield (
        f"{raw.labels.num_rows} label rows; a class that an image does not name is {otherwise}"
        f"{chosen if layout.options.get('exhaustive') else ''}"
    )
    most = [f"{raw.vocabulary.get(label, label)} {n}" for label, n in _present_counts(raw).most_common(SHOWN)]
    yield f"images a class: {', '.join(most)}{', …' if len(present) > SHOWN else ''}"
    if not raw.coverage and ABSENT not in raw.labels["state"].to_pylist():
        yield "no class is absent on any image: alone, these teach a model to say yes to everything"
    yield from raw.doubts()


def at_width(line: str, at_terminal: bool) -> str:
    """The line, at a terminal broken between words where its width ends."""
    if not at_terminal:
        return line
    indent = " " * (len(line) - len(line.lstrip()))
    width = shutil.get_terminal_size().columns
    return textwrap.fill(line, width, subsequent_indent=indent + "  ", break_on_hyphens=False, break_long_words=False)


def positives_of(raw: RawSource, classes: Collection[str]) -> list[int]:
    """Images on which each of the classes is present."""
    counts = _present_counts(raw)
    return [counts[name] for name in classes]


def _present_counts(raw: RawSource) -> Counter[str]:
    """Class -> images on which it is present."""
    present = raw.labels.filter(pc.equal(raw.labels["state"], PRESENT))
    return Counter(present["label"].to_pylist())


def folds_to_test_on(positives: Sequence[int], num_folds: int) -> list[int]:
    """So many folds, three tenths of all at most, that the median label has FEW positives in them; 1 is no test fold.

    Chosen once, and written down: a choice that followed the data would move test images into training later.
    """
    wanted = math.ceil(FEW * num_folds / max(statistics.median(positives), 1))
    return [0, *range(2, 1 + min(wanted, max(1, 3 * num_folds // 10)))]


def name_of(root: Path) -> str:
    """A source's name from its folder, or from the nearest above that says more."""
    for part in reversed(root.resolve().parts):
        slug = re.sub(r"[^a-z0-9]+", "_", part.lower()).strip("_")
        if slug and slug not in TELL_NOTHING:
            return slug
    return "photos"


def existing(weights: Path) -> Path:
    if not weights.is_file():
        raise SourceError(f"{weights}: no such file. `--weights` names the .safetensors file of the recipe's network.")
    return weights


def shown_path(root: Path) -> str:
    """Relative to the repository where it lies inside, else absolute."""
    whole = root.resolve()
    return (whole.relative_to(Path.cwd()) if whole.is_relative_to(Path.cwd()) else whole).as_posix()


def command(
    path: Annotated[Path, typer.Argument(help="annotation file, folder of pictures, manifest or dataset folder")],
    name: Annotated[str, typer.Option(help="of the source; from the folder's name when left out")] = "",
    dry_run: Annotated[bool, typer.Option(help="show what would change and write nothing")] = False,
    option: Annotated[list[str] | None, typer.Option(help="of the source's reader, e.g. 'separator= '")] = None,
    recipe: Annotated[str, typer.Option(help="file name under recipes/, without .yaml")] = RECIPE,
    weights: Annotated[Path | None, typer.Option(help="the network's .safetensors file, without a connection")] = None,
    all_classes: Annotated[bool, typer.Option(help="a label for every declared class, present or not")] = False,
) -> None:
    """A project from one's own pictures: finds the format, drafts the taxonomy, writes params.yaml.

    Example: python -m tasks init ~/pictures/birds --dry-run
    """
    before = PARAMS_FILE.read_text(encoding="utf-8")
    options = {key: yaml.safe_load(value) for key, _, value in (given.partition("=") for given in option or ())}
    project = plan_project(path, before, name=name, options=options, every=all_classes, recipe=recipe, weights=weights)
    for line in project.summary:
        typer.echo(at_width(line, sys.stdout.isatty()))
    if dry_run:
        typer.echo(difference(before, project.params, PARAMS_FILE, "init"), nl=False)
        typer.echo(f"{project.taxonomy_file} would be written:\n{project.taxonomy}", nl=False)
        return
    write_text(project.taxonomy_file, project.taxonomy)
    write_text(PARAMS_FILE, project.params)
    typer.echo(f"{project.taxonomy_file} and {PARAMS_FILE} written. Next: python -m flows run")
