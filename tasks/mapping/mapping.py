"""Native labels of one source -> the project's labels, every row accounted for.

R rows. What a `from:` list, an ambiguous name and a closed label mean stands in tasks/taxonomy/taxonomy.py; here it is
done, in the direction that never makes an absence out of something unknown:

    presence of a native name    -> each label that it feeds is present
    absence of a native name     -> the label is absent if all names of its union are absent on that image and at least
                                    one of them is unambiguous; otherwise the row says nothing and is dropped
    native cell marked unknown   -> each label that it feeds is marked unknown, unless another row says present

The union of a label with one name is that name. Where there are several, the names of all its kinds belong to it too:
"neither car nor truck" is not "no vehicle" while the vocabulary has a bus.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
import pyarrow as pa

from tasks.core.ledger import Ledger
from tasks.core.tables import PRESENT
from tasks.taxonomy.coded_rows import PROPOSALS, Cells, count, encode, gather, label_table, origin_kind
from tasks.taxonomy.propagation import propagate_cells
from tasks.taxonomy.taxonomy import Taxonomy


@dataclass(frozen=True)
class Mapped:
    """One source in the project's vocabulary. Text columns are dictionary-encoded; `write_table` writes them plain."""

    labels: pa.Table  # LABELS, statements and what they imply, at most one row a cell
    proposals: pa.Table  # LABELS, opinions, at most one row a (cell, origin, state); nothing is implied from them
    unknown: pa.Table  # image_id, label: cells that stay unknown although the source may cover the label
    contradictions: pa.Table  # image_id, label, kind
    natives: Counter[str]  # native name -> rows
    unmapped: Counter[str]  # native name that stands nowhere in the taxonomy -> rows
    num_in: int
    dropped: Counter[str]  # reason -> rows
    added: Counter[str]  # reason -> rows

    def enter(self, ledger: Ledger) -> None:
        """Write the books of this source into the ledger, in rows of unit `labels`."""
        num_out = self.labels.num_rows + self.proposals.num_rows
        ledger.book("labels", num_in=self.num_in, added=self.added, dropped=self.dropped, num_out=num_out)


def map_rows(
    rows: pa.Table,
    taxonomy: Taxonomy,
    vocabulary: str,
    *,
    unknown: pa.Table | None = None,
    positives: bool = True,
    negatives: bool = True,
) -> Mapped:
    """Map one source's rows, propagate implications, leave one row a cell.

    rows: LABELS with native names, in any order, repeats and contradictions included.
    vocabulary: key under `from:` and `drop:`.
    unknown: image_id, label (native) of cells that the source marks as undecided, e.g. VOC's difficult objects.
    positives, negatives: whether presence flows up implications, and absence down.
    """
    native, marked = encode(rows, unknown)
    feeds = Feeds(taxonomy, vocabulary, native.labels)
    own, lost, extra = _translate(native, feeds, taxonomy)
    row, feed = _expand(marked[:, 1], feeds.starts)
    marked = np.stack([marked[row, 0], feeds.label[feed]], axis=1)
    marked = marked[marked[:, 1] >= 0]

    opinions = np.asarray([origin_kind(name) in PROPOSALS for name in own.origins], bool)
    if opinions.any():
        opinion = opinions[own.origin]
        statements, stated = own.take(~opinion), own.take(opinion & (own.label >= 0))
        proposals = _distinct_proposals(stated)
        lost["says the same as another proposal"] = len(stated) - len(proposals)
    else:  # the rows of a 20 M rows source are not copied
        statements, proposals = own, own.take(slice(0))
    found = propagate_cells(statements, marked, taxonomy, positives=positives, negatives=negatives)

    counts = count(native.label, len(native.labels))
    natives = Counter({name: int(count) for name, count in zip(native.labels, counts, strict=True) if count})
    return Mapped(
        labels=found.labels,
        proposals=label_table(proposals),
        unknown=found.unknown,
        contradictions=found.contradictions,
        natives=natives,
        unmapped=Counter({name: rows for name, rows in natives.items() if name in feeds.unmapped}),
        num_in=rows.num_rows,
        dropped=+(lost + found.dropped),
        added=+(extra + found.added),
    )


DIRECT, UNION, NOTHING = 0, 1, 2  # what the absence of a native name proves about a label that it feeds


class Feeds:
    """Which labels each native name of a table feeds, and what its absence proves.

    A *feed* is a pair (native name, label); F of them, those of name n at starts[n] .. starts[n + 1]. A name that feeds
    no label has one to -1.
    A *member* is a pair (native name, label) where the name belongs to a union of several names.
    """

    def __init__(self, taxonomy: Taxonomy, vocabulary: str, names: list[str]) -> None:
        claims = taxonomy.claims(vocabulary)
        unions = {label: union(taxonomy, vocabulary, label) for label in taxonomy.ids}
        provable = provable_absences(taxonomy, vocabulary)
        drop = taxonomy.drop.get(vocabulary, {})

        def absence_proves(label: str) -> int:
            if label not in provable:
                return NOTHING
            return DIRECT if len(unions[label]) == 1 else UNION

        feeds = [[(taxonomy.index[label], absence_proves(label)) for label in claims.get(n, ())] for n in names]
        feeds = [fed or [(-1, DIRECT)] for fed in feeds]
        self.starts, flat = _flatten(feeds)
        self.label = np.asarray([label for label, _ in flat], np.int32)  # (F,)
        self.proves = np.asarray([proof for _, proof in flat], np.int8)  # (F,)
        wide = [label for label in taxonomy.ids if label in provable and len(unions[label]) > 1]
        members = [[taxonomy.index[label] for label in wide if n in unions[label]] for n in names]
        self.member_starts, flat = _flatten(members)
        self.member_label = np.asarray(flat, np.int32)
        self.union_size = np.asarray([len(unions[label]) for label in taxonomy.ids], np.int64)  # (C,)
        self.drop_reasons = [drop.get(n) for n in names]
        self.unmapped = {n for n in names if n not in claims and n not in drop}


def union(taxonomy: Taxonomy, vocabulary: str, label: str) -> frozenset[str]:
    """Native names that must all be absent for the label to be absent; empty when the label has none of its own."""
    own = frozenset(taxonomy[label].names_in(vocabulary))
    if len(own) < 2:
        return own
    return own.union(*(taxonomy[kind].names_in(vocabulary) for kind in taxonomy.descendants[label]))


def provable_absences(taxonomy: Taxonomy, vocabulary: str) -> set[str]:
    """Labels that the vocabulary can show to be absent at all: those with a name of their own that is unambiguous."""
    ambiguous = taxonomy.ambiguous(vocabulary)
    natives = {label: taxonomy[label].names_in(vocabulary) for label in taxonomy.ids}
    return {label for label, names in natives.items() if any(name not in ambiguous for name in names)}


def _translate(native: Cells, feeds: Feeds, taxonomy: Taxonomy) -> tuple[Cells, Counter[str], Counter[str]]:
    """Rows in the project's labels (-1 where they say nothing), rows lost by reason, rows gained by reason."""
    lost: Counter[str] = Counter()
    gained: Counter[str] = Counter()
    counts = count(native.label, len(native.labels))
    for name, reason, num_feeds, rows in zip(
        native.labels, feeds.drop_reasons, np.diff(feeds.starts), counts.tolist(), strict=True
    ):
        if reason:
            lost[f"declared drop: {reason}"] += rows
        elif name in feeds.unmapped:
            lost["native name stands nowhere in the taxonomy"] += rows
        else:
            gained["one native name feeds several labels"] += rows * int(num_feeds - 1)

    row, feed = _expand(native.label, feeds.starts)
    source, label = native.take(row), gather(feeds.label, feed)
    if (feeds.proves != DIRECT).any():
        proof = np.where(source.state == PRESENT, DIRECT, feeds.proves[feed])
        silent, partial = proof == NOTHING, proof == UNION
        if partial.any():
            cell = _cell(replace(source, label=label, labels=taxonomy.ids).take(partial))
            # A name that the source calls present and absent at once stays in, as the contradiction that it is.
            denied = np.isin(_cell(source.take(partial)), _cell(native.take(native.state == PRESENT)))
            partial[partial] = ~(np.isin(cell, _absent_unions(native, feeds, taxonomy)) | denied)
        lost["absence of an ambiguous native name"] += int(silent.sum())
        lost["only some of a label's native names are absent"] += int(partial.sum())
        label[silent | partial] = -1
    return replace(source, label=label, labels=taxonomy.ids), lost, gained


def _absent_unions(native: Cells, feeds: Feeds, taxonomy: Taxonomy) -> np.ndarray:
    """Cells (as numbers) whose union of several native names is absent as a whole; sorted int64."""
    stated_absent = native.take(native.state != PRESENT)
    row, member = _expand(stated_absent.label, feeds.member_starts)
    label = feeds.member_label[member]
    cell = _cell(replace(stated_absent.take(row), label=label, labels=taxonomy.ids))
    # A name may be stated twice: count distinct (cell, name).
    pairs = np.unique(np.stack([cell, stated_absent.label[row]], axis=1), axis=0)
    cells, num_names = np.unique(pairs[:, 0], return_counts=True)
    return cells[num_names == feeds.union_size[cells % len(taxonomy.ids)]]


def _cell(cells: Cells) -> np.ndarray:
    """Each row's (image, label) as one number, int64 (R,)."""
    return cells.image.astype(np.int64) * len(cells.labels) + cells.label


def _distinct_proposals(cells: Cells) -> Cells:
    """The most confident row of each (image, label, origin, state)."""
    keys = ["image", "label", "origin", "state"]
    frame = pl.DataFrame({name: getattr(cells, name) for name in [*keys, "confidence"]})
    best = frame.group_by(keys).agg(pl.col("confidence").max()).sort(keys)
    return replace(cells, **{name: best[name].to_numpy() for name in best.columns})


def _flatten(lists: list[list]) -> tuple[np.ndarray, list]:
    """Where each list begins in all of them joined, int64 (len + 1,), and all of them joined."""
    return np.cumsum([0, *map(len, lists)], dtype=np.int64), [item for items in lists for item in items]


def _expand(codes: np.ndarray, starts: np.ndarray) -> tuple[np.ndarray | slice, np.ndarray]:
    """For each code all positions starts[code] .. starts[code + 1]: (position in codes, position), in order."""
    counts = np.diff(starts)
    if (counts == 1).all():  # the usual case, and 20 M rows need not be copied
        return slice(None), codes
    counts = counts[codes]
    row = np.repeat(np.arange(len(codes)), counts)
    begin = np.cumsum(counts) - counts
    return row, np.arange(len(row)) - begin[row] + starts[codes[row]]
