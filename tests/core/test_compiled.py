"""Compiled code is found again by another checkout, and only while it means the same."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import numba
import pytest

MODULE = """
from tasks.core.compiled import njit

{numbers}

@njit(nogil=True)
def twice(n):
    return FACTOR * n
"""


@pytest.fixture(autouse=True)
def kept(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "kept"
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(folder))
    return folder


def compiled_in(checkout: Path, numbers: str = "FACTOR = 2"):
    """(result of 2, whether it had been compiled before) of the module in a new folder."""
    checkout.mkdir()
    path = checkout / "kernel.py"
    path.write_text(MODULE.format(numbers=numbers))
    spec = importlib.util.spec_from_file_location("kernel", path)
    spec.loader.exec_module(module := importlib.util.module_from_spec(spec))
    return module.twice(2), bool(module.twice.stats.cache_hits)


def test_another_checkout_compiles_nothing_again(tmp_path):
    assert compiled_in(tmp_path / "first") == (4, False)
    assert compiled_in(tmp_path / "second") == (4, True)


def test_an_edited_number_is_compiled_anew_be_it_the_modules_own_or_imported(tmp_path, monkeypatch):
    (tmp_path / "numbers_of_kernel.py").write_text("FACTOR = 2")
    monkeypatch.syspath_prepend(tmp_path)
    numbers = "from numbers_of_kernel import FACTOR"
    assert compiled_in(tmp_path / "first", numbers) == (4, False)
    import numbers_of_kernel

    monkeypatch.setattr(numbers_of_kernel, "FACTOR", 5)
    assert compiled_in(tmp_path / "second", numbers) == (10, False)
    assert compiled_in(tmp_path / "third", "FACTOR = 5") == (10, False)


def test_it_is_kept_beside_the_module_where_the_users_folder_cannot_be_written(tmp_path, kept):
    kept.write_text("a file in its place")
    assert compiled_in(tmp_path / "first") == (4, False)
    assert any(name.endswith(".nbi") for name in os.listdir(tmp_path / "first" / "__pycache__"))


def test_other_packages_keep_theirs_as_they_do(tmp_path):
    compiled_in(tmp_path / "first")
    assert not numba.config.CACHE_LOCATOR_CLASSES
