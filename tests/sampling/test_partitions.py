"""Partitions: drawn or official, groups whole, frozen, and refused when they leak."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

from tasks.core import tables
from tasks.core.errors import SplitError
from tasks.sampling.partitions import assert_no_leak, partition

SETTINGS = {"num_folds": 10, "test_folds": [0], "calibration_folds": [1], "official_test": True, "seed": 0}


def images(*rows: tuple[str, str, str | None, str]) -> pa.Table:
    """(image_id, source, official_split, use) a row."""
    names = ("image_id", "source", "official_split", "use")
    return pa.table({n: pa.array(c, pa.string()) for n, c in zip(names, zip(*rows, strict=True), strict=True)})


def groups(*members: str) -> pa.Table:
    """groups("a b", "c") -> two groups, named after their first member."""
    rows = [{"image_id": i, "group_id": g.split()[0]} for g in members for i in g.split()]
    return pa.Table.from_pylist(rows, schema=tables.GROUPS)


def split(table: pa.Table, grouped: pa.Table | None = None, present: np.ndarray | None = None, **changes):
    present = np.ones((table.num_rows, 1), bool) if present is None else present
    grouped = tables.empty(tables.GROUPS) if grouped is None else grouped
    return partition(table, grouped, csr_array(present), **SETTINGS | changes)


def where(splits: pa.Table) -> dict[str, str]:
    return dict(zip(splits["image_id"].to_pylist(), splits["partition"].to_pylist(), strict=True))


def folds(splits: pa.Table) -> dict[str, int]:
    return dict(zip(splits["image_id"].to_pylist(), splits["fold"].to_pylist(), strict=True))


def plain(num: int, source: str = "web", start: int = 0) -> list[tuple]:
    return [(f"{source}/{n:03d}", source, None, "train") for n in range(start, start + num)]


def test_nine_tenths_train_and_one_tenth_tests():
    splits, left_out = split(images(*plain(100)), calibration_folds=[])
    assert Counter(where(splits).values()) == {"train": 90, "test": 10}
    assert left_out.num_rows == 0
    assert splits.schema.equals(tables.SPLITS)


def test_test_and_calibration_are_the_named_folds():
    splits, _ = split(images(*plain(100)), test_folds=[3, 4], calibration_folds=[7])
    sides = {fold: {where(splits)[i] for i, f in folds(splits).items() if f == fold} for fold in range(10)}
    assert sides == {f: {"test"} if f in (3, 4) else {"calibration"} if f == 7 else {"train"} for f in range(10)}


def test_an_official_test_set_is_the_test_set_and_calibration_comes_out_of_train():
    rows = [(f"voc/{n:03d}", "voc", "train" if n < 90 else "test", "train") for n in range(120)]
    splits, left_out = split(images(*rows))
    sides = where(splits)
    assert {i for i, side in sides.items() if side == "test"} == {f"voc/{n:03d}" for n in range(90, 120)}
    assert Counter(sides.values()) == {"train": 80, "calibration": 10, "test": 30}  # 90 images over nine folds
    assert all(folds(splits)[i] == -1 for i, side in sides.items() if side == "test")
    assert left_out.num_rows == 0


def test_val_is_the_test_set_of_a_source_without_one():
    rows = [("coco/1", "coco", "train", "train"), ("coco/2", "coco", "val", "train"), ("voc/1", "voc", "val", "train")]
    splits, _ = split(images(*rows, ("voc/2", "voc", "test", "train"), ("voc/3", "voc", "train", "train")))
    sides = where(splits)
    assert sides["coco/2"] == sides["voc/2"] == "test"
    assert sides["voc/1"] != "test"


def test_the_val_images_beside_an_official_test_set_are_for_calibration_when_wanted():
    rows = [(f"v/{n:02d}", "v", ["train", "train", "val", "test"][n % 4], "train") for n in range(40)]
    rows += [("w/1", "w", "val", "train"), ("p/1", "p", "val", "pool")]  # w has no test set, so its val is one
    settings = {"test_folds": [], "calibration_folds": [], "official_val": True}
    splits, left_out = split(images(*rows), **settings)
    expected = {i: {"train": "train", "val": "calibration", "test": "test"}[s] for i, source, s, _ in rows[:40]}
    assert where(splits) == {**expected, "w/1": "test", "p/1": "pool"}
    assert all((folds(splits)[i] == -1) == (side != "train") for i, side in where(splits).items())
    assert left_out.num_rows == 0


def test_a_copy_of_an_official_val_image_neither_trains_nor_tests():
    rows = [("v/v", "v", "val", "train"), ("v/t", "v", "test", "train"), ("v/a", "v", "train", "train")]
    rows += [("v/b", "v", "train", "train"), ("o/a", "o", None, "pretrain"), ("v/w", "v", "val", "train")]
    pairs = groups("v/v v/a o/a", "v/t v/w")
    splits, left_out = split(images(*rows), pairs, official_val=True, test_folds=[], calibration_folds=[])
    assert where(splits) == {"v/v": "calibration", "v/t": "test", "v/b": "train"}
    reasons = dict(zip(left_out["image_id"].to_pylist(), left_out["reason"].to_pylist(), strict=True))
    assert reasons == {
        "v/a": "duplicate of an official val image",
        "o/a": "duplicate of an official val image",
        "v/w": "duplicate of an official test image",
    }
    assert_no_leak(splits, pairs)


def test_official_splits_can_be_ignored():
    rows = [(f"voc/{n:03d}", "voc", "test" if n < 50 else "train", "train") for n in range(100)]
    splits, _ = split(images(*rows), official_test=False)
    assert Counter(where(splits).values()) == {"train": 80, "calibration": 10, "test": 10}


def test_a_copy_of_an_official_test_image_is_left_out_whatever_its_use():
    rows = [("v/t", "v", "test", "train"), ("v/a", "v", "train", "train"), ("w/a", "w", None, "train")]
    rows += [("o/a", "o", None, "pretrain"), ("p/a", "p", None, "pool"), ("v/b", "v", "train", "train")]
    splits, left_out = split(images(*rows), groups("v/t v/a w/a o/a p/a"))
    assert set(where(splits)) == {"v/t", "v/b"}
    assert left_out["image_id"].to_pylist() == ["o/a", "p/a", "v/a", "w/a"]
    assert set(left_out["reason"].to_pylist()) == {"duplicate of an official test image"}


def test_pretraining_and_pool_lose_their_copies_of_held_out_images_and_keep_those_of_train():
    rows = plain(50) + [(f"open/{n:03d}", "open", None, "pretrain") for n in range(50)]
    pairs = groups(*[f"web/{n:03d} open/{n:03d}" for n in range(50)])
    splits, left_out = split(images(*rows), pairs)
    sides = where(splits)
    lost = {i.replace("open", "web") for i in left_out["image_id"].to_pylist()}
    assert lost == {i for i, side in sides.items() if side in ("test", "calibration")}
    assert all(side == "pretrain" for i, side in sides.items() if i.startswith("open"))
    assert all(folds(splits)[i] == -1 for i in sides if i.startswith("open"))
    assert_no_leak(splits, pairs)


def test_a_group_of_two_sources_trains_where_one_has_an_official_test_set():
    rows = [(f"voc/{n:03d}", "voc", "train", "train") for n in range(40)] + [("voc/t", "voc", "test", "train")]
    pairs = groups(*[f"voc/{n:03d} web/{n:03d}" for n in range(40)])
    splits, left_out = split(images(*rows, *plain(40)), pairs, test_folds=[0, 1, 2, 3, 4], calibration_folds=[])
    assert {side for i, side in where(splits).items() if i != "voc/t"} == {"train"}
    assert left_out.num_rows == 0


def test_growth_moves_no_image_and_a_copy_joins_its_original():
    first, _ = split(images(*plain(60)))
    grown, _ = split(images(*plain(90)), groups("web/005 web/075"), previous=first, seed=9)
    assert {i: f for i, f in folds(grown).items() if i in folds(first)} == folds(first)
    assert folds(grown)["web/075"] == folds(first)["web/005"]


def test_a_test_image_stays_when_a_source_with_an_official_test_set_brings_its_copy():
    first, _ = split(images(*plain(60)))
    tested = next(i for i, side in where(first).items() if side == "test")
    more = [("voc/1", "voc", "train", "train"), ("voc/2", "voc", "train", "train"), ("voc/t", "voc", "test", "train")]
    grown, left_out = split(images(*plain(60), *more), groups(f"{tested} voc/1"), previous=first)
    assert where(grown)[tested] == "test"
    assert left_out["image_id"].to_pylist() == ["voc/1"]


def test_another_number_of_folds_draws_anew_and_says_so(caplog):
    first, _ = split(images(*plain(60)))
    again, _ = split(images(*plain(60)), num_folds=5, previous=first)
    assert max(folds(again).values()) == 4
    assert "earlier split has 10 folds, 5 are wanted" in caplog.text


def test_other_test_folds_move_whole_folds_only():
    first, _ = split(images(*plain(60)))
    again, _ = split(images(*plain(60)), test_folds=[5], previous=first)
    assert folds(again) == folds(first)
    assert {i for i, side in where(again).items() if side == "test"} == {i for i, f in folds(first).items() if f == 5}


def test_folds_that_leave_no_room_for_training_are_refused():
    rows = [("voc/1", "voc", "train", "train"), ("voc/t", "voc", "test", "train")]
    with pytest.raises(SplitError, match=r"split\.test_folds holds every fold"):
        split(images(*rows), num_folds=2, test_folds=[0, 1], calibration_folds=[])


def test_no_image_is_no_error():
    table = images(("a", "s", None, "train")).slice(0, 0)
    splits, left_out = split(table)
    assert splits.num_rows == left_out.num_rows == 0


@settings(max_examples=40)
@given(data=st.data(), seed=st.integers(0, 99))
def test_a_split_is_a_partition_without_leaks_that_growth_keeps(data, seed):
    rng = np.random.default_rng(seed)
    num = data.draw(st.integers(2, 40))
    rows = [
        (
            f"i{n:02d}",
            *[("web", None), ("voc", "train"), ("voc", "test"), ("coco", "val"), ("coco", "train")][rng.integers(5)],
        )
        for n in range(num)
    ]
    table = images(*[(*r, rng.choice(["train", "train", "train", "pretrain", "pool"])) for r in rows])
    group_of = rng.integers(0, num, num)
    grouped = pa.table([table["image_id"], [f"g{g}" for g in group_of]], schema=tables.GROUPS)
    present = rng.random((num, 3)) < 0.4
    folded = {"num_folds": 4, "test_folds": [0], "calibration_folds": [1]}

    splits, left_out = split(table, grouped, present, **folded)
    assert sorted(splits["image_id"].to_pylist() + left_out["image_id"].to_pylist()) == table["image_id"].to_pylist()
    assert_no_leak(splits, grouped)

    more = images(*[(f"n{n:02d}", "web", None, "train") for n in range(10)])
    alone = pa.table([more["image_id"], more["image_id"]], schema=tables.GROUPS)
    grown, _ = split(
        pa.concat_tables([table, more]),
        pa.concat_tables([grouped, alone]),
        np.concatenate([present, rng.random((10, 3)) < 0.4]),
        **folded,
        previous=splits,
    )
    assert {i: (where(grown)[i], folds(grown)[i]) for i in where(splits)} == {
        i: (where(splits)[i], folds(splits)[i]) for i in where(splits)
    }


def table_of(**sides: str) -> pa.Table:
    rows = [{"image_id": i, "partition": side, "fold": 0} for side, ids in sides.items() for i in ids.split()]
    return pa.Table.from_pylist(rows, schema=tables.SPLITS)


def test_a_leak_is_refused_and_named():
    with pytest.raises(SplitError) as error:
        assert_no_leak(table_of(train="a c", test="b"), groups("a b", "c"))
    assert "1 groups of duplicates" in str(error.value)
    assert "'a' in training and 'b' in test" in str(error.value)


@pytest.mark.parametrize(
    "sides", [{"pretrain": "a", "test": "b"}, {"pool": "a", "calibration": "b"}, {"calibration": "a", "test": "b"}]
)
def test_a_leak_out_of_any_training_part_is_refused(sides):
    with pytest.raises(SplitError):
        assert_no_leak(table_of(**sides), groups("a b"))


@pytest.mark.parametrize(
    "sides", [{"train": "a b"}, {"train": "a", "pool": "b"}, {"pretrain": "a", "train": "b"}, {"test": "a b"}]
)
def test_duplicates_on_one_side_are_no_leak(sides):
    assert_no_leak(table_of(**sides), groups("a b"))
