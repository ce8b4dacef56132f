"""What every entry of SOURCES owes its stage; a new entry is tested here before anyone writes a test for it."""

from __future__ import annotations

import inspect

import pytest

from tasks.sources import SOURCES
from tests.sources.deliveries import DELIVERIES, check_source


def test_every_source_has_a_delivery_to_be_tested_with():
    assert set(DELIVERIES) == set(SOURCES)


@pytest.fixture(params=sorted(SOURCES))
def kind(request):
    return request.param


def test_options_are_keyword_only_and_context_comes_first(kind):
    name, root, *options = inspect.signature(SOURCES[kind]).parameters.values()
    assert (name.name, root.name) == ("name", "root")
    assert all(option.kind is inspect.Parameter.KEYWORD_ONLY for option in options)


def test_rows_are_unique_refer_to_images_and_are_all_accounted_for(kind, tmp_path):
    raw = SOURCES[kind]("pets", tmp_path, **DELIVERIES[kind](tmp_path))
    check_source(raw, "pets")
    assert raw.labels.num_rows > 0
    assert any(raw.dropped), "each small delivery holds a repetition, so that conservation is really tried"


def test_equal_files_give_equal_tables(kind, tmp_path):
    options = DELIVERIES[kind](tmp_path)
    first, second = (SOURCES[kind]("pets", tmp_path, **options) for _ in range(2))
    assert first.images.equals(second.images)
    assert first.labels.equals(second.labels)
    assert first.unknown.equals(second.unknown)
    assert first.vocabulary == second.vocabulary


def test_ids_carry_the_name_of_the_source(kind, tmp_path):
    options = DELIVERIES[kind](tmp_path)
    raw = SOURCES[kind]("other name", tmp_path, **options)
    prefix = "pets/" if kind == "predictions" else "other name/"
    assert all(image_id.startswith(prefix) for image_id in raw.labels["image_id"].to_pylist())
