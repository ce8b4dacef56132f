"""What a mapping covers and what it leaves out: exhaustive labels, and the report for people."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable, Mapping

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from tasks.core.tables import PRESENT, RULES
from tasks.mapping.mapping import Mapped, provable_absences
from tasks.taxonomy.exclusions import exclusion_violations
from tasks.taxonomy.taxonomy import Taxonomy

_NUM_EXAMPLES = 20
_NUM_NEAREST = 200  # unmapped classes that get suggestions, most rows first: matching 20,000 would take minutes


def map_coverage(source_classes: Iterable[str], taxonomy: Taxonomy, vocabulary: str) -> list[str]:
    """Labels that a source annotates exhaustively, in the order of the taxonomy.

    source_classes: those that the source annotates exhaustively.
    A label is covered when its absence can be read from what is not there: every class of its own and of all its
    descendants is exhaustive (and one of its own is unambiguous), or its children are exhaustive and all covered. The
    absence of all known children of another label proves nothing.
    """
    exhaustive = set(source_classes)
    provable = provable_absences(taxonomy, vocabulary)
    covered: set[str] = set()
    for label in reversed(taxonomy.parents_first):
        family = [label, *taxonomy.descendants[label]]
        classes = {name for member in family for name in taxonomy[member].classes_in(vocabulary)}
        by_class = label in provable and classes <= exhaustive
        if by_class or (taxonomy[label].exhaustive_children and covered.issuperset(taxonomy.children[label])):
            covered.add(label)
    return [label for label in taxonomy.ids if label in covered]


def coverage_report(
    mapped: Mapping[str, Mapped],
    source_classes: Mapping[str, Mapping[str, str]],
    vocabularies: Mapping[str, str],
    taxonomy: Taxonomy,
) -> dict:
    """What a person must know about a mapping, JSON-ready.

    mapped: source -> its mapping.  source_classes: source -> class -> display name, of all classes that it declares.
    vocabularies: source -> key under `from:`.
    """
    used = sorted({vocabularies[source] for source in mapped})
    rows: dict[str, Counter[str]] = {vocabulary: Counter() for vocabulary in used}
    for source, result in mapped.items():
        rows[vocabularies[source]] += result.source_classes
    return {
        "sources": {
            source: _source_report(result, source_classes.get(source, {}), vocabularies[source], taxonomy)
            for source, result in sorted(mapped.items())
        },
        "labels_without_source": labels_without_source(taxonomy, used),
        "ambiguous": [
            {"vocabulary": vocabulary, "name": name, "labels": labels, "rows": rows[vocabulary][name]}
            for vocabulary in used
            for name, labels in sorted(taxonomy.ambiguous(vocabulary).items())
        ],
    }


def labels_without_source(taxonomy: Taxonomy, vocabularies: Iterable[str]) -> list[str]:
    """Labels to which no class of these vocabularies maps, neither directly nor through a descendant."""
    reached = {label.id for label in taxonomy.labels if any(label.classes_in(v) for v in vocabularies)}
    return [h for h in taxonomy.ids if h not in reached and reached.isdisjoint(taxonomy.descendants[h])]


def nearest_names(name: str, known: Iterable[str], *, most: int = 3) -> list[str]:
    """The known names most like `name`, best first, case ignored; [] when none is near."""
    by_folded: dict[str, str] = {}
    for other in known:
        by_folded.setdefault(other.strip().casefold(), other)
    return [by_folded[n] for n in difflib.get_close_matches(name.strip().casefold(), by_folded, n=most, cutoff=0.6)]


def _source_report(result: Mapped, display_names: Mapping[str, str], vocabulary: str, taxonomy: Taxonomy) -> dict:
    violations = exclusion_violations(result.labels, taxonomy)
    return {
        "vocabulary": vocabulary,
        "rows_in": result.num_in,
        "rows_out": {"labels": result.labels.num_rows, "proposals": result.proposals.num_rows},
        "dropped": dict(result.dropped),
        "added": dict(result.added),
        "unmapped": _unmapped(result, display_names, vocabulary, taxonomy),
        "implied": _implied_counts(result.labels),
        "never_present": _never_present(result, vocabulary, taxonomy),
        "unknown_pairs": result.unknown.num_rows,
        "contradictions": {
            "counts": dict(Counter(result.contradictions["kind"].to_pylist())),
            "examples": result.contradictions.slice(0, _NUM_EXAMPLES).to_pylist(),
        },
        "exclusions_violated": {
            "count": violations.height,
            "examples": violations.head(_NUM_EXAMPLES).to_dicts(),
        },
    }


def _unmapped(result: Mapped, display_names: Mapping[str, str], vocabulary: str, taxonomy: Taxonomy) -> list[dict]:
    """Source classes that the taxonomy does not name, most rows first, with the nearest names that it has."""
    known = [*taxonomy.class_map(vocabulary), *taxonomy.ids, *(label.display_name for label in taxonomy.labels)]
    listed = []
    for n, (name, rows) in enumerate(sorted(result.unmapped.items(), key=lambda item: (-item[1], item[0]))):
        shown = display_names.get(name, name)  # a machine id is like nothing; its display name may be
        nearest = nearest_names(shown, known) if n < _NUM_NEAREST else []
        listed.append({"name": name, "display_name": shown, "rows": rows, "nearest": nearest})
    return listed


def _never_present(result: Mapped, vocabulary: str, taxonomy: Taxonomy) -> list[str]:
    """Labels that the vocabulary has a class for and no image of the source bears."""
    tables = (result.labels, result.proposals)
    present = {label for t in tables for label in t.filter(pc.equal(t["state"], PRESENT))["label"].unique().to_pylist()}
    return [label.id for label in taxonomy.labels if label.classes_in(vocabulary) and label.id not in present]


def _implied_counts(labels: pa.Table) -> dict[str, dict[str, int]]:
    """label -> {present, absent}: rows that a rule made."""
    frame = pl.DataFrame(pl.from_arrow(labels.select(["label", "state", "origin"])))
    counts = frame.filter(pl.col("origin").is_in(list(RULES))).group_by("label", "state").len()
    implied: dict[str, dict[str, int]] = {}
    for label, state, rows in counts.with_columns(pl.col("label").cast(pl.String)).sort("label", "state").iter_rows():
        implied.setdefault(label, {})["present" if state else "absent"] = rows
    return implied
