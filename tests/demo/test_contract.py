"""What every entry of DEMOS owes `make_demo`; a new entry is tested here before anyone writes a test for it."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from tasks.core.tables import TRUTH
from tasks.demo import DEMOS

SMALL = {
    "digits": {"num_coco": 20, "num_test": 2, "num_openimages": 2, "num_pool": 20},
    "symbols": {"num_labelled": 10, "num_pool": 2},
}


@pytest.fixture(params=sorted(DEMOS))
def name(request):
    return request.param


def contents(root: Path) -> dict[Path, bytes]:
    return {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_every_maker_has_a_small_size_to_be_tested_with():
    assert set(SMALL) == set(DEMOS)


def test_the_folder_comes_first_and_options_are_keyword_only_with_defaults(name):
    out, seed, *options = inspect.signature(DEMOS[name]).parameters.values()
    assert (out.name, seed.name) == ("out", "seed")
    assert all(option.kind is inspect.Parameter.KEYWORD_ONLY for option in (seed, *options))
    assert all(option.default is not inspect.Parameter.empty for option in options)


def test_equal_arguments_give_equal_bytes_and_the_planted_errors_are_a_truth_table(name, tmp_path):
    first, second = (DEMOS[name](tmp_path / folder / name, seed=1, **SMALL[name]) for folder in ("a", "b"))
    assert first.schema.equals(TRUTH)
    assert first.equals(second)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert contents(tmp_path / "a")
