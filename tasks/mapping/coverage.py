"""What a mapping covers and what it leaves out: exhaustive labels, and the report for people."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable, Mapping

import polars as pl
import pyarrow as pa

from tasks.mapping.mapping import Mapped, provable_absences
from tasks.taxonomy.coded_rows import RULES
from tasks.taxonomy.exclusions import exclusion_violations
from tasks.taxonomy.taxonomy import Taxonomy

_NUM_EXAMPLES = 20
_NUM_NEAREST = 200  # unmapped names that get suggestions, most rows first: matching 20,000 names would take minutes


def map_coverage(natives: Iterable[str], taxonomy: Taxonomy, vocabulary: str) -> list[str]:
    """Labels that a source annotates exhaustively, in the order of the taxonomy.

    natives: native names that the source annotates exhaustively.
    A label is covered when its absence can be read from what is not there: every native name of its own and of all its
    kinds is exhaustive (and one of its own is unambiguous), or it is closed and all its children are covered. The
    absence of all known kinds of an open label proves nothing.
    """
    exhaustive = set(natives)
    provable = provable_absences(taxonomy, vocabulary)
    covered: set[str] = set()
    for label in reversed(taxonomy.parents_first):
        family = [label, *taxonomy.descendants[label]]
        names = {name for member in family for name in taxonomy[member].names_in(vocabulary)}
        by_name = label in provable and names <= exhaustive
        if by_name or (taxonomy[label].closed and covered.issuperset(taxonomy.children[label])):
            covered.add(label)
    return [label for label in taxonomy.ids if label in covered]


def coverage_report(
    mapped: Mapping[str, Mapped],
    natives: Mapping[str, Mapping[str, str]],
    vocabularies: Mapping[str, str],
    taxonomy: Taxonomy,
) -> dict:
    """What a person must know about a mapping, JSON-ready.

    mapped: source -> its mapping.  natives: source -> native name -> display name, of all names that it declares.
    vocabularies: source -> key under `from:`.
    """
    used = sorted({vocabularies[source] for source in mapped})
    rows: dict[str, Counter[str]] = {vocabulary: Counter() for vocabulary in used}
    for source, found in mapped.items():
        rows[vocabularies[source]] += found.natives
    return {
        "sources": {
            source: _source_report(found, natives.get(source, {}), vocabularies[source], taxonomy)
            for source, found in sorted(mapped.items())
        },
        "labels_without_source": labels_without_source(taxonomy, used),
        "ambiguous": [
            {"vocabulary": vocabulary, "name": name, "labels": labels, "rows": rows[vocabulary][name]}
            for vocabulary in used
            for name, labels in sorted(taxonomy.ambiguous(vocabulary).items())
        ],
    }


def labels_without_source(taxonomy: Taxonomy, vocabularies: Iterable[str]) -> list[str]:
    """Labels that no native name of these vocabularies feeds, neither directly nor through a kind."""
    fed = {label.id for label in taxonomy.labels if any(label.names_in(v) for v in vocabularies)}
    return [label for label in taxonomy.ids if label not in fed and fed.isdisjoint(taxonomy.descendants[label])]


def nearest_names(name: str, known: Iterable[str], *, most: int = 3) -> list[str]:
    """The known names most like `name`, best first, case ignored; [] when none is near."""
    by_folded: dict[str, str] = {}
    for other in known:
        by_folded.setdefault(other.strip().casefold(), other)
    return [by_folded[n] for n in difflib.get_close_matches(name.strip().casefold(), by_folded, n=most, cutoff=0.6)]


def _source_report(found: Mapped, natives: Mapping[str, str], vocabulary: str, taxonomy: Taxonomy) -> dict:
    violations = exclusion_violations(found.labels, taxonomy)
    return {
        "vocabulary": vocabulary,
        "rows_in": found.num_in,
        "rows_out": {"labels": found.labels.num_rows, "proposals": found.proposals.num_rows},
        "dropped": dict(found.dropped),
        "added": dict(found.added),
        "unmapped": _unmapped(found, natives, vocabulary, taxonomy),
        "implied": _implied_counts(found.labels),
        "unknown_cells": found.unknown.num_rows,
        "contradictions": {
            "counts": dict(Counter(found.contradictions["kind"].to_pylist())),
            "examples": found.contradictions.slice(0, _NUM_EXAMPLES).to_pylist(),
        },
        "exclusions_violated": {
            "count": violations.height,
            "examples": violations.head(_NUM_EXAMPLES).to_dicts(),
        },
    }


def _unmapped(found: Mapped, natives: Mapping[str, str], vocabulary: str, taxonomy: Taxonomy) -> list[dict]:
    """Names of rows that stand nowhere in the taxonomy, most rows first, with the nearest names that do."""
    known = [*taxonomy.claims(vocabulary), *taxonomy.ids, *(label.display_name for label in taxonomy.labels)]
    listed = []
    for n, (name, rows) in enumerate(sorted(found.unmapped.items(), key=lambda item: (-item[1], item[0]))):
        shown = natives.get(name, name)  # a machine id is like nothing; its display name may be
        nearest = nearest_names(shown, known) if n < _NUM_NEAREST else []
        listed.append({"name": name, "display_name": shown, "rows": rows, "nearest": nearest})
    return listed


def _implied_counts(labels: pa.Table) -> dict[str, dict[str, int]]:
    """label -> {present, absent}: rows that a rule made."""
    frame = pl.DataFrame(pl.from_arrow(labels.select(["label", "state", "origin"])))
    counts = frame.filter(pl.col("origin").is_in(list(RULES))).group_by("label", "state").len()
    implied: dict[str, dict[str, int]] = {}
    for label, state, rows in counts.with_columns(pl.col("label").cast(pl.String)).sort("label", "state").iter_rows():
        implied.setdefault(label, {})["present" if state else "absent"] = rows
    return implied
