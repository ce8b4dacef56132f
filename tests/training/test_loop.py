import functools
import json
import math
import signal

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tasks.core.errors import ModelError, NonFiniteLossError
from tasks.nn.losses.bce import BinaryCrossEntropy
from tasks.training import checkpoint
from tasks.training.loop import EXIT_TERMINATED, Surroundings, TrainingData, train
from tasks.training.validation import mean_average_precision
from tests.training import processes, toy, toy_run

EVERYTHING = {
    "epochs": 4,
    "sam": {"enabled": True, "rho": 0.05, "adaptive": False},
    "optimizer": {"name": "adamw"},
    "lr": 0.02,
    "clip_grad_norm": 1.0,
    "accumulate": 2,
    "schedule": {"name": "plateau"},
    "early_stopping": {"rule": "otx", "patience": 3},
    "augment": [{"name": "hflip"}, {"name": "rand_augment"}, {"name": "cutout"}],
    "checkpoint_every_steps": 1,
    "model": {"dropout": 0.3},
}
"""A run in which everything that has state takes part."""


def fit(
    tmp_path,
    *,
    model=None,
    train_set=None,
    val_set=...,
    loss=None,
    on_metrics=None,
    replicas=None,
    workers=0,
    score=mean_average_precision,
    **changes,
):
    return train(
        model or toy.tagger(),
        loss or BinaryCrossEntropy(3),
        TrainingData(
            train_set or toy.image_set(), toy.image_set(9, seed=3) if val_set is ... else val_set, replicas=replicas
        ),
        toy.settings(**changes),
        score=score,
        seed=1,
        surroundings=Surroundings(tmp_path, on_metrics, torch.device("cpu"), workers),
    )


def assert_same_bits(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert torch.equal(ours[name], theirs[name]), name


# ---------------------------------------------------------------- learning


def test_the_loss_of_a_learnable_problem_falls(tmp_path):
    history = fit(tmp_path, train_set=toy.image_set(32, known=1.0), epochs=20, batch_size=8).history
    assert history[-1]["loss"] < 0.9 * history[0]["loss"]


def test_the_same_inputs_give_the_same_bytes(tmp_path):
    first, second = (fit(tmp_path / name, augment=[{"name": "rand_augment"}]) for name in ("a", "b"))
    assert_same_bits(first.raw_state, second.raw_state)
    assert first.history == second.history


def test_loader_workers_change_nothing(tmp_path):
    policy = [{"name": "rand_augment", "p": 1.0}, {"name": "augmix"}]
    in_process = fit(tmp_path / "a", augment=policy, epochs=2)
    with_workers = fit(tmp_path / "b", augment=policy, epochs=2, workers=2)
    assert_same_bits(in_process.raw_state, with_workers.raw_state)
    assert in_process.history == with_workers.history


@pytest.mark.parametrize("reduction", ["mean", "sum", "batch"])
@pytest.mark.parametrize("sam", [False, True])
def test_accumulation_equals_the_whole_batch_at_once(tmp_path, reduction, sam):
    def run(accumulate):
        model = toy.tagger(norm="group")  # BatchNorm normalises by the micro-batch, so it cannot agree
        result = fit(
            tmp_path / str(accumulate),
            model=model,
            loss=BinaryCrossEntropy(3, reduction=reduction),
            accumulate=accumulate,
            batch_size=6,
            lr=0.05,
            sam={"enabled": sam, "rho": 0.05, "adaptive": False},
        )
        return result.history, model.state_dict()

    (history_1, weights_1), (history_2, weights_2) = run(1), run(2)
    for one, two in zip(history_1, history_2, strict=True):
        assert two == pytest.approx(one, abs=1e-6)
    for name in weights_1:
        torch.testing.assert_close(weights_2[name], weights_1[name], atol=1e-6, rtol=0)


def test_targets_of_unknown_labels_do_not_matter(tmp_path):
    plain = toy.image_set()
    flipped = toy.image_set()
    flipped.targets_NC[~flipped.known_NC] = 1
    results = [fit(tmp_path / str(i), train_set=s) for i, s in enumerate((plain, flipped))]
    assert_same_bits(results[0].raw_state, results[1].raw_state)


def test_a_batch_without_a_known_label_leaves_the_loss_finite(tmp_path):
    train_set = toy.image_set(6)
    train_set.known_NC[:3] = False
    history = fit(tmp_path, train_set=train_set, batch_size=1).history
    assert all(np.isfinite(row["loss"]) for row in history)


def test_a_single_image_can_be_trained_on(tmp_path):
    result = fit(tmp_path, train_set=toy.image_set(1, known=1.0), batch_size=4, epochs=1)
    assert np.isfinite(result.history[0]["loss"])


def test_one_class_is_enough(tmp_path):
    result = fit(
        tmp_path,
        model=toy.tagger(num_labels=1),
        loss=BinaryCrossEntropy(1),
        train_set=toy.image_set(num_labels=1),
        val_set=toy.image_set(9, num_labels=1, seed=3),
    )
    assert result.state["head.weight"].shape[0] == 1


def test_batch_of_one_through_a_vector_batchnorm_is_one_clear_line(tmp_path):
    model = toy.tagger()
    model.head = torch.nn.Sequential(torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 3))
    with pytest.raises(ModelError, match=r"one image cannot pass BatchNorm.*Raise batch_size"):
        fit(tmp_path, model=model, batch_size=1)


def test_an_image_with_two_copies_counts_twice_and_one_with_none_not_at_all(tmp_path):
    copies = np.array([2] * 6 + [0] * 6)
    half = toy.image_set()
    half.targets_NC[6:] = 1 - half.targets_NC[6:]
    first = fit(tmp_path / "a", replicas=lambda epoch: copies)
    second = fit(tmp_path / "b", train_set=half, replicas=lambda epoch: copies)
    assert_same_bits(first.raw_state, second.raw_state)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("sam", [False, True])
def test_half_precision_learns_nearly_the_same(tmp_path, precision, sam):
    changes = {"sam": {"enabled": sam, "rho": 0.05, "adaptive": False}, "lr": 0.05}
    full = fit(tmp_path / "full", **changes)
    half = fit(tmp_path / "half", precision=precision, **changes)
    assert half.history[-1]["loss"] == pytest.approx(full.history[-1]["loss"], abs=0.01)
    assert half.raw_state["conv.weight"].dtype == torch.float32


def test_sam_waits_for_its_first_epoch(tmp_path):
    def run(**sam):
        sam = {"enabled": True, "rho": 0.05, "adaptive": False, **sam}
        return fit(tmp_path / str(sam), epochs=2, lr=0.05, sam=sam, val_set=None)

    plain, late, never, early = run(enabled=False), run(start_epoch=1), run(start_epoch=2), run(start_epoch=0)
    assert_same_bits(never.raw_state, plain.raw_state)
    assert late.history[0] == plain.history[0] != early.history[0]
    assert not torch.equal(late.raw_state["head.weight"], plain.raw_state["head.weight"])


def test_an_overflowed_gradient_skips_the_update_and_lowers_the_scale(tmp_path):
    model = toy.tagger(norm="none")
    before = {k: v.clone() for k, v in model.state_dict().items()}
    # Gradients of about 1e6 at the initial scale of 65536 are beyond fp16's 65504 in the convolution.
    loss = BinaryCrossEntropy(3, reduction="sum")
    loss.register_full_backward_pre_hook(lambda module, grad: tuple(g * 1e6 for g in grad))
    fit(
        tmp_path,
        model=model,
        loss=loss,
        precision="fp16",
        epochs=1,
        batch_size=12,
        sam={"enabled": True, "rho": 0.05, "adaptive": False},
    )
    assert_same_bits(before, dict(model.state_dict()))
    scale = checkpoint.read(tmp_path / checkpoint.LATEST).state["scaler"]["scale"]
    assert scale < 65536


# ---------------------------------------------------------------- choosing the best


def test_the_better_of_raw_and_ema_is_kept_and_named(tmp_path):
    result = fit(tmp_path, epochs=4)
    best = max(result.history, key=lambda row: max(row["val_raw"], row["val_ema"]))
    assert result.best_score == max(best["val_raw"], best["val_ema"])
    assert result.kind == ("ema" if best["val_ema"] > best["val_raw"] else "raw")
    assert result.state is (result.ema_state if result.kind == "ema" else result.raw_state)


def test_without_validation_the_last_epoch_is_kept_as_ema(tmp_path):
    model = toy.tagger()
    result = fit(tmp_path, model=model, val_set=None)
    assert (result.kind, result.best_epoch) == ("ema", 2)
    assert_same_bits(result.raw_state, dict(model.state_dict()))


def test_a_validation_set_without_positives_does_not_stop_the_run(tmp_path):
    val_set = toy.image_set(9, seed=3)
    val_set.targets_NC[:] = 0
    result = fit(tmp_path, val_set=val_set)
    assert result.best_epoch == 2
    assert result.best_score == -np.inf


def test_a_run_stops_when_the_rule_says_so(tmp_path):
    val_set = toy.image_set(9, seed=3)
    val_set.targets_NC[:] = val_set.known_NC  # every known label is present: mAP is 1 at once
    result = fit(tmp_path, val_set=val_set, early_stopping={"rule": "paper", "patience": 5}, epochs=9)
    assert len(result.history) == 1


def test_metrics_arrive_once_an_epoch_with_their_step(tmp_path):
    seen = []
    fit(tmp_path, on_metrics=lambda metrics, step: seen.append((step, metrics)))
    assert [step for step, _ in seen] == [3, 6, 9]
    assert set(seen[0][1]) == {"loss", "lr", "val_raw", "val_ema", "images_per_s", "data_wait_share"}


# ---------------------------------------------------------------- going wrong, and going on


def test_a_non_finite_loss_stops_with_step_rate_and_images(tmp_path):
    model = toy.tagger()
    torch.nn.init.constant_(model.head.weight, float("nan"))
    message = r"the loss is nan at step 0 \(epoch 0\), learning rate 0\.005; images: toy/\d+, toy/\d+"
    with pytest.raises(NonFiniteLossError, match=message):
        fit(tmp_path, model=model)
    assert not (tmp_path / checkpoint.LATEST).exists()


def test_a_killed_run_ends_with_the_same_bytes(tmp_path):
    full, last = toy_run.run(tmp_path / "whole", EVERYTHING)
    slow = {**EVERYTHING, "step_delay_s": 0.05}
    killed = tmp_path / "killed"
    process = processes.start(processes.ALONE, tmp_path, {"killed": slow})
    # After the first epoch's weights exist the kill falls anywhere in the second one.
    status = processes.signalled(process, killed / "checkpoints" / "best-0000.safetensors", signal.SIGKILL)
    assert status == -signal.SIGKILL
    at = checkpoint.read(killed / "checkpoints" / checkpoint.LATEST).state["now"]
    assert at["num_steps"] < 16
    assert not (killed / "history.json").exists()

    resumed, resumed_last = toy_run.run(killed, EVERYTHING)
    assert_same_bits(last, resumed_last)
    assert_same_bits(full.raw_state, resumed.raw_state)
    assert_same_bits(full.ema_state, resumed.ema_state)
    assert json.dumps(full.history) == json.dumps(resumed.history)


def test_any_step_can_be_the_last_of_a_killed_run(tmp_path, monkeypatch):
    full, last = toy_run.run(tmp_path / "whole", EVERYTHING)

    class Killed(Exception):
        pass

    folder = tmp_path / "killed"
    write = checkpoint.write
    for _ in range(40):
        budget = iter([None] * 3)

        def write_or_die(*arguments, budget=budget):
            write(*arguments)
            if next(budget, Killed) is Killed:
                raise Killed

        monkeypatch.setattr(checkpoint, "write", write_or_die)
        try:
            resumed, resumed_last = toy_run.run(folder, EVERYTHING)
            break
        except Killed:
            continue
    assert_same_bits(last, resumed_last)
    assert_same_bits(full.state, resumed.state)
    assert full.history == resumed.history


def test_sigterm_to_it_and_its_loaders_saves_and_exits_with_143(tmp_path):
    slow = {**EVERYTHING, "step_delay_s": 0.05, "checkpoint_every_steps": 1000, "workers": 1}
    process = processes.start(processes.ALONE, tmp_path, {"run": slow})
    folder = tmp_path / "run" / "checkpoints"
    status = processes.signalled(process, folder / "best-0000.safetensors", signal.SIGTERM, group=True)
    assert status == EXIT_TERMINATED == 143, (tmp_path / "log").read_text()
    assert checkpoint.read(folder / checkpoint.LATEST).state["now"]["step"] > 0
    full, last = toy_run.run(tmp_path / "whole", {**EVERYTHING, "checkpoint_every_steps": 1000})
    resumed, resumed_last = toy_run.run(tmp_path / "run", {**EVERYTHING, "checkpoint_every_steps": 1000})
    assert_same_bits(last, resumed_last)
    assert full.history == resumed.history


def test_a_finished_run_is_not_trained_again(tmp_path):
    first = fit(tmp_path)
    second = fit(tmp_path)
    assert_same_bits(first.state, second.state)
    assert second.speed == []


def test_a_checkpoint_of_other_params_is_ignored_with_a_log_line(tmp_path, caplog):
    fit(tmp_path, epochs=1)
    with caplog.at_level("WARNING"):
        result = fit(tmp_path, epochs=2)
    assert "is ignored; training starts anew" in caplog.text
    assert len(result.speed) == 2


def test_a_damaged_checkpoint_is_ignored_with_a_log_line(tmp_path, caplog):
    fit(tmp_path, epochs=1)
    path = tmp_path / checkpoint.LATEST
    path.write_bytes(path.read_bytes()[:100])
    with caplog.at_level("WARNING"):
        assert len(fit(tmp_path, epochs=1).speed) == 1
    assert "latest.safetensors is not as it was written (checksum missing) and is ignored" in caplog.text


def test_a_checkpoint_without_its_best_weights_is_ignored_with_a_log_line(tmp_path, caplog):
    result = fit(tmp_path, epochs=1)
    (tmp_path / "best-0000.safetensors").unlink()
    with caplog.at_level("WARNING"):
        again = fit(tmp_path, epochs=1)
    assert "best-0000.safetensors is missing" in caplog.text
    assert_same_bits(result.state, again.state)


@pytest.mark.parametrize("change", ["dropout", "frozen", "groups"])
def test_another_network_starts_a_new_run_though_its_first_weights_are_the_same(tmp_path, change):
    fit(tmp_path, epochs=1)
    loss, other = BinaryCrossEntropy(3), toy.tagger(dropout=0.5 if change == "dropout" else 0.0)
    if change == "frozen":
        next(other.parameters()).requires_grad_(False)
    if change == "groups":
        loss.softmax_groups = [[0, 1]]
    assert len(fit(tmp_path, model=other, loss=loss, epochs=1).speed) == 1


def test_repacked_images_start_a_new_run(tmp_path):
    train_set = toy.image_set()
    fit(tmp_path, train_set=train_set, epochs=1)
    train_set.reader.pixels ^= 1
    assert len(fit(tmp_path, train_set=train_set, epochs=1).speed) == 1


def test_an_epoch_that_cannot_be_measured_does_not_replace_the_best_one(tmp_path):
    scores = iter([0.5, 0.6, math.nan, math.nan])  # raw and averaged weights of two epochs
    result = fit(tmp_path, epochs=2, score=lambda *_: next(scores))
    assert (result.best_epoch, result.kind, result.best_score) == (0, "ema", 0.6)


def test_sigterm_while_the_last_epoch_is_validated_is_not_swallowed(tmp_path):
    def score(*arrays):
        signal.raise_signal(signal.SIGTERM)
        return mean_average_precision(*arrays)

    with pytest.raises(SystemExit) as stopped:
        fit(tmp_path, epochs=1, score=score)
    assert stopped.value.code == EXIT_TERMINATED
    assert fit(tmp_path, epochs=1).speed == []  # all was saved


def test_options_without_effect_are_named(tmp_path, caplog):
    with caplog.at_level("WARNING"):
        fit(tmp_path, val_set=None, early_stopping={"rule": "paper", "patience": 5}, epochs=1)
    assert "no validation set: early stopping and the plateau schedule have no effect" in caplog.text


def test_the_weights_on_disk_are_those_of_the_result(tmp_path):
    result = fit(tmp_path)
    best = checkpoint.read(tmp_path / f"best-{result.best_epoch:04d}.safetensors")
    assert_same_bits(best.part("raw"), result.raw_state)
    assert load_file(tmp_path / checkpoint.LATEST).keys()


def test_a_compiled_run_is_the_plain_run(tmp_path, monkeypatch):
    # Dynamo without a code generator: what is tested is that the graph breaks nowhere that matters.
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    sam = {"enabled": True, "rho": 0.05, "adaptive": False}
    plain, compiled = (fit(tmp_path / str(c), compile=c, sam=sam, epochs=1) for c in (False, True))
    assert compiled.history[0] == pytest.approx(plain.history[0], abs=1e-6)
