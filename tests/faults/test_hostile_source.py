"""Bombs, liars, loops and crashers among good pictures, in small numbers."""

from __future__ import annotations

from tests.faults import hostile_source


def test_the_good_pictures_are_used_and_each_bad_one_is_named_with_its_reason(tmp_path):
    good, bad = hostile_source.write(tmp_path, 12, 7, size=(60, 40))
    result = hostile_source.ingested(tmp_path, sorted(good + bad), workers=2)
    assert result.used == set(good)
    assert result.reasons == {name: hostile_source.REASONS[name.split("-")[0]] for name in bad}
    assert {name.split("-")[0] for name in bad} == set(hostile_source.REASONS)
    assert result.peak_mb < 1500
