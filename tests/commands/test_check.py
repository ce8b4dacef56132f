"""Names and options in params.yaml are looked up before anything is trained."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from tasks.commands.check import REGISTRIES, check_choices
from tasks.core.errors import ParamsError, ProtocolError
from tasks.core.registry import Choice
from tasks.params import Params, parse_params
from tests.imports import ROOT


@pytest.fixture
def raw() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))


def choices_of(model: type[BaseModel], prefix: str = "") -> set[str]:
    """Keys of all choices in a section and those below it."""
    found = set()
    for name, field in model.model_fields.items():
        if not isinstance(field.annotation, type):
            continue
        if issubclass(field.annotation, Choice):
            found.add(prefix + name)
        elif issubclass(field.annotation, BaseModel):
            found |= choices_of(field.annotation, f"{prefix}{name}.")
    return found


def test_every_choice_of_params_yaml_is_looked_up():
    assert set(REGISTRIES) == choices_of(Params)


def test_the_params_that_come_with_the_project_stand_in_the_registries(raw):
    check_choices(parse_params(raw))


@pytest.mark.parametrize("key", sorted(REGISTRIES))
def test_a_misspelt_name_is_told_with_its_key(raw, key):
    *sections, last = key.split(".")
    section = raw
    for name in sections:
        section = section[name]
    section[last]["name"] = "no such thing"
    with pytest.raises(ParamsError, match=rf"params\.yaml: {key}: 'no such thing' is unknown\. Known: "):
        check_choices(parse_params(raw))


def test_a_misspelt_option_is_told_with_the_nearest(raw):
    raw["finetune"]["loss"] = {"name": "asl", "asl": {"gama_neg": 4}}
    with pytest.raises(ParamsError, match=r"finetune\.loss: asl: unknown option 'gama_neg'\. Did you mean 'gamma_neg'"):
        check_choices(parse_params(raw))


def test_a_head_that_cannot_start_learned_is_told(raw):
    raw["finetune"]["probe"] = True
    check_choices(parse_params(raw))
    raw["model"]["head"]["name"] = "ml_decoder"
    with pytest.raises(ParamsError, match=r"finetune\.probe: only heads linear and angular_linear"):
        check_choices(parse_params(raw))


def test_a_misspelt_augmentation_is_told_with_its_place(raw):
    raw["finetune"]["augment"] = [{"name": "hflp"}]
    with pytest.raises(ParamsError, match=r"params\.yaml: finetune\.augment\[0\]: 'hflp' is no augmentation"):
        check_choices(parse_params(raw))


def test_a_value_of_another_type_is_told_before_it_meets_an_image(raw):
    raw["finetune"]["augment"] = [{"name": "hflip", "p": "often"}]
    with pytest.raises(ParamsError, match=r"finetune\.augment\[0\]: hflip: p: Input should be a valid number"):
        check_choices(parse_params(raw))


def test_a_misspelt_protocol_is_told_with_the_nearest(raw):
    raw["evaluate"]["protocol"] = "voc7"
    with pytest.raises(ProtocolError, match=r"'voc7' is unknown\. Did you mean 'voc07'"):
        check_choices(parse_params(raw))


@pytest.mark.parametrize(
    ("section", "entry", "message"),
    [
        ("sources", {"kind": "cocco", "path": "x"}, r"sources\.mine: 'cocco' is unknown\. Did you mean 'coco'"),
        ("sources", {"kind": "voc", "path": "x", "class": []}, r"sources\.mine: voc: unknown option 'class'"),
        ("download", {"kind": "coco", "path": "x", "archive": {}}, r"download\.mine: coco: unknown option 'archive'"),
    ],
)
def test_a_misspelt_kind_or_option_of_an_entry_is_told_with_its_name(raw, section, entry, message):
    raw[section]["mine"] = entry
    with pytest.raises(ParamsError, match=rf"params\.yaml: {message}"):
        check_choices(parse_params(raw))


def test_a_set_of_embedded_data_that_nobody_makes_is_told(raw):
    raw["make_demo"]["sets"] = {"digits": {"num_cocos": 3}}
    with pytest.raises(ParamsError, match=r"make_demo\.sets: digits: unknown option 'num_cocos'"):
        check_choices(parse_params(raw))
