"""`ablate` in a small home that the flow has prepared: table, resuming, choice of learning rates, refusals."""

from __future__ import annotations

import json
import shutil

import pytest
import yaml

from tasks.commands import ablate as module
from tasks.commands.ablate import ablate
from tasks.core.errors import ParamsError
from tasks.evaluation.scored_run import read_scored_run
from tests.homes import run

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1200)]

DECODER = {"decoder_dim": 16, "ffn_dim": 16, "num_heads": 2}
TINY = {
    "about": {"what": "as small as it gets"},
    "model": {"image_px": [32, 32], "head": {"ml_decoder": DECODER, "gat_ml_decoder": DECODER}},
    "finetune": {"epochs": 1, "batch_size": 64, "resample": False},
}
ALL_BUT_SAM = ["pre-training", "ml-decoder", "am", "aam", "gat"]


def write_recipe(home, name="tiny", **changes):
    (home / f"recipes/{name}.yaml").write_text(yaml.safe_dump({**TINY, **changes}), encoding="utf-8")


@pytest.fixture
def prepared(home, monkeypatch):
    """The home as the current folder, with the recipe `tiny`; it is left as it was."""
    monkeypatch.chdir(home)
    write_recipe(home)
    yield home
    (home / "recipes/tiny.yaml").unlink()
    shutil.rmtree(home / "data/reports/ablation", ignore_errors=True)


@pytest.fixture
def trainings(monkeypatch):
    """Names of the runs that are trained, not read."""
    names = []

    def traced(*arguments, real=module.finetune_once, **options):
        names.append(arguments[3])
        return real(*arguments, **options)

    monkeypatch.setattr(module, "finetune_once", traced)
    return names


def ablated(**changes):
    return ablate(
        "tiny", "paper", **{"num_seeds": 1, "learning_rates": [], "skip": ALL_BUT_SAM, "num_resamples": 20, **changes}
    )


def measured_of(home) -> dict:
    return json.loads((home / "data/reports/ablation/tiny/paper/ablation.json").read_text())


def test_the_command_runs_every_step_and_writes_the_table(prepared):
    done = run(prepared, "tasks", "ablate", "tiny", "--seeds", "1", "--bootstrap", "20", TAGWRIGHT_TRACKING="off")
    measured = measured_of(prepared)
    names = [row["step"] for row in measured["steps"]]
    assert names == ["baseline", "sam", "pre-training", "ml-decoder", "am", "aam", "gat"]
    assert all(0 < row["low"] <= row["high"] <= 1 for row in measured["steps"])
    assert measured["partition"] == "test"
    assert done.stdout.strip() == (prepared / "data/reports/ablation/tiny/paper/ablation.md").read_text().strip()
    assert "7 of 7" in done.stderr
    assert not list((prepared / "data/models/.checkpoints").glob("ablate-*"))


def test_a_killed_ablation_goes_on_where_it_was_and_ends_the_same(prepared, trainings):
    ablated(num_seeds=2)
    full = (prepared / "data/reports/ablation/tiny/paper/ablation.json").read_bytes()
    assert len(trainings) == 4
    (prepared / "data/reports/ablation/tiny/paper/runs/sam-lr0.005-seed8.parquet").unlink()
    ablated(num_seeds=2)
    assert trainings[4:] == ["ablate-tiny-paper-sam-lr0.005-seed8"]
    assert (prepared / "data/reports/ablation/tiny/paper/ablation.json").read_bytes() == full


def test_runs_of_other_settings_are_made_anew(prepared, trainings):
    ablated()
    write_recipe(prepared, finetune={**TINY["finetune"], "weight_decay": 0.5})
    ablated()
    assert len(trainings) == 4


def test_each_step_takes_the_learning_rate_that_calibration_prefers_to_its_other_seeds(prepared, trainings):
    ablated(num_seeds=2, learning_rates=[0.02, 1e-6])
    assert len(trainings) == 2 * (2 + 1)
    runs = [read_scored_run(p).stamp for p in (prepared / "data/reports/ablation/tiny/paper/runs").glob("*.parquet")]
    for name, chosen in measured_of(prepared)["learning_rates"].items():
        tried = {r["lr"]: r["val_mAP"] for r in runs if (r["step"], r["seed"]) == (name, 7)}
        assert tried[chosen] == max(tried.values())
        assert [r["lr"] for r in runs if (r["step"], r["seed"]) == (name, 8)] == [chosen]


def test_without_learning_rates_to_try_each_step_has_its_own(prepared, trainings):
    own = prepared / "recipes/ablations/own.yaml"
    steps = [{"step": f"at-{lr}", "what": "x", "params": {"finetune": {"lr": lr}}} for lr in (0.01, 0.02)]
    own.write_text(yaml.safe_dump(steps), encoding="utf-8")
    try:
        ablate("tiny", "own", num_seeds=1, learning_rates=[], skip=[], num_resamples=20)
    finally:
        own.unlink()
    assert trainings == ["ablate-tiny-own-at-0.01-lr0.01-seed7", "ablate-tiny-own-at-0.02-lr0.02-seed7"]


def test_an_unknown_recipe_gets_the_nearest_one(prepared):
    with pytest.raises(ParamsError, match=r"recipes/tinny\.yaml: no such recipe\. Did you mean 'tiny'"):
        ablate("tinny", "paper", num_seeds=1, learning_rates=[], skip=[], num_resamples=20)


def test_a_step_that_cannot_be_built_is_named_before_anything_is_trained(prepared, trainings):
    head = {"ml_decoder": {**DECODER, "num_heads": 3}}
    write_recipe(prepared, model={"image_px": [32, 32], "head": head})
    with pytest.raises(ParamsError, match=r"step 'ml-decoder'.*multiple of num_heads.*`--skip ml-decoder`"):
        ablated(skip=[])
    assert not trainings


def test_an_ablation_without_pre_trained_weights_says_how_to_get_them(prepared, trainings):
    write_recipe(prepared, paths={"pretrained": "data/models/nowhere"})
    with pytest.raises(ParamsError, match=r"'pre-training': data/models/nowhere holds no weights\. Run"):
        ablated(skip=[])
    assert not trainings


def test_a_learning_rate_must_be_positive(prepared):
    with pytest.raises(ParamsError, match="greater than 0, found -1"):
        ablated(learning_rates=[-1])


def test_the_old_name_of_the_option_is_refused_with_the_new_one():
    with pytest.raises(ParamsError, match=r"--ladder is now called --ablation\. Write --ablation small_data"):
        module.command("tiny", ladder="small_data")
