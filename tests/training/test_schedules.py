import math

import pytest
import torch

from tasks.training import SCHEDULES
from tasks.training.schedules import constant, cosine, one_cycle, plateau, poly


def optimizer(lr=0.007):
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr, momentum=0.9)


@pytest.mark.parametrize("num_steps", [7, 60, 997])
@pytest.mark.parametrize("rise", [0.2, 0.3])
def test_one_cycle_is_that_of_torch_in_rate_and_momentum(num_steps, rise):
    theirs = optimizer()
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        theirs, max_lr=0.007, total_steps=num_steps, pct_start=rise, div_factor=100, final_div_factor=1000
    )
    ours = one_cycle(num_steps, rise=rise)
    for step in range(num_steps):
        group = theirs.param_groups[0]
        assert 0.007 * ours.factor(step) == pytest.approx(group["lr"], rel=1e-9)
        assert ours.momentum(step) == pytest.approx(group["momentum"], rel=1e-9)
        theirs.step()
        if step < num_steps - 1:
            scheduler.step()


def test_one_cycle_starts_at_a_hundredth_and_ends_at_a_hundred_thousandth():
    schedule = one_cycle(100)
    assert schedule.factor(0) == pytest.approx(1 / 100)
    assert schedule.factor(19) == pytest.approx(1.0)  # 20 % of 100 steps, counted from 0
    assert schedule.factor(99) == pytest.approx(1 / 100_000)
    assert [schedule.rising(step) for step in (0, 19, 20)] == [True, True, False]


def test_a_square_root_falls_from_one_to_nearly_nothing():
    assert [poly(4).factor(step) for step in range(4)] == pytest.approx([1, 0.75**0.5, 0.5**0.5, 0.5])
    with pytest.raises(ValueError, match="power must be greater than 0, found 0"):
        poly(4, power=0)


@pytest.mark.parametrize("num_steps", [1, 2, 3])
def test_every_schedule_can_be_asked_at_every_step_of_a_very_short_run(num_steps):
    for factory in SCHEDULES.values():
        arguments = {"num_steps": num_steps, "steps_per_epoch": num_steps}
        accepted = {k: v for k, v in arguments.items() if k in factory.__code__.co_varnames}
        schedule = factory(**accepted)
        assert all(0 <= schedule.factor(step) <= 1 for step in range(num_steps))


def test_one_cycle_refuses_a_rise_outside_0_to_1():
    with pytest.raises(ValueError, match=r"rise must lie in \(0, 1\), found 1"):
        one_cycle(10, rise=1.0)


def test_cosine_after_the_warmup_is_that_of_torch():
    theirs = optimizer(lr=1.0)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(theirs, T_max=20)
    ours = cosine(25, 5, warmup_epochs=1.0)
    assert [ours.factor(step) for step in range(5)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    for step in range(5, 25):
        assert ours.factor(step) == pytest.approx(theirs.param_groups[0]["lr"])
        theirs.step()
        scheduler.step()


def test_cosine_without_warmup_is_the_formula_of_the_album_pipeline():
    schedule = cosine(8, 4, warmup_epochs=0)
    for t in range(8):
        assert schedule.factor(t) == pytest.approx(0.5 * (1 + math.cos(t * math.pi / 8)))


@pytest.mark.parametrize("patience", [0, 1, 3])
def test_plateau_is_that_of_torch(patience):
    scores = [0.1, 0.3, 0.3, 0.2, 0.31, 0.31, 0.31, 0.31, 0.31, 0.31, 0.4, 0.1, 0.1]
    theirs = optimizer(lr=1.0)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(theirs, "max", factor=0.5, patience=patience, threshold=0)
    ours = plateau(100, decay=0.5, patience=patience, min_factor=0.0, warmup_steps=0)
    for score in scores:
        scheduler.step(score)
        ours.observe(score)
        assert ours.factor(50) == pytest.approx(theirs.param_groups[0]["lr"])


def test_plateau_never_falls_below_its_smallest_factor_and_remembers_itself():
    schedule = plateau(100, patience=0, min_factor=0.2)
    for _ in range(9):
        schedule.observe(0.5)
    assert schedule.factor(50) == 0.2
    resumed = plateau(100, patience=0, min_factor=0.2)
    resumed.load_state_dict(schedule.state_dict())
    assert resumed == schedule


def test_constant_is_constant():
    assert {constant(10).factor(step) for step in range(10)} == {1.0}
    assert constant(10).momentum(3) is None
