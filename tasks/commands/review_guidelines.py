"""`python -m tasks review guidelines`: one page a label that says how to judge it, from what the last run wrote."""

from __future__ import annotations

import logging
from collections.abc import Collection
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.commands.review_steps import resolved_verdicts
from tasks.core import tables
from tasks.core.prediction_table import read_predictions
from tasks.core.workspace import Workspace
from tasks.images.decode import open_rgb
from tasks.params import Params
from tasks.report.pictures import data_uri
from tasks.review.guidelines import Examples, Guideline, choose_examples, render_guidelines
from tasks.review.screen.connection import first_sentence
from tasks.taxonomy.reading import read_taxonomy
from tasks.taxonomy.taxonomy import Taxonomy

logger = logging.getLogger(__name__)

PICTURES_EACH = 12
"""Of sure positives, of sure negatives and of hard cases on one page."""


def write_guidelines(params: Params) -> Path:
    """Write the pages beside the report. Returns the one that lists them."""
    taxonomy = read_taxonomy(params.paths.taxonomy)
    verdicts = [vars(verdict) for verdict in resolved_verdicts(params).standing]
    predictions = read_predictions(params.paths.out_of_fold)
    dense = Workspace(params.paths).states("cleaned", predictions.image_ids, predictions.labels)
    examples = {
        label: choose_examples(
            dense.image_ids,
            dense.targets_NC[:, c],
            dense.known_NC[:, c],
            predictions.scores_NC[:, c],
            [verdict for verdict in verdicts if verdict["label"] == label],
            most=PICTURES_EACH,
        )
        for c, label in enumerate(predictions.labels)
    }
    # A label that was added since the last run has a page without pictures.
    guidelines = [_guideline(label, taxonomy, examples.get(label, Examples())) for label in taxonomy.ids]
    shown = {
        example.image_id for guideline in guidelines for found in vars(guideline.examples).values() for example in found
    }
    folder = params.paths.report.parent / "guidelines"
    for file, html in render_guidelines(guidelines, _pictures(params, shown)).items():
        tables.write_text(folder / file, html)
    return folder / "index.html"


def _guideline(label: str, taxonomy: Taxonomy, examples: Examples) -> Guideline:
    excluded = {other for pair in taxonomy.exclusions if label in pair for other in pair} - {label}

    def names(labels: Collection[str]) -> list[str]:
        return [taxonomy[h].display_name for h in taxonomy.ids if h in labels]

    return Guideline(
        label=label,
        name=taxonomy[label].display_name,
        definition=taxonomy[label].definition,
        implies=names(taxonomy.ancestors[label]),
        implied_by=names(taxonomy.descendants[label]),
        excludes=names(excluded),
        native_names=taxonomy[label].source_classes,
        examples=examples,
    )


def _pictures(params: Params, image_ids: set[str]) -> dict[str, str]:
    """Image id -> data URI, of those that can still be read."""
    images = tables.read_table(params.paths.mapped / "images.parquet", tables.IMAGES, ["image_id", "uri"])
    rows = images.filter(pc.is_in(images["image_id"], pa.array(sorted(image_ids), pa.string()))).to_pylist()
    pictures: dict[str, str] = {}
    problems: list[Exception] = []
    for row in rows:
        try:
            pictures[row["image_id"]] = data_uri(np.asarray(open_rgb(row["uri"])))
        except Exception as error:  # each remote file system has errors of its own
            problems.append(error)
    if problems:
        example = first_sentence(problems[0])
        logger.warning("%d of %d pictures are left out, e.g. %s", len(problems), len(rows), example)
    return pictures
