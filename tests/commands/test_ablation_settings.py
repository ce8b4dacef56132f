"""Params of the steps of an ablation: each adds its changes to those before it."""

from __future__ import annotations

import pytest
import yaml

from tasks.commands.ablate import settings_of
from tasks.core.errors import ParamsError
from tasks.evaluation.ablation import AblationStep, read_steps
from tests.imports import ROOT

BASE = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
PAPER = ROOT / "recipes/ablations/paper.yaml"


def finetune(name: str, **changes) -> AblationStep:
    return AblationStep(name, "x", {"finetune": changes})


def test_a_step_keeps_what_the_steps_before_it_changed():
    steps = [finetune("a", epochs=2), finetune("b", lr=0.5), finetune("c", epochs=4)]
    sections = [setting.params.finetune for setting in settings_of(BASE, steps, where="x")]
    assert [(section.epochs, section.lr) for section in sections] == [(2, BASE["finetune"]["lr"]), (2, 0.5), (4, 0.5)]


def test_a_step_with_a_misspelled_key_is_named():
    with pytest.raises(ParamsError, match=r"own\.yaml: step 'b': finetune\.epoch: unknown key\. Did you mean 'epochs'"):
        settings_of(BASE, [finetune("b", epoch=2)], where="own.yaml")


@pytest.mark.parametrize("path", sorted(PAPER.parent.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_ablation_makes_valid_params_from_step_to_step(path):
    assert len(settings_of(BASE, read_steps(path), where=path.name)) > 1


def test_the_shipped_ablation_is_the_papers_and_each_step_changes_one_thing():
    settings = settings_of(BASE, read_steps(PAPER), where=PAPER.name)
    names = [setting.name for setting in settings]
    assert names == ["baseline", "sam", "pre-training", "ml-decoder", "am", "aam", "gat"]
    parts = [
        (
            p.finetune.sam.enabled,
            p.pretrain.enabled,
            p.model.head.name,
            p.model.head.options.get("angular", False),
            p.finetune.loss.name,
        )
        for p in (setting.params for setting in settings)
    ]
    assert parts == [
        (False, False, "linear", False, "bce"),
        (True, False, "linear", False, "bce"),
        (True, True, "linear", False, "bce"),
        (True, True, "ml_decoder", False, "bce"),
        (True, True, "ml_decoder", True, "am_binary"),
        (True, True, "ml_decoder", True, "aam"),
        (True, True, "gat_ml_decoder", True, "aam"),
    ]
    assert {setting.params.finetune.optimizer.name for setting in settings} == {"sgd"}
