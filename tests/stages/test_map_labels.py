"""map_labels.py: a source and the taxonomy must mean the same vocabulary."""

from __future__ import annotations

import pytest
import yaml

from tasks.core.errors import TaxonomyError
from tasks.core.ledger import Ledger
from tasks.params import Params, parse_params
from tasks.stages.map_labels import check_vocabularies, note_unspoken
from tasks.taxonomy.taxonomy import parse_taxonomy
from tests.imports import ROOT

TAXONOMY = parse_taxonomy({"labels": [{"id": "cat", "from": {"zoo": ["Cat"], "vendor": ["feline"]}}]})


def params(**source) -> Params:
    raw = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    raw["sources"] = {"pets": {"kind": "coco", "path": "pets.json", **source}}
    return parse_params(raw)


def test_a_vocabulary_of_which_the_taxonomy_has_no_name_is_refused_with_the_nearest():
    with pytest.raises(TaxonomyError, match=r"`from: zooo`, the vocabulary of source pets\. Did you mean 'zoo'"):
        check_vocabularies(params(vocabulary="zooo"), TAXONOMY, {"pets"})


def test_without_a_vocabulary_the_kind_is_looked_up():
    with pytest.raises(TaxonomyError, match="from: coco"):
        check_vocabularies(params(), TAXONOMY, {"pets"})


@pytest.mark.parametrize("vocabulary", ["zoo", "taxonomy"])
def test_a_vocabulary_of_the_taxonomy_and_the_taxonomy_s_own_ids_are_taken(vocabulary):
    check_vocabularies(params(vocabulary=vocabulary), TAXONOMY, {"pets"})


def test_a_source_that_names_nothing_needs_no_vocabulary():
    check_vocabularies(params(vocabulary="none"), TAXONOMY, set())


def test_vocabularies_that_no_source_speaks_are_noted():
    ledger = Ledger("map_labels")
    note_unspoken(params(vocabulary="zoo"), TAXONOMY, ledger)
    assert ledger.notes == ["no source speaks these vocabularies of the taxonomy: vendor"]
    note_unspoken(
        params(vocabulary="zoo"), parse_taxonomy({"labels": [{"id": "cat", "from": {"zoo": ["Cat"]}}]}), ledger
    )
    assert len(ledger.notes) == 1
