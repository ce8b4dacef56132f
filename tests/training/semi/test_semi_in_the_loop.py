"""All methods in a run: the contract of SEMI, resuming, and what must not change."""

import inspect
from dataclasses import replace

import numpy as np
import pytest
import torch

from tasks.core.errors import ParamsError
from tasks.nn.losses.bce import BinaryCrossEntropy
from tasks.training import checkpoint
from tasks.training.data import ImageSet
from tasks.training.inference import infer
from tasks.training.loop import Surroundings, TrainingData, train
from tasks.training.semi import SEMI
from tests.training import toy, toy_run

OPTIONS = {
    "barlow_twins": {"projection_dim": 8},
    "sesemi": {"ratio": 0.5},
    "pseudo_labels": {"absent_below": 0.45},
    "cap": {"warmup_epochs": 1},
}
METHODS = sorted(SEMI.keys() - {"none"})
HARD = {
    "epochs": 3,
    "sam": {"enabled": True, "rho": 0.05, "adaptive": False},
    "optimizer": {"name": "adamw"},
    "lr": 0.02,
    "clip_grad_norm": 1.0,
    "accumulate": 2,
    "augment": [{"name": "hflip"}, {"name": "rand_augment"}],
    "checkpoint_every_steps": 1,
    "model": {"dropout": 0.3},
}


def fit(folder, semi, *, unlabelled=..., train_set=None, loss=None, **changes):
    model = changes.pop("model", None) or toy.tagger(norm="group")
    result = train(
        model,
        loss or BinaryCrossEntropy(3),
        TrainingData(
            train_set or toy.image_set(),
            unlabelled=toy.image_set(10, known=0.0, seed=7) if unlabelled is ... else unlabelled,
        ),
        toy.settings(**changes),
        seed=1,
        surroundings=Surroundings(folder, device=torch.device("cpu")),
        semi=semi,
    )
    return result, model.state_dict()


def assert_same_bits(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert torch.equal(ours[name], theirs[name]), name


# ---------------------------------------------------------------- the contract


@pytest.mark.parametrize("name", METHODS)
def test_options_are_keywords_with_defaults_and_the_rest_is_context(name):
    for parameter in inspect.signature(SEMI[name]).parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY:
            assert parameter.default is not parameter.empty, parameter.name
        else:
            assert parameter.name in ("num_features", "groups", "epochs"), parameter.name


@pytest.mark.parametrize("name", METHODS)
def test_every_method_trains_and_leaves_nothing_but_the_tagger(name, tmp_path):
    result, state = fit(tmp_path, toy.method(name, **OPTIONS[name]))
    assert result.state.keys() == toy.tagger(norm="group").state_dict().keys()
    assert all(np.isfinite(row["loss"]) for row in result.history)
    plain, _ = fit(tmp_path / "plain", None)
    assert not torch.equal(plain.raw_state["conv.weight"], state["conv.weight"])


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("reduction", ["mean", "sum", "batch"])
def test_micro_batches_change_only_the_order_of_sums(name, reduction, tmp_path):
    if name == "barlow_twins":
        pytest.skip("it standardises over a micro-batch, as BatchNorm does")
    states = []
    for accumulate in (1, 2):
        loss = BinaryCrossEntropy(3, reduction=reduction)
        method = toy.method(name, **{**OPTIONS[name], "ratio": 1.0})
        options = {"accumulate": accumulate, "batch_size": 6, "lr": 0.02, "loss": loss}
        states.append(fit(tmp_path / str(accumulate), method, **options)[1])
    for key in states[0]:
        torch.testing.assert_close(states[1][key], states[0][key], atol=1e-6, rtol=0)


def test_none_is_a_run_without_any_of_it():
    assert SEMI["none"]() is None


def test_a_further_method_does_not_move_the_labelled_batches_or_the_initial_weights(tmp_path):
    """With a vanishing weight a run is the plain one: same images, same order, same initialisation."""
    plain, _ = fit(tmp_path / "plain", None)
    faint, _ = fit(tmp_path / "faint", toy.method("sesemi", weight=1e-12))
    for key, value in plain.raw_state.items():
        torch.testing.assert_close(faint.raw_state[key], value, atol=1e-6, rtol=0)


# ---------------------------------------------------------------- resuming


@pytest.mark.parametrize("name", METHODS)
def test_any_step_can_be_the_last_of_a_killed_run(name, tmp_path, monkeypatch):
    changes = {**HARD, "semi": {name: OPTIONS[name]}}
    full, last = toy_run.run(tmp_path / "whole", changes)

    class Killed(Exception):
        pass

    write = checkpoint.write
    for _ in range(40):
        budget = iter([None] * 4)

        def write_or_die(*arguments, budget=budget):
            write(*arguments)
            if next(budget, Killed) is Killed:
                raise Killed

        monkeypatch.setattr(checkpoint, "write", write_or_die)
        try:
            resumed, resumed_last = toy_run.run(tmp_path / "killed", changes)
            break
        except Killed:
            continue
    assert_same_bits(last, resumed_last)
    assert_same_bits(full.state, resumed.state)
    assert full.history == resumed.history


def test_other_unlabelled_images_start_a_new_run(tmp_path):
    fit(tmp_path, toy.method("sesemi"), epochs=1)
    result, _ = fit(tmp_path, toy.method("sesemi"), unlabelled=toy.image_set(10, known=0.0, seed=8), epochs=1)
    assert len(result.speed) == 1


# ---------------------------------------------------------------- what is known, and bad input


@pytest.mark.parametrize("name", METHODS)
def test_targets_of_unknown_labels_do_not_matter_on_either_side(name, tmp_path):
    results = []
    for flip in (False, True):
        train_set, unlabelled = toy.image_set(), toy.image_set(10, known=0.3, seed=7)
        for images in (train_set, unlabelled):
            images.targets_NC[~images.known_NC] = flip
        method = toy.method(name, **OPTIONS[name])
        results.append(fit(tmp_path / str(flip), method, train_set=train_set, unlabelled=unlabelled)[1])
    assert_same_bits(*results)


@pytest.mark.parametrize("name", METHODS)
def test_no_unlabelled_image_is_one_clear_line(name, tmp_path):
    empty = replace(toy.image_set(1), image_ids=[], targets_NC=None, known_NC=None)
    for nothing in (None, empty):
        with pytest.raises(ParamsError, match=r"there is no unlabelled image to learn from\. Add a source .*use: pool"):
            fit(tmp_path, toy.method(name, **OPTIONS[name]), unlabelled=nothing)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("ratio", [0, -1.0])
def test_a_ratio_of_nothing_is_one_clear_line(name, ratio):
    with pytest.raises(ParamsError, match=rf"finetune\.semi: {name}: ratio must be greater than 0, found {ratio}"):
        toy.method(name, **{**OPTIONS[name], "ratio": ratio})


def test_cap_without_averaged_weights_is_one_clear_line(tmp_path):
    with pytest.raises(ParamsError, match=r"averaged weights\. Set finetune\.ema\.enabled: true"):
        fit(tmp_path, toy.method("cap", warmup_epochs=1), ema={"enabled": False, "decay": 0.9})


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("name", METHODS)
def test_half_precision_stays_finite(name, precision, tmp_path):
    result, _ = fit(tmp_path, toy.method(name, **OPTIONS[name]), precision=precision, lr=0.05)
    assert all(np.isfinite(row["loss"]) for row in result.history)


# ---------------------------------------------------------------- what it is for


def test_class_proportions_move_the_boundary_into_the_gap_between_two_kinds(tmp_path):
    """Dark and bright images with a gap between; two labelled pairs alone put the boundary among the dark ones."""
    brightness = np.concatenate([np.linspace(10, 150, 40), np.linspace(180, 245, 40), [10, 12, 182, 184]])
    reader = toy.ToyReader(84, 8, 8)
    reader.pixels = np.broadcast_to(brightness[:, None, None, None], (84, 8, 8, 3)).astype(np.uint8)
    is_bright = (brightness > 165).astype(np.uint8)[:, None]

    def images(rows, known):
        ids = [reader.image_ids[i] for i in rows]
        return ImageSet(reader, ids, (8, 8), "stretch", is_bright[rows], np.full((len(rows), 1), known))

    def accuracy(semi):
        model = toy.tagger(num_labels=1, norm="none", seed=3)
        fit(
            tmp_path / str(semi is None), semi, model=model, loss=BinaryCrossEntropy(1),
            train_set=images(range(80, 84), True), unlabelled=images(range(80), False), augment=[],
            epochs=20, batch_size=2, optimizer={"name": "adamw"}, schedule={"name": "constant"}, lr=0.2,
        )  # fmt: skip
        everything = infer(model, images(range(80), True), batch_size=80, device=torch.device("cpu"))
        return ((everything.scores_NC >= 0.5) == is_bright[:80]).mean()

    cap = toy.method("cap", epochs=20, ratio=20.0, warmup_epochs=5, strong=[])
    assert accuracy(cap) > accuracy(None) + 0.05
    assert np.array_equal(cap.memory["targets_UC"], is_bright[:80])
