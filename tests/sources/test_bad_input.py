"""Each case of bad_input works, or is refused in one line that says where, what, and what to do."""

from __future__ import annotations

import pytest

from tasks.core.errors import SourceError
from tasks.sources import SOURCES
from tasks.sources.openimages_tables import read_hierarchy
from tests.sources.bad_input import BAD_INPUT
from tests.sources.deliveries import DELIVERIES, check_source


@pytest.mark.parametrize(
    ("kind", "case"),
    [pytest.param(kind, case, id=f"{kind}: {case.name}") for kind, cases in BAD_INPUT.items() for case in cases],
)
def test_bad_input_works_or_says_where_what_and_what_to_do(kind, case, tmp_path):
    options = DELIVERIES[kind](tmp_path)
    case.spoil(tmp_path)
    if not case.says:
        name = "pets"
        check_source(SOURCES[kind](name, tmp_path, **options | case.options), name)
        return
    with pytest.raises(SourceError) as caught:
        SOURCES[kind]("pets", tmp_path, **options | case.options)
    message = str(caught.value)
    assert "\n" not in message, message
    for piece in case.says:
        assert piece in message, message
    assert message.rstrip().endswith((".", "?")), f"does not say what to do: {message}"


def test_every_kind_of_source_has_bad_input():
    assert set(BAD_INPUT) == set(SOURCES)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "empty file"),
        ("[]", "no LabelName"),
        ('{"LabelName": "a", "Subcategory": [{"Name": "b"}]}', "a node below 'a' has no LabelName"),
        ('{"LabelName": "a", "Subcategory": [{"LabelName": "a"}]}', "cycle in the hierarchy: a -> a"),
        ('{"LabelName": "a", "Subcategory"', "not valid JSON"),
        ('{"LabelName": "a", "Subcategory": 5}', "Subcategory of 'a' is no list"),
    ],
)
def test_a_bad_hierarchy_is_refused(content, says, tmp_path):
    (tmp_path / "h.json").write_text(content)
    with pytest.raises(SourceError, match=says):
        read_hierarchy(tmp_path / "h.json")


def test_a_hierarchy_as_deep_as_it_likes_is_read_or_refused_but_never_crashes(tmp_path):
    deep = '{"LabelName": "a", "Subcategory": [' * 50_000
    (tmp_path / "h.json").write_text(deep)
    with pytest.raises(SourceError, match=r"h\.json"):
        read_hierarchy(tmp_path / "h.json")
