"""Label rows of one source, in its classes -> the project's labels, every row accounted for.

R rows. What a `from:` list, an ambiguous class and exhaustive children mean stands in tasks/taxonomy/taxonomy.py; here
it is done, in the direction that never makes an absence out of something unknown:

    presence of a source class   -> each label that it maps to is present
    absence of a source class    -> the label is absent if all classes of its union are absent on that image and at
                                    least one of them is unambiguous; otherwise the row proves nothing and is dropped
    a pair marked unknown        -> each label that its class maps to is marked unknown, unless another row says present

The union of a label with one class is that class. Where there are several, the classes of all its descendants belong to
it too: "neither car nor truck" is not "no vehicle" while the vocabulary has a bus.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace

import numpy as np
import polars as pl
import pyarrow as pa

from tasks.core.ledger import Ledger
from tasks.core.tables import PRESENT, PROPOSALS, origin_kind
from tasks.taxonomy.coded_rows import CodedRows, count, encode, gather, label_table
from tasks.taxonomy.propagation import propagate_coded
from tasks.taxonomy.taxonomy import Taxonomy

NOT_NAMED = "source class is not in the taxonomy"


@dataclass(frozen=True)
class Mapped:
    """One source in the project's vocabulary. Text columns are dictionary-encoded; `write_table` writes them plain."""

    labels: pa.Table  # LABELS, annotations and what they imply, at most one row a pair
    proposals: pa.Table  # LABELS of weak label sources, at most one row a (pair, origin, state); they imply nothing
    unknown: pa.Table  # image_id, label: pairs that stay unknown although the source may cover the label
    contradictions: pa.Table  # image_id, label, kind
    source_classes: Counter[str]  # source class -> rows
    unmapped: Counter[str]  # source class that the taxonomy does not name -> rows
    num_in: int
    dropped: Counter[str]  # reason -> rows
    added: Counter[str]  # reason -> rows
    examples: dict[str, str] = field(default_factory=dict)  # reason -> the worst that was dropped, where it has a name

    def book(self, ledger: Ledger) -> None:
        """Enter the rows of this source into the ledger, in unit `labels`."""
        ledger.book(
            "labels",
            num_in=self.num_in,
            added=self.added,
            dropped=self.dropped,
            num_out=self.labels.num_rows + self.proposals.num_rows,
            examples=self.examples,
        )


def map_rows(
    rows: pa.Table,
    taxonomy: Taxonomy,
    vocabulary: str,
    *,
    unknown: pa.Table | None = None,
    positives: bool = True,
    negatives: bool = True,
) -> Mapped:
    """Map one source's rows, propagate implications, leave one row a pair.

    rows: LABELS with source classes, in any order, repeats and contradictions included.
    vocabulary: key under `from:` and `drop:`.
    unknown: image_id, label (source class) of pairs that the source marks as undecided, e.g. VOC's difficult objects.
    positives, negatives: whether presence flows up implications, and absence down.
    """
    by_class, marked = encode(rows, unknown)
    links = Links.of(taxonomy, vocabulary, by_class.labels)
    num_rows = dict(zip(by_class.labels, count(by_class.label, len(by_class.labels)).tolist(), strict=True))
    by_label, dropped = _to_labels(by_class, links, taxonomy)
    row, link = _expand(marked[:, 1], links.starts)
    marked = np.stack([marked[row, 0], links.label[link]], axis=1)
    marked = marked[marked[:, 1] >= 0]

    proposing = np.asarray([origin_kind(name) in PROPOSALS for name in by_label.origins], bool)
    if proposing.any():
        is_proposal = proposing[by_label.origin]
        annotations, repeated = by_label.take(~is_proposal), by_label.take(is_proposal & (by_label.label >= 0))
        proposals = _distinct_proposals(repeated)
        dropped["says the same as another proposal"] = len(repeated) - len(proposals)
    else:  # the rows of a 20 M rows source are not copied
        annotations, proposals = by_label, by_label.take(slice(0))
    propagated = propagate_coded(annotations, marked, taxonomy, positives=positives, negatives=negatives)

    named = taxonomy.class_map(vocabulary).keys() | taxonomy.drop.get(vocabulary, {}).keys()
    source_classes = Counter({name: n for name, n in num_rows.items() if n})
    unmapped = Counter({name: n for name, n in source_classes.items() if name not in named})
    return Mapped(
        labels=propagated.labels,
        proposals=label_table(proposals),
        unknown=propagated.unknown,
        contradictions=propagated.contradictions,
        source_classes=source_classes,
        unmapped=unmapped,
        num_in=rows.num_rows,
        dropped=+(dropped + _without_label(source_classes, taxonomy, vocabulary) + propagated.dropped),
        added=+(_with_several_labels(source_classes, taxonomy, vocabulary) + propagated.added),
        examples={NOT_NAMED: "{!r} ({:,} rows)".format(*unmapped.most_common(1)[0])} if unmapped else {},
    )


def _without_label(source_classes: Counter[str], taxonomy: Taxonomy, vocabulary: str) -> Counter[str]:
    """Reason -> rows whose class maps to no label."""
    class_map, drop = taxonomy.class_map(vocabulary), taxonomy.drop.get(vocabulary, {})
    dropped: Counter[str] = Counter()
    for name, num_rows in source_classes.items():
        if name in drop:
            dropped[f"declared drop: {drop[name]}"] += num_rows
        elif name not in class_map:
            dropped[NOT_NAMED] += num_rows
    return dropped


def _with_several_labels(source_classes: Counter[str], taxonomy: Taxonomy, vocabulary: str) -> Counter[str]:
    """Reason -> rows that come to those of the source, one for each further label of a class."""
    class_map = taxonomy.class_map(vocabulary)
    further = {name: len(labels) - 1 for name, labels in class_map.items()}
    num_rows = sum(num * further.get(name, 0) for name, num in source_classes.items())
    return Counter({"one source class maps to several labels": num_rows})


# ---------------------------------------------------------------- what a source class proves


def union(taxonomy: Taxonomy, vocabulary: str, label: str) -> frozenset[str]:
    """Source classes that must all be absent for the label to be absent; empty when it has no class of its own."""
    own = frozenset(taxonomy[label].classes_in(vocabulary))
    if len(own) < 2:
        return own
    return own.union(*(taxonomy[descendant].classes_in(vocabulary) for descendant in taxonomy.descendants[label]))


def provable_absences(taxonomy: Taxonomy, vocabulary: str) -> set[str]:
    """Labels that the vocabulary can show to be absent at all: those with a class of their own that is unambiguous."""
    ambiguous = taxonomy.ambiguous(vocabulary)
    classes = {label: taxonomy[label].classes_in(vocabulary) for label in taxonomy.ids}
    return {label for label, names in classes.items() if any(name not in ambiguous for name in names)}


DIRECT, UNION, NOTHING = 0, 1, 2
"""What the absence of a class proves of a label that it maps to: its absence; its absence if all other classes of the
union are absent too; nothing."""


@dataclass(frozen=True)
class Links:
    """What the classes of a table map to. A *link* is a pair (source class, label).

    K links, those of class n at starts[n] .. starts[n + 1]; a class that maps to no label has one link, to -1.
    """

    starts: np.ndarray  # int64 (classes + 1,)
    label: np.ndarray  # int32 (K,), column of the label
    proof: np.ndarray  # int8 (K,), DIRECT, UNION or NOTHING
    unions: pl.DataFrame  # source_class, label (codes), size: the members of unions of several classes

    @classmethod
    def of(cls, taxonomy: Taxonomy, vocabulary: str, names: list[str]) -> Links:
        """Links of the source classes `names`, whose codes are their positions."""
        provable, class_map = provable_absences(taxonomy, vocabulary), taxonomy.class_map(vocabulary)
        unions = {label: union(taxonomy, vocabulary, label) for label in taxonomy.ids if label in provable}

        def proof(label: str) -> int:
            if label not in provable:
                return NOTHING
            return DIRECT if len(unions[label]) == 1 else UNION

        links = [[(taxonomy.index[label], proof(label)) for label in class_map.get(name, ())] for name in names]
        links = [of_class or [(-1, DIRECT)] for of_class in links]
        flat = np.asarray([link for of_class in links for link in of_class], np.int32).reshape(-1, 2)
        code_of = {name: code for code, name in enumerate(names)}
        members = [
            (code_of[name], taxonomy.index[label], len(classes))
            for label, classes in unions.items()
            if len(classes) > 1
            for name in sorted(classes & code_of.keys())
        ]
        schema = {"source_class": pl.Int32, "label": pl.Int32, "size": pl.Int64}
        return cls(
            starts=np.cumsum([0, *map(len, links)], dtype=np.int64),
            label=np.ascontiguousarray(flat[:, 0]),
            proof=flat[:, 1].astype(np.int8),
            unions=pl.DataFrame(members, schema=schema, orient="row"),
        )


def _to_labels(by_class: CodedRows, links: Links, taxonomy: Taxonomy) -> tuple[CodedRows, Counter[str]]:
    """A row for each link of each row, label -1 where it proves nothing; and how many prove nothing, by reason."""
    row, link = _expand(by_class.label, links.starts)
    expanded, label = by_class.take(row), gather(links.label, link)
    dropped: Counter[str] = Counter()
    if (links.proof != DIRECT).any():
        is_absent, proof = expanded.state != PRESENT, links.proof[link]
        proves_nothing, incomplete = is_absent & (proof == NOTHING), is_absent & (proof == UNION)
        if incomplete.any():
            absences = expanded.take(incomplete)
            incomplete[incomplete] = ~_union_is_absent(absences, label[incomplete], by_class, links.unions)
        dropped["absence of an ambiguous source class"] = int(proves_nothing.sum())
        dropped["only some of a label's source classes are absent"] = int(incomplete.sum())
        label[proves_nothing | incomplete] = -1
    return replace(expanded, label=label, labels=taxonomy.ids), dropped


def _union_is_absent(absences: CodedRows, label: np.ndarray, by_class: CodedRows, unions: pl.DataFrame) -> np.ndarray:
    """bool (A,): whether all classes of the label's union are absent on the image of each absence.

    absences: A rows of source classes.  label: int (A,), the label of whose union the class is a member.
    A class that is both present and absent on the image counts as well: the contradiction is to be listed.
    """
    rows = pl.DataFrame({"image": by_class.image, "source_class": by_class.label, "state": by_class.state})
    is_present = pl.col("state") == PRESENT
    complete = (
        rows.filter(~is_present)
        .unique(["image", "source_class"])  # the source may repeat itself
        .join(unions, on="source_class")
        .group_by("image", "label")
        .agg(num_absent=pl.len(), size=pl.col("size").first())
        .filter(pl.col("num_absent") == pl.col("size"))
    )
    absent = pl.DataFrame({"image": absences.image, "source_class": absences.label, "label": label}).with_row_index(
        "at"
    )
    proven = np.zeros(len(absences), bool)
    proven[absent.join(complete, on=["image", "label"], how="semi")["at"].to_numpy()] = True
    contradicted = rows.filter(is_present)
    proven[absent.join(contradicted, on=["image", "source_class"], how="semi")["at"].to_numpy()] = True
    return proven


def _distinct_proposals(rows: CodedRows) -> CodedRows:
    """The most confident row of each (image, label, origin, state)."""
    keys = ["image", "label", "origin", "state"]
    frame = pl.DataFrame({name: getattr(rows, name) for name in [*keys, "confidence"]})
    best = frame.group_by(keys).agg(pl.col("confidence").max()).sort(keys)
    return replace(rows, **{name: best[name].to_numpy() for name in best.columns})


def _expand(codes: np.ndarray, starts: np.ndarray) -> tuple[np.ndarray | slice, np.ndarray]:
    """For each code all positions starts[code] .. starts[code + 1]: (position in codes, position), in order."""
    counts = np.diff(starts)
    if (counts == 1).all():  # the usual case, and 20 M rows need not be copied
        return slice(None), codes
    counts = counts[codes]
    row = np.repeat(np.arange(len(codes)), counts)
    begin = np.cumsum(counts) - counts
    return row, np.arange(len(row)) - begin[row] + starts[codes[row]]
