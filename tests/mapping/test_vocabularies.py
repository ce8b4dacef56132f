"""A source and the taxonomy must mean the same vocabulary."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import yaml

from tasks.core.errors import TaxonomyError
from tasks.core.tables import COVERAGE, LABELS, OBJECTS, UNKNOWN, empty
from tasks.mapping.mapping import map_rows
from tasks.mapping.source_mapping import Source
from tasks.mapping.vocabularies import check_vocabularies, refuse_unmapped, unused_vocabularies
from tasks.params import parse_params
from tasks.taxonomy.reading import parse_taxonomy
from tests.imports import ROOT
from tests.taxonomy.kits import label_rows

TAXONOMY = parse_taxonomy({"labels": [{"id": "cat", "from": {"zoo": ["Cat"], "vendor": ["feline"]}}]})
FILE = Path("data/taxonomy/taxonomy.yaml")


def pets(classes: dict[str, str], **options: str) -> Source:
    """The source `pets` of a params.yaml with these options."""
    raw = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    raw["sources"] = {"pets": {"kind": "coco", "path": "pets.json", **options}}
    source = parse_params(raw).sources["pets"]
    rows = {"labels": LABELS, "unknown": UNKNOWN, "coverage": COVERAGE, "objects": OBJECTS}
    return Source(
        "pets", source.vocabulary, source.use, classes, **{name: empty(schema) for name, schema in rows.items()}
    )


def test_a_vocabulary_of_which_the_taxonomy_has_no_class_is_refused_with_the_nearest():
    with pytest.raises(TaxonomyError, match=r"`from: zooo`, the vocabulary of source pets\. Did you mean 'zoo'"):
        check_vocabularies([pets({"Cat": "Cat"}, vocabulary="zooo")], TAXONOMY, where=FILE)


def test_without_a_vocabulary_the_kind_is_looked_up():
    with pytest.raises(TaxonomyError, match="from: coco"):
        check_vocabularies([pets({"Cat": "Cat"})], TAXONOMY, where=FILE)


@pytest.mark.parametrize("vocabulary", ["zoo", "taxonomy"])
def test_a_vocabulary_of_the_taxonomy_and_the_taxonomy_s_own_ids_are_taken(vocabulary):
    check_vocabularies([pets({"Cat": "Cat"}, vocabulary=vocabulary)], TAXONOMY, where=FILE)


def test_a_source_without_classes_and_rows_needs_no_vocabulary():
    check_vocabularies([pets({}, vocabulary="none")], TAXONOMY, where=FILE)


def test_vocabularies_that_no_source_uses_are_listed():
    assert unused_vocabularies(["zoo"], TAXONOMY) == ["vendor"]
    assert unused_vocabularies(["zoo"], parse_taxonomy({"labels": [{"id": "cat", "from": {"zoo": ["Cat"]}}]})) == []


def test_a_class_without_a_place_is_refused_with_its_source_and_rows():
    mapped = map_rows(label_rows([("i", "dog", 1), ("j", "dog", 1), ("j", "cow", 1), ("k", "Cat", 1)]), TAXONOMY, "zoo")
    assert mapped.unmapped == Counter(dog=2, cow=1)
    with pytest.raises(TaxonomyError, match=r"'dog' of source pets \(2 rows\) stands nowhere"):
        refuse_unmapped({"pets": mapped}, where=FILE)
