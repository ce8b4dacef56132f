"""Propagation of label rows along the taxonomy: presence to ancestors, verified absence to descendants.

R rows, C labels of the taxonomy. A *pair* is an (image, label). What decides its state, strongest first:

    1. its own rows, when they agree                           (listed if an implication says otherwise)
    2. implications, when they agree; but no implied absence decides a pair that someone marked unknown,
       or whose own rows disagree                              (listed)
    3. otherwise it is unknown: no row, and named in `unknown`, so that a source's coverage does not make it absent

Only a pair whose own rows agree implies others. Unknown flows up: where a descendant of "vehicle" may be on the image,
a vehicle may be, unless something says present. Rows with a rule's origin are derived anew, so propagating twice
changes nothing. A label with `exhaustive_children` (tasks/taxonomy/taxonomy.py) is absent when all its children are.

`propagation_kernel.py` does this for batches of images, compiled.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from tasks.core.tables import LABELS, RULES, conform
from tasks.taxonomy.coded_rows import CodedRows, count, decode, encode, gather, label_table, read_only
from tasks.taxonomy.propagation_kernel import (
    CONTRADICTION_KINDS,
    Edges,
    Graph,
    Marks,
    Resolved,
    Rows,
    counting_sort,
    resolve,
)
from tasks.taxonomy.taxonomy import Taxonomy

_PAIRS_PER_BATCH = 4_000_000  # scratch is reserved for all pairs of a batch; small enough that it is reused


@dataclass(frozen=True)
class Propagated:
    """Result of `propagate`."""

    labels: pa.Table  # LABELS columns, at most one row a pair, by image id, then in the order of the taxonomy
    unknown: pa.Table  # UNKNOWN
    contradictions: pa.Table  # image_id, label, kind (one of CONTRADICTION_KINDS)
    dropped: Counter[str]  # rows that went, by reason
    added: Counter[str]  # rows that came, by reason


def propagate(
    labels: pa.Table,
    taxonomy: Taxonomy,
    *,
    unknown: pa.Table | None = None,
    positives: bool = True,
    negatives: bool = True,
) -> Propagated:
    """Label rows with all that follows from them.

    labels: LABELS in the taxonomy's ids, without proposals; several rows a pair are allowed.
    unknown: UNKNOWN, pairs that are marked unknown.
    positives, negatives: whether presence flows to what a label implies, and absence to what implies it.
    Returns labels in the LABELS schema; rows in + added - dropped = rows out.
    """
    rows, marked = encode(labels, unknown)
    assert set(rows.labels) <= taxonomy.index.keys(), sorted(set(rows.labels) - taxonomy.index.keys())[:5]
    column = np.asarray([taxonomy.index[name] for name in rows.labels], np.int32)
    rows = replace(rows, label=gather(column, rows.label), labels=taxonomy.ids)
    marked[:, 1] = column[marked[:, 1]]
    propagated = propagate_coded(rows, marked, taxonomy, positives=positives, negatives=negatives)
    return replace(propagated, labels=conform(propagated.labels, LABELS, where="labels"))


def propagate_coded(
    rows: CodedRows, marked: np.ndarray, taxonomy: Taxonomy, *, positives: bool = True, negatives: bool = True
) -> Propagated:
    """`propagate` on codes; rows.labels are the taxonomy's ids. The tables' text columns stay dictionary-encoded.

    marked: int32 (U, 2), image and label of pairs that are marked unknown.
    """
    derived = np.asarray([name in RULES for name in rows.origins], bool)
    num_derived = 0
    if derived.any():
        by_rule = derived[rows.origin] & (rows.label >= 0)
        num_derived = int(by_rule.sum())
        rows = replace(rows, label=np.where(by_rule, np.int32(-1), rows.label))
    num_given = int((rows.label >= 0).sum())

    num_images, num_labels = len(rows.image_ids), len(taxonomy.ids)
    marked_image, marked_label = np.ascontiguousarray(marked.T)
    grouped_rows = Rows(
        *_group(rows.image, num_images),
        *(read_only(column) for column in (rows.label, rows.state, rows.confidence, rows.origin)),
    )
    grouped_marks = Marks(*_group(marked_image, num_images), marked_label)
    graph = _graph(taxonomy, positives=positives, negatives=negatives)
    images_a_batch = max(1, _PAIRS_PER_BATCH // num_labels)

    def resolve_batch(first: int) -> tuple[pa.Table, pa.Table, pa.Table, np.ndarray]:
        some = slice(first, min(first + images_a_batch, num_images) + 1)
        resolved = resolve(
            grouped_rows._replace(starts=grouped_rows.starts[some]),
            grouped_marks._replace(starts=grouped_marks.starts[some]),
            graph,
            num_labels,
            len(rows.origins),
        )
        # Each batch has its own dictionary of image ids: chunks that are cast or joined cost no more than they hold.
        return _tables_of(resolved, rows.image_ids.slice(first, images_a_batch), taxonomy.ids, rows.origins)

    with ThreadPoolExecutor(2) as pool:  # the compiled part holds no lock
        batches = list(pool.map(resolve_batch, range(0, num_images, images_a_batch) or [0]))
    labels, unknown, contradictions = (pa.concat_tables(parts) for parts in list(zip(*batches, strict=True))[:3])
    num_kept, num_clashing, *num_ruled = np.sum([counts for *_, counts in batches], axis=0).tolist()
    return Propagated(
        labels=labels,
        unknown=unknown,
        contradictions=contradictions,
        dropped=+Counter(
            {
                "says the same as another row": num_given - num_kept - num_clashing,
                "present and absent at once": num_clashing,
                "derived by a rule; derived anew": num_derived,
            }
        ),
        added=+Counter(dict(zip(RULES, num_ruled, strict=True))),
    )


def _tables_of(
    resolved: Resolved, image_ids: pa.Array, labels: list[str], origins: list[str]
) -> tuple[pa.Table, pa.Table, pa.Table, np.ndarray]:
    """Rows, unknown pairs and contradictions of a batch as tables, and how many rows each of these counts:

    kept as they were given; contradicting each other; made by each of RULES.
    """
    columns = (resolved.image, resolved.label, resolved.state, resolved.confidence, resolved.origin)
    rows = CodedRows(*columns, image_ids, labels, [*origins, *RULES])
    image, label, kind, num_rows = resolved.contradictions.T
    contradictions = decode(image, label, image_ids, labels)
    contradictions["kind"] = pa.DictionaryArray.from_arrays(pa.array(kind, pa.int8()), pa.array(CONTRADICTION_KINDS))
    num_of_origin = count(resolved.origin, len(rows.origins))
    num_kept, num_ruled = num_of_origin[: len(origins)].sum(), num_of_origin[len(origins) :]
    counts = np.asarray([num_kept, num_rows[kind == 0].sum(), *num_ruled], np.int64)
    unknown = pa.table(decode(*resolved.unknown.T, image_ids, labels))
    return label_table(rows), unknown, pa.table(contradictions), counts


def _group(image: np.ndarray, num_images: int) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers ordered by image, int32 (R,), and where each image's begin, int64 (num_images + 1,)."""
    starts = np.zeros(num_images + 1, np.int64)
    np.cumsum(count(image, num_images), out=starts[1:])
    return counting_sort(read_only(image), starts[:-1].copy()), starts


def _graph(taxonomy: Taxonomy, *, positives: bool, negatives: bool) -> Graph:
    """The taxonomy's implications by column. positives, negatives: as in `propagate`; unknown always flows up."""
    exhaustive = [label for label in reversed(taxonomy.parents_first) if taxonomy[label].exhaustive_children]
    exhaustive = exhaustive if negatives else []
    return Graph(
        presence=_edges([taxonomy.ancestors[label] if positives else () for label in taxonomy.ids], taxonomy),
        absence=_edges([taxonomy.descendants[label] if negatives else () for label in taxonomy.ids], taxonomy),
        unknown=_edges([taxonomy.ancestors[label] for label in taxonomy.ids], taxonomy),
        exhaustive=np.asarray([taxonomy.index[label] for label in exhaustive], np.int32),
        children=_edges([taxonomy.children[label] for label in exhaustive], taxonomy),
    )


def _edges(reached: Sequence[Collection[str]], taxonomy: Taxonomy) -> Edges:
    """Edges to the columns of the labels `reached`."""
    targets = [sorted(taxonomy.index[label] for label in labels) for labels in reached]
    starts = np.cumsum([0, *map(len, targets)]).astype(np.int32)
    return Edges(starts, np.asarray([t for ts in targets for t in ts], np.int32))
