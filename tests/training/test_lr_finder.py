import sys

import numpy as np
import pytest
import torch

from tasks.core.errors import ModelError
from tasks.nn.losses.bce import BinaryCrossEntropy
from tasks.training.lr_finder import search_lr, steepest_descent, sweep_lr
from tests.training import toy


def test_the_steepest_descent_wins():
    lrs = list(np.geomspace(0.001, 1, 40))
    losses = [1.0] * 20 + [0.8, 0.3, 0.2] + [0.15] * 17  # central differences: -0.35 at step 20, -0.3 at 21
    assert steepest_descent(lrs, losses) == pytest.approx(lrs[20])


def test_the_first_ten_and_the_last_five_points_are_left_out():
    lrs = list(np.geomspace(0.001, 1, 40))
    losses = [9.0, 1.0, *[1.0] * 18, 0.9, *[0.9] * 17, 0.1, 0.0]
    assert lrs[18] < steepest_descent(lrs, losses) < lrs[22]


def test_too_short_a_sweep_says_what_to_do():
    with pytest.raises(ModelError, match=r"after 16 steps, at least 17 are needed\. Lower max_lr"):
        steepest_descent([0.1] * 16, [1.0] * 16)


def test_a_range_test_sweeps_exponentially_and_puts_everything_back():
    model, loss = toy.tagger(dropout=0.2), BinaryCrossEntropy(3)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    settings = toy.settings(batch_size=2, sam={"enabled": True, "rho": 0.05, "adaptive": False})
    result = sweep_lr(model, loss, toy.image_set(80), settings, seed=0, min_lr=0.01, max_lr=1.0)
    assert result.lrs[0] == pytest.approx(0.01)
    assert result.lrs[-1] == pytest.approx(1.0)
    ratios = result.lrs[1:] / result.lrs[:-1]
    assert ratios == pytest.approx(ratios[0])
    assert 0.01 <= result.lr <= 1.0
    assert len(result.losses) == len(result.lrs) == 40
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_a_diverging_sweep_ends_early():
    settings = toy.settings(batch_size=2)
    with pytest.raises(ModelError, match="Lower max_lr"):
        sweep_lr(
            toy.tagger(norm="none"), BinaryCrossEntropy(3), toy.image_set(80), settings, seed=0, min_lr=1e4, max_lr=1e9
        )


def test_a_search_without_optuna_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ModelError, match=r"Optuna is not installed\. Install the `search` extra"):
        search_lr(lambda lr, report: 0.0, min_lr=1e-4, max_lr=1e-2, seed=0)


def test_a_search_finds_the_top_of_a_smooth_objective_and_prunes_hopeless_trials():
    pytest.importorskip("optuna")
    reported = []

    def objective(lr, report):
        score = -abs(np.log10(lr) + 3)  # best at 1e-3
        for epoch in range(3):
            reported.append((lr, epoch))
            report(epoch, score)
        return score

    assert 3e-4 < search_lr(objective, min_lr=1e-5, max_lr=1e-1, seed=0, num_trials=30) < 3e-3
    assert len(reported) < 90
