"""Which partition and fold each image belongs to: drawn by stratification or official, duplicates together, frozen.

A picture keeps its fold for ever, also when it is away for a run or comes back under another id; new images join around
it. The source's own test images are the test set where it has
one: its other images then stand in no test fold, and copies of official test images are left out, so that published
numbers stay comparable.

Axes: N images, C labels.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.sparse import csr_array

from tasks.core.errors import SplitError
from tasks.core.tables import FOLDS, SPLITS, conform, sort_table
from tasks.sampling.stratification import stratified_folds

log = logging.getLogger(__name__)

LEFT_OUT = pa.schema(
    [pa.field("image_id", pa.string(), nullable=False), pa.field("reason", pa.string(), nullable=False)]
)
HELD_OUT = ("calibration", "test")
NO_FOLD = -1


def partition(
    images: pa.Table,
    groups: pa.Table,
    assertions: csr_array,
    *,
    num_folds: int,
    test_folds: Sequence[int],
    calibration_folds: Sequence[int],
    official_test: bool,
    official_val: bool = False,
    seed: int,
    previous: pa.Table | None = None,
) -> tuple[pa.Table, pa.Table]:
    """tables.SPLITS of the images, and LEFT_OUT: those that stand in no partition, with the reason.

    images: image_id, source, official_split and use ("train", "pretrain" or "pool"), usable images only.
    groups: tables.GROUPS; an image that is not in it is on its own.
    assertions: (N, any number of columns), what to spread evenly: known presences, and verified absences if any.
    official_test: a source's images of official split "test" ("val" where it has no "test") are its test set, without a
    fold; the rest of the source is drawn over the folds that are not test folds.
    official_val: beside an official test set, its images of official split "val" are for calibration, without a fold.
    previous: the earlier FOLDS (or SPLITS), whose folds stay: a picture is known again by its content (sha256 of both),
        then by its id. Ignored, with a warning, when it was drawn with another `num_folds`.
    Raises SplitError when every fold is a test fold although an official test set leaves images to draw.
    """
    group, use = _group_codes(images, groups), np.array(images["use"].to_pylist(), object)
    is_train = use == "train"
    is_test = is_train & _official_test(images, is_train) if official_test else np.zeros(len(use), bool)
    copies_test = np.isin(group, group[is_test]) & ~is_test
    source = _codes(images["source"])
    beside_official = is_train & ~is_test & ~copies_test & np.isin(source, source[is_test])
    is_val = beside_official & (_official_split(images) == "val") if official_val else np.zeros(len(use), bool)
    copies_val = np.isin(group, group[is_val]) & ~is_val & ~copies_test
    drawn = is_train & ~is_test & ~copies_test & ~is_val & ~copies_val
    beside_official &= drawn

    fold = np.full(len(use), NO_FOLD, np.int16)
    fold[drawn] = _draw(
        assertions[drawn],
        group[drawn],
        _earlier_folds(images, previous, num_folds)[drawn],
        beside_official[drawn],
        folds=np.arange(num_folds),
        test_folds=np.asarray(test_folds, np.int64),
        rng=np.random.default_rng(seed),
    )
    held_out = [is_test | np.isin(fold, test_folds), is_val | np.isin(fold, calibration_folds)]
    side = np.select([*held_out, is_train], ["test", "calibration", "train"], use)
    reason = _reasons(group, side, use, copies_test, beside_official)
    reason[copies_val] = "duplicate of an official val image"

    kept = pa.array(np.equal(reason, None), pa.bool_())
    rows = pa.table(
        {"image_id": images["image_id"], "partition": pa.array(side, pa.string()), "fold": fold, "reason": reason}
    )
    splits = rows.filter(kept).replace_schema_metadata({"num_folds": str(num_folds)})
    left_out = rows.filter(pc.invert(kept))
    return (
        sort_table(conform(splits, SPLITS, where="splits"), ["image_id"]),
        sort_table(conform(left_out, LEFT_OUT, where="splits"), ["image_id"]),
    )


def _draw(
    assertions: csr_array,
    group: np.ndarray,
    earlier: np.ndarray,
    beside_official: np.ndarray,
    *,
    folds: np.ndarray,
    test_folds: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """int16 folds of the images to draw. A source with a test set of its own is drawn apart, over the other folds.

    earlier: the fold that an image keeps, -1 for none.  beside_official: images of sources with an official test set.
    """
    already_test = np.isin(group, group[~beside_official & np.isin(earlier, test_folds)])
    apart = np.isin(group, group[beside_official]) & ~already_test
    fold = np.full(len(group), NO_FOLD, np.int16)
    for rows, allowed in ((~apart, folds), (apart, np.setdiff1d(folds, test_folds))):
        if not rows.any():
            continue
        if not allowed.size:
            raise SplitError(
                "params.yaml: split.test_folds holds every fold, but a source has an official test set, and its other "
                "images need a fold to train in. Take a fold out of test_folds or set split.official_test to false."
            )
        fixed = _positions(earlier[rows], allowed)
        drawn = stratified_folds(assertions[rows], group[rows], num_folds=len(allowed), rng=rng, fixed=fixed)
        fold[rows] = allowed[drawn]
    return fold


def _reasons(
    group: np.ndarray, side: np.ndarray, use: np.ndarray, copies_test: np.ndarray, beside_official: np.ndarray
) -> np.ndarray:
    """object (N,): None, or why the image can stand nowhere without a leak."""
    reason = np.full(len(group), None, object)
    for held_out in HELD_OUT:
        copied = np.isin(group, group[(use == "train") & (side == held_out) & ~copies_test])
        reason[copied & (use != "train")] = f"duplicate of a {held_out} image"
    reason[beside_official & (side == "test")] = "duplicate of a test image, of a source with an official test set"
    reason[copies_test] = "duplicate of an official test image"
    return reason


def _official_test(images: pa.Table, is_train: np.ndarray) -> np.ndarray:
    """bool (N,): the test images by the source's own word."""
    source, split = _codes(images["source"]), _official_split(images)
    with_test = np.unique(source[is_train & (split == "test")])
    return (split == "test") | ((split == "val") & ~np.isin(source, with_test))


def _official_split(images: pa.Table) -> np.ndarray:
    """object (N,): the source's own word, None where it has none."""
    return np.array(images["official_split"].to_pylist(), object)


def _group_codes(images: pa.Table, groups: pa.Table) -> np.ndarray:
    """int64 (N,): equal for images of one group."""
    at = pc.index_in(images["image_id"], value_set=groups["image_id"].combine_chunks())
    names = groups["group_id"].take(at)
    return _codes(pc.if_else(names.is_valid(), names, images["image_id"]))


def _codes(column: pa.ChunkedArray) -> np.ndarray:
    """int64 (N,): equal for equal values."""
    return pc.rank(column, tiebreaker="dense").to_numpy(zero_copy_only=False).astype(np.int64)


def _earlier_folds(images: pa.Table, previous: pa.Table | None, num_folds: int) -> np.ndarray:
    """int16 (N,): the fold that each image already has, -1 for none.

    By content first. By id only where the content that the id stood for is no longer among the images: an export may
    have numbered its pictures anew, and then the id is another picture's.
    """
    nothing = np.full(images.num_rows, NO_FOLD, np.int16)
    if previous is None:
        return nothing
    drawn_with = (previous.schema.metadata or {}).get(b"num_folds", b"").decode()
    if drawn_with != str(num_folds):
        log.warning("split: the earlier split has %s folds, %d are wanted: all are drawn anew", drawn_with, num_folds)
        return nothing
    previous = previous.filter(pc.greater(previous["fold"], NO_FOLD))
    contents, earlier_contents = _contents(images), _contents(previous)
    replaced = previous.filter(pc.invert(pc.is_in(earlier_contents, value_set=contents.drop_null())))
    by_id = _looked_up(images["image_id"], replaced["image_id"], replaced["fold"])
    by_content = _looked_up(contents, earlier_contents, previous["fold"])
    return np.where(by_content != NO_FOLD, by_content, by_id)


def _contents(images: pa.Table) -> pa.Array:
    """sha256 of each row; null where the table does not know it."""
    if "sha256" not in images.column_names:
        return pa.nulls(images.num_rows, pa.string())
    return images["sha256"].combine_chunks()


def _looked_up(
    keys: pa.ChunkedArray | pa.Array, among: pa.ChunkedArray | pa.Array, folds: pa.ChunkedArray
) -> np.ndarray:
    """int16: the fold of each key, -1 where it is null or not there."""
    known = pa.table({"key": among, "fold": folds}).filter(pc.is_valid(among))
    at = pc.index_in(keys, value_set=known["key"].combine_chunks())
    return pc.fill_null(known["fold"].take(at), NO_FOLD).to_numpy()


def remembered_folds(images: pa.Table, splits: pa.Table, previous: pa.Table | None) -> pa.Table:
    """FOLDS of the images just split, and of earlier pictures that are away: they keep theirs when they return.

    images: image_id and sha256.  splits: what `partition` made of them.  previous: as there.
    """
    fold = pc.fill_null(
        splits["fold"].take(pc.index_in(images["image_id"], splits["image_id"].combine_chunks())), NO_FOLD
    )
    now = pa.table({"image_id": images["image_id"], "sha256": _contents(images), "fold": fold})
    metadata = splits.schema.metadata
    if previous is None or previous.schema.metadata.get(b"num_folds") != metadata[b"num_folds"]:
        away = FOLDS.empty_table()
    else:
        contents = _contents(previous)
        here = pc.or_(
            pc.is_in(contents, value_set=now["sha256"].combine_chunks().drop_null()),
            pc.and_(pc.is_null(contents), pc.is_in(previous["image_id"], value_set=now["image_id"].combine_chunks())),
        )
        away = pa.table({"image_id": previous["image_id"], "sha256": contents, "fold": previous["fold"]})
        away = conform(away.filter(pc.invert(here)), FOLDS, where="folds").replace_schema_metadata(None)
    both = pa.concat_tables([conform(now, FOLDS, where="folds"), away])
    return both.filter(pc.greater(both["fold"], NO_FOLD)).replace_schema_metadata(metadata)


def _positions(folds: np.ndarray, among: np.ndarray) -> np.ndarray:
    """Position of each fold in the ascending `among`, -1 where it is not there."""
    at = np.searchsorted(among, folds).clip(max=len(among) - 1)
    return np.where(among[at] == folds, at, NO_FOLD)


def assert_no_leak(splits: pa.Table, groups: pa.Table) -> None:
    """Raise SplitError when images of one duplicate group stand on both sides of training, calibration and test.

    splits: tables.SPLITS; train, pretrain and pool are one side, since a model may learn from all of them.
    groups: tables.GROUPS.
    """
    at = pc.index_in(splits["image_id"], value_set=groups["image_id"].combine_chunks())
    names = groups["group_id"].take(at)
    side = pc.if_else(pc.is_in(splits["partition"], pa.array(HELD_OUT)), splits["partition"], "training")
    table = pa.table({"image_id": splits["image_id"], "group_id": names, "side": side}).drop_null()
    sides = table.group_by("group_id").aggregate([("side", "count_distinct")])
    leaks = sides.filter(pc.greater(sides["side_count_distinct"], 1)).sort_by("group_id")
    if leaks.num_rows:
        group = leaks["group_id"][0].as_py()
        members = table.filter(pc.equal(table["group_id"], group)).sort_by("image_id").to_pylist()
        first = members[0]
        second = next(m for m in members if m["side"] != first["side"])
        raise SplitError(
            f"splits: {leaks.num_rows} groups of duplicates stand on both sides of a split, e.g. "
            f"'{first['image_id']}' in {first['side']} and '{second['image_id']}' in {second['side']}. A new image may "
            "resemble both: take it out, lower deduplicate.radius, or delete the splits table to draw all folds anew."
        )
