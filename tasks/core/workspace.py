"""The files that cross a stage: one catalogue, name -> where it lies and what it holds.

    workspace = Workspace(params.paths)
    labels = workspace.read("cleaned.labels")                   # held against its schema
    states = workspace.states("cleaned", image_ids)             # the three-state rule, tasks/core/states.py
    workspace.write("replication", table)                       # sorted by its keys, atomically
    workspace.book(ledger)                                      # refused when it does not balance

To add a file: one entry in CATALOGUE, and its place under `paths:` in params.yaml where it is no member of a folder
that stands there already.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from tasks.core import prediction_table, tables
from tasks.core.errors import TableError
from tasks.core.ledger import Ledger
from tasks.core.prediction_table import Predictions
from tasks.core.states import States, states_of

if TYPE_CHECKING:
    from tasks.params import Paths

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Table:
    """A Parquet table. place: key of `paths:`.  file: inside that folder, '' when the place is the file itself.

    keys: the columns by which its rows are sorted when it is written, so that equal content gives equal bytes.
    """

    place: str
    file: str
    schema: pa.Schema
    keys: tuple[str, ...] = ()


@dataclass(frozen=True)
class Json:
    """A JSON document with sorted keys and stable floats."""

    place: str
    file: str = ""


PAIR = ("image_id", "label")

CATALOGUE: dict[str, Table | Json] = {
    "truth": Table("truth", "", tables.TRUTH),
    # one folder a source; the names are the source's own
    "ingested.images": Table("ingested", "{source}/images.parquet", tables.IMAGES, ("image_id",)),
    "ingested.labels": Table("ingested", "{source}/labels.parquet", tables.LABELS, (*PAIR, "origin")),
    "ingested.coverage": Table("ingested", "{source}/coverage.parquet", tables.COVERAGE, ("label",)),
    "ingested.unknown": Table("ingested", "{source}/unknown.parquet", tables.UNKNOWN, PAIR),
    "ingested.objects": Table("ingested", "{source}/objects.parquet", tables.OBJECTS, PAIR),
    "ingested.vocabulary": Json("ingested", "{source}/vocabulary.json"),
    # the project's own vocabulary
    "mapped.images": Table("mapped", "images.parquet", tables.IMAGES, ("image_id",)),
    "mapped.labels": Table("mapped", "labels.parquet", tables.LABELS, PAIR),
    "mapped.unknown": Table("mapped", "unknown.parquet", tables.UNKNOWN, PAIR),
    "mapped.coverage": Table("mapped", "coverage.parquet", tables.COVERAGE, ("source", "label")),
    "mapped.objects": Table("mapped", "objects.parquet", tables.OBJECTS, PAIR),
    "mapped.proposals": Table("mapped", "proposals.parquet", tables.LABELS, (*PAIR, "origin")),
    "mapped.label_spaces": Table("mapped", "label_spaces.parquet", tables.COVERAGE, ("source", "label")),
    "mapped.look_again": Table("mapped", "look_again.parquet", tables.LOOK_AGAIN, PAIR),
    "mapped.vocabulary": Json("mapped", "vocabulary.json"),
    "coverage_report": Json("coverage_report"),
    "deduplicated.groups": Table("deduplicated", "groups.parquet", tables.GROUPS, ("image_id",)),
    "deduplicated.labels": Table("deduplicated", "labels.parquet", tables.LABELS, PAIR),
    "deduplicated.unknown": Table("deduplicated", "unknown.parquet", tables.UNKNOWN, PAIR),
    "duplicates_report": Json("duplicates_report"),
    "splits": Table("splits", "", tables.SPLITS),
    "folds": Table("folds", "", tables.FOLDS, ("image_id", "sha256")),
    "cleaned.labels": Table("cleaned", "labels.parquet", tables.LABELS),
    "cleaned.unknown": Table("cleaned", "unknown.parquet", tables.UNKNOWN),
    "cleaned.changes": Table("cleaned", "changes.parquet", tables.CHANGES),
    "cleaned.proposals": Table("cleaned", "proposals.parquet", tables.LABELS),
    "cleaned.queue": Table("cleaned", "queue.parquet", tables.QUEUE),
    "cleaned.review": Json("cleaned", "review.json"),
    "cleaning_report": Json("cleaning_report"),
    "replication": Table("replication", "", tables.REPLICATION),
    "resampling_report": Json("resampling_report"),
    "thresholds": Json("thresholds"),
    "headline": Json("headline"),
    "metrics": Json("metrics"),
    "evaluation.result": Json("evaluation", "result.json"),
    "evaluation.findings": Json("evaluation", "findings.json"),
    "evaluation.change": Json("evaluation", "change.json"),
    "evaluation.curves": Json("evaluation", "curves.json"),
    "evaluation.mistakes": Json("evaluation", "mistakes.json"),
    "export_report": Json("export_report"),
    "gate": Json("gate"),
}


@dataclass(frozen=True)
class Vocabulary:
    """What training must know of the taxonomy, and no more: editing the rest of it trains nothing again.

    labels: ids in column order.  groups: column positions of each exclusive group.  display_names: one a label.
    """

    labels: list[str]
    groups: list[list[int]]
    display_names: list[str]


class Workspace:
    """The files of one project, at the places that `paths:` names."""

    def __init__(self, paths: Paths) -> None:
        self.paths = paths

    def path(self, name: str, **item: str) -> Path:
        """Where the entry lies. item: what its file name asks for, e.g. source="coco"."""
        entry = CATALOGUE[name]
        place = getattr(self.paths, entry.place)
        return place / entry.file.format(**item) if entry.file else place

    def exists(self, name: str, **item: str) -> bool:
        """Whether a stage has written it."""
        return self.path(name, **item).exists()

    def read(self, name: str, columns: list[str] | None = None, **item: str) -> Any:
        """A pa.Table held against its schema, or what the JSON document holds.

        Raises TableError naming the file, and the command that makes it, when it is missing or does not fit.
        """
        entry, path = CATALOGUE[name], self.path(name, **item)
        return tables.read_json(path) if isinstance(entry, Json) else tables.read_table(path, entry.schema, columns)

    def write(self, name: str, value: pa.Table | dict, **item: str) -> None:
        """Write the entry atomically. Raises TableError when the table does not fit its schema."""
        entry, path = CATALOGUE[name], self.path(name, **item)
        if isinstance(entry, Json):
            tables.write_json(path, value)
        else:
            tables.write_table(path, tables.sort_table(value, entry.keys) if entry.keys else value, entry.schema)

    def book(self, ledger: Ledger) -> None:
        """Write the stage's ledger entry and say what was left out; raises LedgerError when it does not balance."""
        ledger.write(self.paths.ledger / f"{ledger.stage}.json")
        for line in ledger.losses():
            log.info("%s: %s", ledger.stage, line)
        for line in ledger.notes:
            log.log(logging.WARNING if line in ledger.warnings else logging.INFO, "%s: %s", ledger.stage, line)

    # ------------------------------------------------------------ what several stages read in the same way

    def vocabulary(self) -> Vocabulary:
        """Label order, exclusive groups and display names, as `map_labels` froze them."""
        return Vocabulary(**self.read("mapped.vocabulary"))

    def image_ids(self, *partitions: str) -> list[str]:
        """Ids of the usable images of these partitions, sorted."""
        splits = self.read("splits")
        rows = splits.filter(pc.is_in(splits["partition"], pa.array(partitions)))
        return sorted(rows["image_id"].to_pylist())

    def usable_images(self) -> pa.Table:
        """IMAGES without the quarantined ones, by image id."""
        images = self.read("mapped.images")
        return images.filter(pc.equal(images["status"], "ok")).sort_by("image_id")

    def states(self, folder: str, image_ids: list[str], labels: list[str] | None = None) -> States:
        """States of these images, by the labels of `folder`: "deduplicated" (as annotated) or "cleaned".

        labels: the vocabulary's when None.
        """
        images = self.read("mapped.images", ["image_id", "source"])
        source_of = dict(zip(images["image_id"].to_pylist(), images["source"].to_pylist(), strict=True))
        if missing := next((i for i in image_ids if i not in source_of), None):
            raise TableError(
                f"{self.paths.splits}: image '{missing}' is not in the images table. Run `dvc repro split`."
            )
        return states_of(
            self.read(f"{folder}.labels"),
            image_ids,
            self.vocabulary().labels if labels is None else labels,
            coverage=self.read("mapped.coverage"),
            sources=[source_of[i] for i in image_ids],
            unknown=self.read(f"{folder}.unknown"),
        )

    def groups(self, image_ids: list[str]) -> list[str]:
        """Duplicate group of each image, its own id where it has none."""
        groups = self.read("deduplicated.groups")
        group_of = dict(zip(groups["image_id"].to_pylist(), groups["group_id"].to_pylist(), strict=True))
        return [group_of.get(i, i) for i in image_ids]

    def predictions(self, name: str = "predictions", *, with_embeddings: bool = True) -> Predictions:
        """Scores: "predictions" (of every partition) or "out_of_fold", which has embeddings."""
        return prediction_table.read_predictions(getattr(self.paths, name), with_embeddings=with_embeddings)

    def write_predictions(self, name: str, predictions: Predictions) -> None:
        """Write scores, and embeddings when there are any."""
        prediction_table.write_predictions(getattr(self.paths, name), predictions)
