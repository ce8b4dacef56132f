"""Recipes overlay params.yaml, keep its comments, and refuse what would not be valid."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from tasks.commands.recipe import apply_recipe, list_recipes, merge, read_recipe
from tasks.core.errors import ParamsError
from tasks.core.states import States
from tasks.core.workspace import Vocabulary
from tasks.params import Params, Training, load_params, parse_params
from tasks.taxonomy.reading import read_taxonomy
from tasks.training import SCHEDULES
from tasks.training.augment import Policy
from tasks.training.fitting import Network, build_model, build_semi
from tasks.training.semi.base import Assisted
from tests.benchmarks.ladder import steps_of
from tests.imports import ROOT


@pytest.fixture
def home(tmp_path):
    shutil.copy(ROOT / "params.yaml", tmp_path / "params.yaml")
    (tmp_path / "recipes").mkdir()
    return tmp_path


def write(home, name: str, text: str) -> None:
    (home / "recipes" / f"{name}.yaml").write_text(text, encoding="utf-8")


def test_a_recipe_changes_its_keys_and_keeps_the_comments(home):
    write(home, "quick", "about: {what: a short run}\nfinetune: {epochs: 2}\n")
    diff = apply_recipe("quick", home / "params.yaml", home / "recipes")
    assert "+  epochs: 2" in diff
    after = (home / "params.yaml").read_text()
    assert load_params(home / "params.yaml").finetune.epochs == 2
    assert after.count("#") == (ROOT / "params.yaml").read_text().count("#")


def test_a_recipe_extends_another(home):
    write(home, "base", "finetune: {epochs: 2, lr: 0.5}\n")
    write(home, "child", "extends: base\nfinetune: {lr: 0.1}\n")
    assert read_recipe("child", home / "recipes") == {"finetune": {"epochs": 2, "lr": 0.1}}


def test_sources_of_a_recipe_replace_the_others():
    assert merge({"sources": {"a": 1}}, {"sources": {"b": 2}}) == {"sources": {"b": 2}}


def test_merging_leaves_both_as_they_were():
    base, overlay = (
        {"model": {"head": {"name": "linear"}}},
        {"model": {"head": {"name": "ml_decoder"}}, "new": {"a": 1}},
    )
    merged = merge(base, overlay)
    merged["new"]["a"] = 2
    assert base == {"model": {"head": {"name": "linear"}}}
    assert overlay == {"model": {"head": {"name": "ml_decoder"}}, "new": {"a": 1}}


def test_every_step_of_the_benchmark_of_components_trains_under_params_of_its_own():
    assert len({json.dumps(step.changes, sort_keys=True) for step in steps_of({"model": {"image_px": [64, 64]}})}) == 9


@pytest.mark.parametrize(
    ("files", "name", "message"),
    [
        ({"album_tagging": ""}, "album_taging", "no such recipe. Did you mean 'album_tagging'"),
        ({"a": "extends: b", "b": "extends: a"}, "a", "circle: a -> b -> a"),
        ({"a": "finetune: {epoch: 2}"}, "a", "finetune.epoch: unknown key. Did you mean 'epochs'"),
    ],
)
def test_a_bad_recipe_is_one_line_and_changes_nothing(home, files, name, message):
    for file, text in files.items():
        write(home, file, text)
    before = (home / "params.yaml").read_bytes()
    with pytest.raises(ParamsError, match=message):
        apply_recipe(name, home / "params.yaml", home / "recipes")
    assert (home / "params.yaml").read_bytes() == before


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_shipped_recipe_is_valid_and_says_what_to_expect(path):
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    parse_params(merge(params, read_recipe(path.stem, ROOT / "recipes")), where=path.name)
    about = yaml.safe_load(path.read_text(encoding="utf-8"))["about"]
    assert {"what", "source", "expect", "cost"} <= set(about)


def test_recipes_are_listed_with_what_they_are_about(home):
    write(home, "quick", "about: {what: a short run}\n")
    assert list_recipes(home / "recipes") == f"{'quick':<24} a short run"


def build(params: Params, section: Training, states: States, groups: list[list[int]]) -> tuple:
    """Network and loss of a recipe, without images."""
    nowhere, vocabulary = ROOT / "no-such-folder", Vocabulary(states.labels, groups, states.labels)
    network = Network(params.model, vocabulary, nowhere, nowhere, params.seed)
    return build_model(network, section.loss, where="loss", states=states, start=nowhere)


def vocabulary_of(taxonomy: Path) -> tuple[list[str], list[list[int]]]:
    """Labels and exclusive groups of a recipe's taxonomy where it has groups, which its loss may weigh; else seven."""
    read = read_taxonomy(taxonomy) if taxonomy.exists() else None
    return (read.ids, read.exclusive_groups) if read and read.groups else (list("abcdefg"), [])


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_shipped_recipe_takes_a_step_with_its_own_network_head_and_loss(path):
    """On two random images of 64 px, without downloaded weights; labels as many as exercise ML-Decoder's grouping."""
    overlay = merge(
        read_recipe(path.stem, ROOT / "recipes"), {"model": {"image_px": [64, 64], "backbone": {"weights": None}}}
    )
    base = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params = parse_params(merge(base, overlay), where=path.name)
    section = params.pretrain if params.pretrain.enabled else params.finetune
    labels, groups = vocabulary_of(ROOT / params.paths.taxonomy)
    rng, shape = np.random.default_rng(0), (40, len(labels))
    targets_NC = (rng.random(shape) < 0.4).astype(np.uint8)
    states = States.of([str(i) for i in range(40)], labels, targets_NC, rng.random(shape) < 0.8)
    model, loss = build(params, section, states, groups)
    images = torch.randint(256, (2, 3, 64, 64), dtype=torch.uint8)
    semi = build_semi(section.semi, model, epochs=section.epochs) if section is params.finetune else None
    logits, extra = model(images), None
    if semi is not None:
        logits, extra = Assisted(model, semi)(images, torch.randint(256, (12, 3, 64, 64), dtype=torch.uint8))
    value = loss(logits, torch.from_numpy(targets_NC[:2]), torch.from_numpy(states.known_NC[:2]))
    if extra is not None:
        value = value + extra.square().mean()
    value.backward()
    assert torch.isfinite(value)
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in model.parameters())
    Policy(section.augment, image_px=(64, 64), resize=params.model.resize)
    section.schedule.build(SCHEDULES, where="schedule", num_steps=10, steps_per_epoch=5)


def test_the_album_recipe_draws_its_head_by_xavier():
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    small = {"model": {"backbone": {"name": "test_resnet", "weights": None}}}
    album = parse_params(merge(merge(params, read_recipe("album_tagging", ROOT / "recipes")), small))
    targets_NC = np.eye(7, dtype=np.uint8)
    states = States.of(list("abcdefg"), list("abcdefg"), targets_NC, np.ones((7, 7), bool))
    model, _ = build(album, album.finetune, states, [])
    bound = (6 / (model.backbone.num_features + 7)) ** 0.5
    assert 0.9 * bound < model.head.classifier.weight.abs().max() <= bound
