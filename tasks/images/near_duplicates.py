"""Groups of equal and nearly equal images, and what their members' labels disagree on.

Two images belong together when their bytes are equal (sha256) or their perceptual hashes differ in at most `radius` of
64 bits. Groups are the connected components of that relation, so no such pair ever stands in two groups.

Search is by multi-index hashing (Norouzi, Punjani and Fleet, CVPR 2012): cut the 64 bits into m bands; two hashes
within radius r agree up to floor(r / m) bits in at least one band (pigeonhole), so looking up each band's close values
finds every pair.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import combinations, pairwise
from math import comb
from typing import Literal, NamedTuple

import numba
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from tasks.core.compiled import njit
from tasks.core.states import add_states
from tasks.core.tables import ABSENT, GROUPS, IMAGES, LABELS, PRESENT, UNKNOWN, conform, sort_table

FLAT_BITS = 8
"""A picture that varies along one axis only (flat, a gradient, stripes) has at most 8 non-zero coefficients of the 64,
and so at most 8 set bits; other pictures have about 32. Such hashes say next to nothing and would chain blank pages,
skies and black frames into one huge group, so they are compared by their bytes alone."""

HASHED = pa.schema([GROUPS.field("image_id"), IMAGES.field("sha256"), IMAGES.field("phash")])
CONFLICTS = pa.schema(
    [
        pa.field("group_id", pa.string(), nullable=False),
        pa.field("label", pa.string(), nullable=False),
        pa.field("present", pa.list_(pa.string()), nullable=False),  # image ids that carry the label, sorted
        pa.field("absent", pa.list_(pa.string()), nullable=False),  # image ids known to be without it, sorted
    ]
)
RULE_ORIGIN = "rule:duplicates"


Column = Sequence | pa.Array | pa.ChunkedArray


def duplicate_groups(image_ids: Column, sha256: Column, phash: Column, *, radius: int) -> pa.Table:
    """tables.GROUPS, one row an image, sorted by image_id; a group is named after its smallest image id.

    sha256, phash: None where unknown; such an image is compared by the other alone.  radius: bits, 0..16.
    Images without a duplicate are groups of one.
    """
    images = pa.table({"image_id": image_ids, "sha256": sha256, "phash": phash}, schema=HASHED).combine_chunks()
    num_images = images.num_rows
    hashed = _valid_rows(images["phash"])
    hashes = images["phash"].drop_null().to_numpy()
    telling = np.bitwise_count(hashes) > FLAT_BITS
    hashed, hashes = hashed[telling], hashes[telling]
    distinct, which = np.unique(hashes, return_inverse=True)
    first, second, _ = near_pairs(distinct, radius=radius)

    # Nodes: the images, then one for each distinct perceptual hash, then one for each distinct content hash.
    known = _valid_rows(images["sha256"])
    contents, content_of = np.unique(images["sha256"].drop_null().to_numpy(), return_inverse=True)
    content_of += num_images + len(distinct)
    left = np.concatenate([hashed, num_images + first, known])
    right = np.concatenate([num_images + which, num_images + second, content_of])
    num_nodes = num_images + len(distinct) + len(contents)
    edges = coo_array((np.ones(len(left), bool), (left, right)), shape=(num_nodes, num_nodes))
    _, component = connected_components(edges, directed=False)

    table = images.select(["image_id"]).append_column("component", pa.array(component[:num_images]))
    names = table.group_by("component").aggregate([("image_id", "min")])
    joined = table.join(names, "component").rename_columns({"image_id_min": "group_id"})
    return sort_table(joined.select(GROUPS.names), ["image_id"]).cast(GROUPS)


def separate_distinct(
    groups: pa.Table, images: pa.Table, distinct: Collection[tuple[str, str]], *, radius: int
) -> pa.Table:
    """GROUPS in which no group holds together by a pair that people say are no duplicates, named as before.

    images: HASHED, those of `groups`.  distinct: sha256 of the two, the smaller first.  radius: that of the groups.
    Only groups with such a pair are made anew, and those by comparing each image with each.
    """
    named = {content for pair in distinct for content in pair}
    rows = pl.from_arrow(images.select(HASHED.names)).join(pl.from_arrow(groups), on="image_id")
    affected = rows.filter(pl.col("sha256").is_in(list(named)))["group_id"].unique()
    renamed = {}
    for (_,), of_group in rows.filter(pl.col("group_id").is_in(affected.implode())).group_by("group_id"):
        members = of_group.sort("image_id").to_dicts()
        joined = np.array([[_belong(a, b, distinct, radius) for b in members] for a in members])
        _, component = connected_components(joined, directed=False)
        for row, member in enumerate(members):
            renamed[member["image_id"]] = members[int(np.argmax(component == component[row]))]["image_id"]
    group_ids = [renamed.get(i, g) for i, g in zip(*(groups[c].to_pylist() for c in GROUPS.names), strict=True)]
    return groups.set_column(1, GROUPS.field("group_id"), pa.array(group_ids, pa.string())) if renamed else groups


def _belong(a: dict, b: dict, distinct: Collection[tuple[str, str]], radius: int) -> bool:
    if a["sha256"] is not None and a["sha256"] == b["sha256"]:
        return True
    pair = tuple(sorted((a["sha256"] or "", b["sha256"] or "")))
    hashes = [row["phash"] for row in (a, b)]
    if pair in distinct or any(h is None or h.bit_count() <= FLAT_BITS for h in hashes):
        return False
    return (hashes[0] ^ hashes[1]).bit_count() <= radius


def equal_bytes(groups: pa.Table, images: pa.Table) -> pa.Table:
    """GROUPS of images whose bytes are equal, finer than `groups`: what is only alike is told apart. Named as there.

    images: image_id and sha256; null is like nothing else.
    """
    at = pc.index_in(groups["image_id"], value_set=images["image_id"].combine_chunks())
    contents = images["sha256"].combine_chunks().take(at.combine_chunks())
    named = pc.if_else(pc.is_valid(contents), contents, groups["image_id"].combine_chunks())
    frame = pl.DataFrame({"image_id": pl.from_arrow(groups["image_id"]), "content": pl.from_arrow(named)})
    named_after = frame.select("image_id", group_id=pl.col("image_id").min().over("content"))
    return conform(named_after.to_arrow(), GROUPS, where="equal bytes")


def _valid_rows(column: pa.ChunkedArray) -> np.ndarray:
    return np.flatnonzero(column.is_valid().to_numpy())


# ---------------------------------------------------------------- all pairs within a Hamming radius


def near_pairs(hashes: np.ndarray, *, radius: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every pair of positions (i < j) whose hashes differ in at most `radius` bits, each once, and the distance.

    hashes: uint64 (N,).  Returns int64, int64, uint8 arrays of one length, sorted by (i, j).
    """
    hashes = np.ascontiguousarray(hashes, np.uint64)
    num_bands = cheapest_bands(len(hashes), radius)
    edges = np.linspace(0, 64, num_bands + 1).astype(int)
    slack = radius // num_bands
    pairs_of_bands = []
    for band, (low, high) in enumerate(pairwise(edges)):
        width = high - low
        values = (hashes >> np.uint64(low)) & np.uint64((1 << width) - 1)
        order = np.argsort(values, kind="stable")
        starts = np.searchsorted(values[order], np.arange((1 << width) + 1, dtype=np.uint64))
        flips = np.array(
            [sum(1 << b for b in bits) for k in range(slack + 1) for bits in combinations(range(width), k)]
        )
        values = values.astype(np.int64)
        pairs_of_bands.append(_pairs_of_band(hashes, values, order, starts, flips, edges, band, radius, slack))
    first, second, distance = (np.concatenate(part) for part in zip(*pairs_of_bands, strict=True))
    order = np.lexsort((second, first))
    return first[order], second[order], distance[order]


def cheapest_bands(num_hashes: int, radius: int) -> int:
    """The number of bands with the least look-ups plus comparisons, for evenly spread hashes."""

    def cost(num_bands: int) -> float:
        width, slack = 64 / num_bands, radius // num_bands
        lookups = sum(comb(int(width), k) for k in range(slack + 1))
        # Below 3 bands an index has more slots than any machine has memory.
        return num_bands * lookups * (1 + num_hashes / 2**width) + num_bands * 2**width / max(num_hashes, 1)

    return min(range(3, radius + 2), key=cost, default=3)


@numba.njit(inline="always")
def _popcount(x):
    """Set bits of a uint64; LLVM recognises the idiom and emits one instruction."""
    x = x - ((x >> np.uint64(1)) & np.uint64(0x5555555555555555))
    x = (x & np.uint64(0x3333333333333333)) + ((x >> np.uint64(2)) & np.uint64(0x3333333333333333))
    x = (x + (x >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return (x * np.uint64(0x0101010101010101)) >> np.uint64(56)


@njit()
def _pairs_of_band(hashes, values, order, starts, flips, edges, band, radius, slack):
    """Pairs that agree up to `slack` bits in this band and in no earlier one, so that each pair is found once.

    values: int64 (N,), each hash's value in the band.  order, starts: positions sorted by value, and where each value's
    run begins.  flips: int64, the differences to look up.
    """
    capacity, count = 1024, 0
    first, second = np.empty(capacity, np.int64), np.empty(capacity, np.int64)
    distances = np.empty(capacity, np.uint8)
    for i in range(len(hashes)):
        for flip in flips:
            value = values[i] ^ flip
            for at in range(starts[value], starts[value + 1]):
                j = order[at]
                if j <= i:
                    continue
                difference = hashes[i] ^ hashes[j]
                distance = _popcount(difference)
                if distance > radius or _seen_before(difference, edges, band, slack):
                    continue
                if count == capacity:
                    capacity *= 2
                    first, second = _grown(first, capacity), _grown(second, capacity)
                    distances = _grown(distances, capacity)
                first[count], second[count], distances[count] = i, j, distance
                count += 1
    return first[:count], second[:count], distances[:count]


@numba.njit(inline="always")
def _seen_before(difference, edges, band, slack):
    for earlier in range(band):
        width = edges[earlier + 1] - edges[earlier]
        mask = (np.uint64(1) << np.uint64(width)) - np.uint64(1)
        if _popcount((difference >> np.uint64(edges[earlier])) & mask) <= slack:
            return True
    return False


@numba.njit
def _grown(array, capacity):
    larger = np.empty(capacity, array.dtype)
    larger[: len(array)] = array
    return larger


# ---------------------------------------------------------------- labels on which duplicates disagree


def label_conflicts(
    groups: pa.Table, labels: pa.Table, *, images: pa.Table, coverage: pa.Table, unknown: pa.Table
) -> pa.Table:
    """CONFLICTS: labels present on one image of a group and absent from another; unknown disagrees with nothing.

    groups: tables.GROUPS.  labels: tables.LABELS of annotations (proposals of models would count too).
    images (image_id, source), coverage, unknown: for the state of an image without a row (tasks/core/states.py).
    """
    members = _several(groups)
    in_groups = pl.from_arrow(labels.filter(_is_in(labels, members))).join(members, on="image_id")
    # Only labels that a duplicate carries can clash, which keeps this small.
    carried = in_groups.filter(pl.col("state") == PRESENT).select("group_id", "label").unique()
    states = add_states(
        carried.join(members, on="group_id"),
        labels=in_groups.to_arrow(),
        unknown=unknown,
        coverage=coverage,
        images=images,
    )
    of_state = [pl.col("image_id").filter(pl.col("state") == s).unique().sort() for s in (PRESENT, ABSENT)]
    conflicts = (
        states.group_by("group_id", "label")
        .agg(present=of_state[0], absent=of_state[1])
        .filter((pl.col("present").list.len() > 0) & (pl.col("absent").list.len() > 0))
        .sort("group_id", "label")
    )
    return conform(conflicts.to_arrow(), CONFLICTS, where="label conflicts")


def _several(groups: pa.Table) -> pl.DataFrame:
    """The members of groups of two and more."""
    return pl.from_arrow(groups).filter(pl.len().over("group_id") > 1)


def _is_in(rows: pa.Table, images: pl.DataFrame) -> pa.ChunkedArray:
    """Which rows are of these images: so that of millions only those few are copied."""
    return pc.is_in(rows["image_id"], images["image_id"].to_arrow().cast(pa.string()))


def worst_conflict(conflicts: pa.Table) -> str:
    """The conflict between the most images, for the terminal; '' without one.  conflicts: CONFLICTS."""
    rows = sorted(conflicts.to_pylist(), key=lambda row: -len(row["present"]) - len(row["absent"]))
    return "".join(f"{r['label']!r} present on {r['present'][0]}, absent on {r['absent'][0]}" for r in rows[:1])


class Changes(NamedTuple):
    """Rows of labels: gone, new, and turned to the other state."""

    dropped: int
    added: int
    overruled: int


def resolve_conflicts(
    labels: pa.Table, unknown: pa.Table, conflicts: pa.Table, *, rule: Literal["unknown", "present", "majority"]
) -> tuple[pa.Table, pa.Table, Changes]:
    """Labels without contradictions between duplicates, the unknown pairs (tables.UNKNOWN), and what changed.

    rule: "unknown" forgets both sides; "present" believes whoever saw the label; "majority" the state on more images
    of the group, a tie being unknown. Rows of the winning side stay as they are; the losing images get the winning
    state with origin "rule:duplicates" and the confidence of the surest winning row. Other rows are untouched.
    """
    winners = {"unknown": pl.lit(0), "present": pl.lit(1), "majority": pl.col("lead").sign()}
    votes = pl.from_arrow(conflicts).with_columns(
        lead=pl.col("present").list.len().cast(pl.Int64) - pl.col("absent").list.len().cast(pl.Int64)
    )
    votes = votes.with_columns(winner=winners[rule])  # 1 present, -1 absent, 0 neither
    pairs = pl.concat(
        votes.select("group_id", "label", "winner", image_id=pl.col(side)).explode("image_id")
        for side in ("present", "absent")
    )
    concerned = _is_in(labels, pairs)
    rows = pl.from_arrow(labels.filter(concerned))
    in_conflict = rows.join(pairs, on=["image_id", "label"], how="semi")
    decided = pairs.filter(pl.col("winner") != 0).with_columns(state=(pl.col("winner") > 0).cast(pl.Int8))
    winning = rows.join(decided, on=["image_id", "label", "state"])
    surest = winning.group_by("group_id", "label").agg(pl.col("confidence").max())
    ruled = (
        decided.join(winning, on=["image_id", "label"], how="anti")
        .join(surest, on=["group_id", "label"], how="left")
        .with_columns(pl.col("confidence").fill_null(1.0), origin=pl.lit(RULE_ORIGIN))
    )
    others = rows.join(pairs, on=["image_id", "label"], how="anti")
    kept = pl.concat([others, winning.select(rows.columns), ruled.select(rows.columns)])
    resolved = labels  # millions of rows, most of them of images that have no duplicate
    if pairs.height:
        untouched = labels.filter(pc.invert(concerned))
        resolved = pa.concat_tables([untouched, conform(kept.to_arrow(), LABELS, where="resolved labels")])
        resolved = sort_table(resolved, ("image_id", "label", "origin"))
    forgotten = pairs.filter(pl.col("winner") == 0).select("image_id", "label")
    all_unknown = pl.concat([pl.from_arrow(unknown), forgotten]).unique().sort("image_id", "label")

    overruled = ruled.join(in_conflict, on=["image_id", "label"], how="semi").height
    changes = Changes(
        dropped=in_conflict.height - winning.height - overruled, added=ruled.height - overruled, overruled=overruled
    )
    return (
        resolved,
        conform(all_unknown.to_arrow(), UNKNOWN, where="resolved labels"),
        changes,
    )


def duplicates_report(groups: pa.Table, conflicts: pa.Table) -> dict:
    """Groups of two and more with their members, and the labels on which they disagree; JSON-ready."""
    members = {}
    for image_id, group in _several(groups).select("image_id", "group_id").iter_rows():
        members.setdefault(group, []).append(image_id)
    return {
        "duplicate_groups": len(members),
        "duplicate_images": sum(len(m) - 1 for m in members.values()),
        "groups": members,
        "conflicts": conflicts.to_pylist(),
    }
