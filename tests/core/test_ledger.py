"""The ledger balances to the row, or the stage fails."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.errors import LedgerError
from tasks.core.ledger import Ledger


def test_a_balanced_entry_is_written_with_its_reasons(tmp_path):
    ledger = Ledger("map_labels")
    ledger.num_in("labels", 10)
    ledger.dropped("labels", 3, "not in the taxonomy")
    ledger.added("labels", 2, "implied")
    ledger.num_out("labels", 9)
    ledger.write(tmp_path / "map_labels.json")
    assert json.loads((tmp_path / "map_labels.json").read_text())["units"]["labels"] == {
        "in": 10,
        "added": {"implied": 2},
        "dropped": {"not in the taxonomy": 3},
        "out": 9,
    }


@pytest.mark.parametrize(("out", "word"), [(9, "1 images disappeared"), (12, "2 images appeared")])
def test_an_unexplained_difference_fails_the_stage_and_writes_nothing(tmp_path, out, word):
    ledger = Ledger("ingest")
    ledger.num_in("images", 10)
    ledger.num_out("images", out)
    with pytest.raises(LedgerError, match=word):
        ledger.write(tmp_path / "ingest.json")
    assert list(tmp_path.iterdir()) == []


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 50)), max_size=20))
def test_any_sequence_of_explained_drops_balances(drops):
    ledger = Ledger("stage")
    for unit, count in drops:
        ledger.num_in(unit, count)
        ledger.dropped(unit, count, "a reason")
    assert ledger.unexplained() == {}
