"""params.yaml: typed once, frozen, unknown keys refused with the nearest known one."""

from __future__ import annotations

import copy
from typing import get_args

import pytest
import yaml

from tasks.core.errors import ParamsError
from tasks.core.registry import Choice
from tasks.params import load_params, parse_params


@pytest.fixture
def raw(root) -> dict:
    return yaml.safe_load((root / "params.yaml").read_text(encoding="utf-8"))


def test_the_shipped_params_are_valid(root):
    assert load_params(root / "params.yaml").seed >= 0


@pytest.mark.parametrize(
    ("section", "wrong", "meant"),
    [("finetune", "epoch", "epochs"), ("split", "num_fold", "num_folds"), ("calibrate", "fit_one", "fit_on")],
)
def test_a_misspelled_key_is_named_with_a_suggestion(raw, section, wrong, meant):
    raw[section][wrong] = raw[section].pop(meant)
    with pytest.raises(ParamsError, match=rf"{section}\.{wrong}: unknown key.*Did you mean '{meant}'"):
        parse_params(raw)


def test_an_unknown_section_is_named(raw):
    raw["finetunes"] = {}
    with pytest.raises(ParamsError, match=r"finetunes: unknown key.*Did you mean 'finetune'"):
        parse_params(raw)


def test_a_missing_key_is_named(raw):
    del raw["shard"]["short_side_px"]
    with pytest.raises(ParamsError, match=r"shard\.short_side_px: missing"):
        parse_params(raw)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("seed",), 2**70, r"seed: .*less than 4294967296"),
        (("finetune", "lr"), -1, r"finetune\.lr: .*greater than 0, found -1"),
        (("finetune", "epochs"), "many", r"finetune\.epochs: .*integer"),
        (("split", "test_folds"), [10], r"split: fold 10 does not exist"),
        (("split", "test_folds"), [1], r"split: test_folds and calibration_folds must not overlap"),
        (("model", "resize"), "squeeze", r"model\.resize: .*'stretch', 'letterbox' or 'crop', found 'squeeze'"),
        (("sources", "digits_coco", "use"), "tarin", r"sources\.digits_coco\.use: .*found 'tarin'"),
        (("finetune", "loss", "nam"), "asl", r"finetune\.loss.*unknown key 'nam'"),
    ],
)
def test_a_wrong_value_names_the_key_and_what_is_expected(raw, path, value, message):
    section = raw
    for key in path[:-1]:
        section = section[key]
    section[path[-1]] = value
    with pytest.raises(ParamsError, match=message) as error:
        parse_params(raw)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["../../x", "..", "a/b", "a\\b", "a@b", "a\x1b[2J", ""])
def test_a_source_whose_name_is_no_name_of_a_folder_is_refused(raw, name):
    raw["sources"][name] = raw["sources"].pop("digits_coco")
    with pytest.raises(ParamsError, match=r"sources\.") as error:
        parse_params(raw)
    assert "\n" not in str(error.value)


def test_params_cannot_be_changed_after_reading(root):
    params = load_params(root / "params.yaml")
    with pytest.raises(Exception, match="frozen"):
        params.seed = 1


def test_broken_yaml_names_file_and_line(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text("seed: 1\npaths: [unclosed\n", encoding="utf-8")
    with pytest.raises(ParamsError, match=r"params\.yaml:\d+: not valid YAML"):
        load_params(path)


def test_a_control_character_is_one_line(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text("seed: \x7f", encoding="utf-8")
    with pytest.raises(ParamsError, match=r"params\.yaml: not valid YAML \(unacceptable character[^\n]*$"):
        load_params(path)


def test_a_file_in_another_encoding_is_one_line(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_bytes("seed: 1  # Zürich".encode("latin-1"))
    with pytest.raises(ParamsError, match=r"params\.yaml: not UTF-8 \(byte 12\)"):
        load_params(path)


class Asl:
    def __init__(self, num_labels: int, *, gamma_neg: float = 4.0) -> None:
        if gamma_neg < 0:
            raise ValueError(f"gamma_neg must be >= 0, found {gamma_neg}")
        self.num_labels, self.gamma_neg = num_labels, gamma_neg


def test_a_choice_builds_its_entry_with_the_block_of_that_name():
    choice = Choice.model_validate({"name": "asl", "asl": {"gamma_neg": 2.0}, "aam": {"scale": 7}})
    built = choice.build({"asl": Asl}, where="finetune.loss", num_labels=3, groups=[])
    assert (built.num_labels, built.gamma_neg) == (3, 2.0)


@pytest.mark.parametrize(
    ("raw_choice", "message"),
    [
        ({"name": "als"}, "finetune.loss: 'als' is unknown. Did you mean 'asl'"),
        ({"name": "asl", "asl": {"gama_neg": 1}}, "unknown option 'gama_neg'. Did you mean 'gamma_neg'"),
        ({"name": "asl", "asl": {"gamma_neg": -1}}, "gamma_neg must be >= 0, found -1"),
    ],
)
def test_a_choice_that_does_not_fit_names_the_key(raw_choice, message):
    with pytest.raises(ParamsError, match=message):
        Choice.model_validate(raw_choice).build({"asl": Asl}, where="finetune.loss", num_labels=3)


def test_switching_a_choice_keeps_the_blocks_of_the_others(raw):
    changed = copy.deepcopy(raw)
    changed["finetune"]["loss"] = {"name": "asl", "aam": {"scale": 7.0}}
    assert parse_params(changed).finetune.loss.options == {}


def test_every_calibration_of_probabilities_can_be_asked_for():
    from tasks.params import Calibrate
    from tasks.thresholds.probability_calibration import CALIBRATORS

    assert set(get_args(Calibrate.model_fields["probabilities"].annotation)) == {"none", *CALIBRATORS}
