import pytest
import torch
from torch import nn

from tasks.training.sam import perturbed


def with_gradients(weights, gradients):
    model = nn.Module()
    model.w = nn.Parameter(torch.tensor(weights))
    model.w.grad = torch.tensor(gradients)
    model.untouched = nn.Parameter(torch.ones(2))
    return model


def test_sam_climbs_by_rho_along_the_gradient():
    model = with_gradients([1.0, 2.0], [3.0, 4.0])  # norm 5
    with perturbed(model, rho=0.5) as norm:
        assert norm.item() == pytest.approx(5.0)
        assert model.w.tolist() == pytest.approx([1 + 0.5 * 3 / 5, 2 + 0.5 * 4 / 5])
        assert model.untouched.tolist() == [1.0, 1.0]


def test_asam_climbs_relative_to_the_weights():
    model = with_gradients([1.0, -2.0], [3.0, 2.0])  # |w| g = (3, 4), norm 5; w^2 g = (3, 8)
    with perturbed(model, rho=0.5, adaptive=True) as norm:
        assert norm.item() == pytest.approx(5.0)
        assert model.w.tolist() == pytest.approx([1 + 0.5 * 3 / 5, -2 + 0.5 * 8 / 5])


@pytest.mark.parametrize("adaptive", [False, True])
def test_the_step_does_not_change_when_the_gradient_is_scaled(adaptive):
    places = []
    for scale in (1.0, 65536.0):
        model = with_gradients([1.0, -2.0], [3.0 * scale, 2.0 * scale])
        with perturbed(model, rho=0.5, adaptive=adaptive):
            places.append(model.w.tolist())
    assert places[0] == pytest.approx(places[1], rel=1e-6)


def test_weights_and_buffers_come_back_to_the_bit():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    model(torch.randn(2, 3, 5, 5)).sum().backward()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with perturbed(model, rho=0.1):
        assert not torch.equal(model[0].weight, before["0.weight"])
        model(torch.randn(2, 3, 5, 5))  # would move the running statistics
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_they_come_back_when_the_second_pass_fails():
    model = with_gradients([1.0], [1.0])
    with pytest.raises(RuntimeError, match="out of memory"), perturbed(model, rho=0.1):
        raise RuntimeError("out of memory")
    assert model.w.tolist() == [1.0]


def test_a_zero_gradient_moves_nothing():
    model = with_gradients([1.0, 2.0], [0.0, 0.0])
    with perturbed(model, rho=0.5):
        assert model.w.tolist() == [1.0, 2.0]


def test_an_overflowed_gradient_gives_weights_that_are_not_finite():
    model = with_gradients([1.0, 2.0], [float("inf"), 0.0])
    with perturbed(model, rho=0.5):
        assert not torch.isfinite(model.w).all()
    assert model.w.tolist() == [1.0, 2.0]
