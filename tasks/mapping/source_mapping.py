"""One ingested source -> the project's vocabulary: migrations of older ids, images of predictions, rows, objects."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc

from tasks.core.errors import SourceError
from tasks.core.ledger import Ledger
from tasks.core.tables import COVERAGE, LOOK_AGAIN, conform, empty
from tasks.mapping.coverage import map_coverage
from tasks.mapping.image_matching import Matched, match_images
from tasks.mapping.mapping import Mapped, map_rows
from tasks.mapping.object_sizes import map_objects
from tasks.taxonomy.migrations import Migrated, migrate_labels
from tasks.taxonomy.taxonomy import OWN, Taxonomy


@dataclass(frozen=True)
class Source:
    """What `ingest` wrote of one source, in its own classes; one entry of `sources:` in params.yaml."""

    name: str
    vocabulary: str  # key under `from:`
    use: str  # train | pretrain | pool | proposals
    classes: Mapping[str, str]  # source class -> display name
    labels: pa.Table  # LABELS
    unknown: pa.Table  # UNKNOWN
    coverage: pa.Table  # COVERAGE
    objects: pa.Table  # OBJECTS


@dataclass(frozen=True)
class MappedSource:
    """A source in the project's vocabulary."""

    rows: Mapped
    look_again: pa.Table  # LOOK_AGAIN
    objects: pa.Table  # OBJECTS
    covered: list[str]  # labels that the source annotates exhaustively
    label_space: list[tuple[str, str]]  # (origin, label): what the makers of its proposals can name

    def book(self, ledger: Ledger) -> None:
        """Enter the rows of this source into the ledger, in unit `labels`."""
        self.rows.book(ledger)


def map_source(
    source: Source,
    images: pa.Table,
    taxonomy: Taxonomy,
    *,
    positives: bool,
    negatives: bool,
    min_matched_share: float = 0.0,
) -> MappedSource:
    """Map all tables of a source. Its rows are brought to today's ids first where its classes are ids of the taxonomy.

    images: IMAGES of all sources.  positives, negatives: whether presence flows up implications, and absence down.
    min_matched_share: of predictions that are about an image of the project.
    """
    today, vocabulary = _in_todays_ids(source, taxonomy), source.vocabulary
    labels, unmatched, examples = today.labels, Counter(), {}
    if source.use == "proposals":
        matched = match_images(today.labels, images)
        labels, unmatched = matched.rows, matched.dropped
        examples = {reason: repr(image_id) for image_id, reason in reversed(matched.lost.items())}
        _require_matches(source.name, matched, min_matched_share)
    rows = map_rows(labels, taxonomy, vocabulary, unknown=today.unknown, positives=positives, negatives=negatives)
    named = [label.id for label in taxonomy.labels if label.classes_in(vocabulary)]
    exhaustive = [] if source.use == "proposals" else today.coverage["label"].to_pylist()
    return MappedSource(
        rows=replace(
            rows,
            num_in=rows.num_in + today.dropped.total() - today.added.total() + unmatched.total(),
            dropped=rows.dropped + today.dropped + unmatched,
            added=rows.added + today.added,
            examples=rows.examples | examples,
        ),
        look_again=today.look_again,
        objects=map_objects(source.objects, taxonomy, vocabulary),
        covered=map_coverage(exhaustive, taxonomy, vocabulary),
        label_space=[(o, label) for o in pc.unique(rows.proposals["origin"]).to_pylist() for label in named],
    )


def _require_matches(name: str, matched: Matched, min_share: float) -> None:
    """Raise SourceError when no prediction, or a smaller share than stated, is about an image of the project."""
    num_lost, num_kept = matched.dropped.total(), matched.rows.num_rows
    if not matched.lost or (num_kept and num_kept >= min_share * (num_kept + num_lost)):
        return
    reason, count = matched.dropped.most_common(1)[0]
    example = next(image_id for image_id, why in matched.lost.items() if why == reason)
    raise SourceError(
        f"sources.{name}: {num_kept or 'none'} of its {num_kept + num_lost:,} predictions matches an image: "
        f"{count:,} are a {reason}, e.g. {example!r}. Name pictures by id or file name, and set `of` to the source "
        "that has them; or lower ingest.min_usable_share."
    )


def _in_todays_ids(source: Source, taxonomy: Taxonomy) -> Migrated:
    """The source's rows, migrated where its classes are ids of this taxonomy, of any age."""
    if source.vocabulary == OWN and taxonomy.migrations:
        return migrate_labels(source.labels, source.unknown, source.coverage, taxonomy.migrations)
    return Migrated(source.labels, source.unknown, source.coverage, empty(LOOK_AGAIN), Counter(), Counter())


def joined(parts: Iterable[pa.Table], schema: pa.Schema) -> pa.Table:
    """One table of all sources."""
    return pa.concat_tables([conform(part, schema, where="mapped") for part in parts])


def label_pairs(pairs: Sequence[tuple[str, str]]) -> pa.Table:
    """COVERAGE of (source, label) pairs."""
    return pa.Table.from_pylist([{"source": source, "label": label} for source, label in pairs], schema=COVERAGE)
