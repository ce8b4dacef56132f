"""Put every source's labels into the project's own vocabulary."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from tasks.core import tables
from tasks.core.errors import TaxonomyError, did_you_mean
from tasks.core.ledger import Ledger
from tasks.core.workspace import Workspace
from tasks.mapping.coverage import coverage_report, map_coverage
from tasks.mapping.mapping import Mapped, map_rows
from tasks.mapping.object_sizes import map_objects
from tasks.params import Params
from tasks.sources.predictions import match_images
from tasks.taxonomy.migrations import Migrated, migrate_labels
from tasks.taxonomy.taxonomy import OWN, Taxonomy, read_taxonomy

PROPOSAL_KEYS = ["image_id", "label", "origin"]


def run(params: Params) -> None:
    """Ingested tables of all sources and the taxonomy -> one set of tables, coverage report, vocabulary."""
    taxonomy = read_taxonomy(params.paths.taxonomy)
    read = {name: params.paths.ingested / name for name in params.sources}
    images = pa.concat_tables([tables.read_table(folder / "images.parquet", tables.IMAGES) for folder in read.values()])
    tables.check_unique(images, ["image_id"], where="images of all sources")
    natives = {name: tables.read_json(folder / "vocabulary.json") for name, folder in read.items()}
    taxonomy.check_sources(declared_names(params, natives))

    ledger = Ledger("map_labels")
    said = {name: statements(params, name, read[name], taxonomy) for name in params.sources}
    check_vocabularies(params, taxonomy, {name for name in read if natives[name] or said[name].labels.num_rows})
    mapped = {name: map_source(params, name, said[name], images, taxonomy, ledger) for name in params.sources}
    for result in mapped.values():
        result.enter(ledger)
    refuse_unmapped(params, mapped)
    note_unspoken(params, taxonomy, ledger)

    out = params.paths.mapped
    write(out / "images.parquet", images, ["image_id"], tables.IMAGES)
    write(out / "labels.parquet", joined(mapped, "labels", tables.LABELS), ["image_id", "label"], tables.LABELS)
    write(out / "unknown.parquet", joined(mapped, "unknown", tables.UNKNOWN), ["image_id", "label"], tables.UNKNOWN)
    write(out / "proposals.parquet", joined(mapped, "proposals", tables.LABELS), PROPOSAL_KEYS, tables.LABELS)
    write(
        out / "look_again.parquet", joined(said, "look_again", tables.LOOK_AGAIN), PROPOSAL_KEYS[:2], tables.LOOK_AGAIN
    )
    vocabularies = {name: source.vocabulary for name, source in params.sources.items()}
    sizes = [
        map_objects(tables.read_table(read[name] / "objects.parquet", tables.OBJECTS), taxonomy, vocabulary)
        for name, vocabulary in vocabularies.items()
    ]
    write(out / "objects.parquet", pa.concat_tables(sizes), ["image_id", "label"], tables.OBJECTS)
    coverage, spoken = coverage_tables(params, said, taxonomy, mapped)
    write(out / "coverage.parquet", coverage, ["source", "label"], tables.COVERAGE)
    write(out / "label_spaces.parquet", spoken, ["source", "label"], tables.COVERAGE)
    tables.write_json(out / "vocabulary.json", vocabulary_of(taxonomy))
    tables.write_json(params.paths.coverage_report, coverage_report(mapped, natives, vocabularies, taxonomy))
    Workspace(params.paths).book(ledger)


def statements(params: Params, name: str, folder: Path, taxonomy: Taxonomy) -> Migrated:
    """What one source says, in its own names; in today's where these are ids of this taxonomy, of any age."""
    files = {"labels": tables.LABELS, "unknown": tables.UNKNOWN, "coverage": tables.COVERAGE}
    read = {what: tables.read_table(folder / f"{what}.parquet", schema) for what, schema in files.items()}
    if params.sources[name].vocabulary == OWN and taxonomy.migrations:
        return migrate_labels(**read, migrations=taxonomy.migrations)
    return Migrated(**read, look_again=tables.empty(tables.LOOK_AGAIN), dropped=Counter(), added=Counter())


def map_source(
    params: Params, name: str, said: Migrated, images: pa.Table, taxonomy: Taxonomy, ledger: Ledger
) -> Mapped:
    """One source in the project's vocabulary; predictions are first put on the images that they speak of."""
    source, rows = params.sources[name], said.labels
    if source.use == "proposals":
        rows, _ = match_images(before := rows, images)
        ledger.num_in("labels", before.num_rows - rows.num_rows)
        ledger.dropped("labels", before.num_rows - rows.num_rows, "prediction on an image that no source lists")
    mapped = map_rows(
        rows,
        taxonomy,
        source.vocabulary,
        unknown=said.unknown,
        positives=params.map_labels.propagate_positives,
        negatives=params.map_labels.propagate_negatives,
    )
    return replace(
        mapped,
        num_in=mapped.num_in + said.dropped.total() - said.added.total(),
        dropped=mapped.dropped + said.dropped,
        added=mapped.added + said.added,
    )


def declared_names(params: Params, natives: dict[str, dict]) -> dict[str, set[str]]:
    """Native names of each vocabulary, over all annotated sources that use it; vendors name what they like."""
    names: dict[str, set[str]] = {}
    for name, source in params.sources.items():
        if source.use in ("train", "pretrain") and natives[name]:
            names.setdefault(source.vocabulary, set()).update(natives[name])
    return names


def check_vocabularies(params: Params, taxonomy: Taxonomy, speaking: set[str]) -> None:
    """Raise TaxonomyError when one of the `speaking` sources uses a vocabulary of which the taxonomy has no name."""
    known = [*taxonomy.vocabularies, OWN]
    for name in sorted(speaking):
        if (vocabulary := params.sources[name].vocabulary) not in known:
            raise TaxonomyError(
                f"{params.paths.taxonomy}: no label has names `from: {vocabulary}`, the vocabulary of source {name}. "
                f"{did_you_mean(vocabulary, known)} Set sources.{name}.vocabulary in params.yaml, or name it here."
            )


def note_unspoken(params: Params, taxonomy: Taxonomy, ledger: Ledger) -> None:
    """Tell of vocabularies in the taxonomy that no source speaks: one that is planned, or one that is misspelt."""
    spoken = {source.vocabulary for source in params.sources.values()}
    if unspoken := [vocabulary for vocabulary in taxonomy.vocabularies if vocabulary not in spoken]:
        ledger.note(f"no source speaks these vocabularies of the taxonomy: {', '.join(unspoken)}")


def refuse_unmapped(params: Params, mapped: dict[str, Mapped]) -> None:
    """Raise TaxonomyError when `map_labels.unmapped: refuse` and a source has a name without a place."""
    if params.map_labels.unmapped != "refuse":
        return
    for name, result in mapped.items():
        for native, rows in result.unmapped.most_common(1):
            raise TaxonomyError(
                f"{params.paths.taxonomy}: '{native}' of source {name} ({rows} rows) stands nowhere. "
                "Map it under `from:`, declare it under `drop:`, or set map_labels.unmapped to report."
            )


def coverage_tables(
    params: Params, said: dict[str, Migrated], taxonomy: Taxonomy, mapped: dict[str, Mapped]
) -> tuple[pa.Table, pa.Table]:
    """(source, label) that the source annotates exhaustively; (origin, label) that a maker of proposals can name."""
    covered, spoken = [], []
    for name, source in params.sources.items():
        named = [label.id for label in taxonomy.labels if label.names_in(source.vocabulary)]
        spoken += [(origin, h) for origin in pc.unique(mapped[name].proposals["origin"]).to_pylist() for h in named]
        if source.use != "proposals":
            natives = said[name].coverage["label"].to_pylist()
            covered += [(name, label) for label in map_coverage(natives, taxonomy, source.vocabulary)]
    as_table = lambda pairs: pa.Table.from_pylist([{"source": s, "label": h} for s, h in pairs], schema=tables.COVERAGE)  # noqa: E731
    return as_table(covered), as_table(sorted(set(spoken)))


def vocabulary_of(taxonomy: Taxonomy) -> dict:
    """What training must know of the taxonomy."""
    return {
        "labels": taxonomy.ids,
        "groups": taxonomy.exclusive_groups,
        "display_names": [label.display_name for label in taxonomy.labels],
    }


def joined(of_sources: dict[str, Mapped] | dict[str, Migrated], field: str, schema: pa.Schema) -> pa.Table:
    """One table of all sources."""
    return pa.concat_tables([tables.conform(getattr(one, field), schema, where=field) for one in of_sources.values()])


def write(path: Path, table: pa.Table, keys: list[str], schema: pa.Schema) -> None:
    """Write rows in the order of `keys`."""
    tables.write_table(path, tables.sort_table(table, keys), schema)
