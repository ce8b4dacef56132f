"""Bombs, liars, loops and crashers among good pictures, in small numbers."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

from tests.faults import hostile_source


def test_the_good_pictures_are_used_and_each_bad_one_is_named_with_its_reason(tmp_path):
    good, bad = hostile_source.write(tmp_path, 12, 7, size=(60, 40))
    with ProcessPoolExecutor(
        1, multiprocessing.get_context("spawn")
    ) as alone:  # what this process holds does not count
        result = alone.submit(hostile_source.ingested, tmp_path, sorted(good + bad), workers=2).result()
    assert result.used == set(good)
    assert result.reasons == {name: hostile_source.REASONS[name.split("-")[0]] for name in bad}
    assert {name.split("-")[0] for name in bad} == set(hostile_source.REASONS)
    assert result.peak_mb < hostile_source.MOST_MB
