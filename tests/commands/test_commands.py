"""`find-lr`, `cost` and `draft` as a user calls them, in a home in which the flow has run."""

from __future__ import annotations

import json

import pytest
import yaml

from tests.homes import run

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1200)]


def test_a_range_test_suggests_a_rate_within_its_bounds_and_leaves_the_run_alone(home):
    before = (home / "data/models/finetuned/model.safetensors").read_bytes()
    found = json.loads(
        run(home, "tasks", "find-lr", "--min-lr", "1e-4", "--max-lr", "1", TAGWRIGHT_TRACKING="off").stdout
    )
    assert found["method"] == "range test"
    assert 1e-4 <= found["lr"] <= 1
    assert (home / "data/models/finetuned/model.safetensors").read_bytes() == before


def test_bounds_in_the_wrong_order_are_wrong_usage(home):
    done = run(home, "tasks", "find-lr", "--min-lr", "1", "--max-lr", "0.1", check=False)
    assert done.returncode == 2
    assert "0 < min-lr < max-lr" in done.stderr


def test_the_cost_is_that_of_the_last_run_s_model(home):
    cost = json.loads(run(home, "tasks", "cost").stdout)
    assert cost["macs"] == sum(cost["macs_by_layer"].values()) > 0
    assert cost["parameters"] > 0


def test_a_draft_is_a_taxonomy_of_the_source_s_names(home):
    drafted = yaml.safe_load(run(home, "tasks", "draft", "digits_coco").stdout)["labels"]
    names = json.loads((home / "data/interim/ingested/digits_coco/vocabulary.json").read_text())
    assert [label["from"] for label in drafted] == [{"coco": [name]} for name in sorted(names, key=str.casefold)]
    wrong = run(home, "tasks", "draft", "digits_coc", check=False)
    assert wrong.returncode == 1
    assert "Did you mean 'digits_coco'" in wrong.stderr
