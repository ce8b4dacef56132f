"""Put every source's labels into the project's own vocabulary."""

from __future__ import annotations

import pyarrow as pa

from tasks.core import tables
from tasks.core.ledger import Ledger
from tasks.core.workspace import Workspace
from tasks.mapping.coverage import coverage_report
from tasks.mapping.source_mapping import Source, joined, label_pairs, map_source
from tasks.mapping.vocabularies import check_vocabularies, declared_classes, refuse_unmapped, unused_vocabularies
from tasks.params import Params
from tasks.taxonomy.reading import read_taxonomy


def run(params: Params) -> None:
    """Ingested tables of all sources and the taxonomy -> one set of tables, coverage report, vocabulary."""
    workspace, section, where = Workspace(params.paths), params.map_labels, params.paths.taxonomy
    taxonomy = read_taxonomy(where)
    images = pa.concat_tables([workspace.read("ingested.images", source=name) for name in params.sources])
    tables.check_unique(images, ["image_id"], where="images of all sources")
    sources = {
        name: Source(
            name,
            source.vocabulary,
            source.use,
            classes=workspace.read("ingested.vocabulary", source=name),
            labels=workspace.read("ingested.labels", source=name),
            unknown=workspace.read("ingested.unknown", source=name),
            coverage=workspace.read("ingested.coverage", source=name),
            objects=workspace.read("ingested.objects", source=name),
        )
        for name, source in params.sources.items()
    }
    vocabularies = {name: source.vocabulary for name, source in sources.items()}
    classes = {name: source.classes for name, source in sources.items()}
    taxonomy.check_sources(declared_classes(sources.values()))
    check_vocabularies(sources.values(), taxonomy, where=where)

    flow = {"positives": section.propagate_positives, "negatives": section.propagate_negatives}
    flow["min_matched_share"] = params.ingest.min_usable_share
    mapped = {name: map_source(source, images, taxonomy, **flow) for name, source in sources.items()}
    rows = {name: result.rows for name, result in mapped.items()}
    if section.unmapped == "refuse":
        refuse_unmapped(rows, where=where)

    workspace.write("mapped.images", images)
    workspace.write("mapped.labels", joined((r.labels for r in rows.values()), tables.LABELS))
    workspace.write("mapped.unknown", joined((r.unknown for r in rows.values()), tables.UNKNOWN))
    workspace.write("mapped.proposals", joined((r.proposals for r in rows.values()), tables.LABELS))
    workspace.write("mapped.look_again", joined((m.look_again for m in mapped.values()), tables.LOOK_AGAIN))
    workspace.write("mapped.objects", joined((m.objects for m in mapped.values()), tables.OBJECTS))
    covered = [(name, label) for name, result in mapped.items() for label in result.covered]
    workspace.write("mapped.coverage", label_pairs(covered))
    label_spaces = {pair for result in mapped.values() for pair in result.label_space}
    workspace.write("mapped.label_spaces", label_pairs(sorted(label_spaces)))
    workspace.write("mapped.vocabulary", taxonomy.document())
    workspace.write("coverage_report", coverage_report(rows, classes, vocabularies, taxonomy))

    ledger = Ledger("map_labels")
    for result in mapped.values():
        result.book(ledger)
    if unused := unused_vocabularies(vocabularies.values(), taxonomy):
        ledger.note(f"no source uses these vocabularies of the taxonomy: {', '.join(unused)}")
    workspace.book(ledger)
