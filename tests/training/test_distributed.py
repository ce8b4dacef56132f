"""One process and two gloo processes, of one machine or of two, with the same global batch."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from tasks.core.errors import ModelError
from tasks.training import checkpoint
from tasks.training.distributed import World, default_device, synchronise_batchnorm
from tests.training import processes, toy_run

SAM = {"enabled": True, "rho": 0.05, "adaptive": False}
CASES = {
    "plain": {},
    "batchnorm-sam": {"sam": SAM},
    "asam-clip-accumulate": {"sam": {**SAM, "adaptive": True}, "clip_grad_norm": 0.3, "accumulate": 2, "batch_size": 6},
    "sum": {"loss_options": {"reduction": "sum"}, "lr": 0.05},
    **{
        name: {"semi": {name: options}, "lr": 0.05, "accumulate": 2, "batch_size": 6}
        for name, options in {
            "barlow_twins": {"projection_dim": 8},
            "sesemi": {"ratio": 0.5},
            "pseudo_labels": {},
            "cap": {"warmup_epochs": 1},
        }.items()
    },
    "batch": {"loss_options": {"reduction": "batch"}, "optimizer": {"name": "adamw"}, "lr": 0.01},
}
GATHERS = {"loss": "selective", "epochs": 2}
TOLERANCE = 1e-5
"""Of losses and weights: float32 sums taken in another order over three epochs."""


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    out = tmp_path_factory.mktemp("two")
    assert processes.start(processes.TORCHRUN, out, {**CASES, "gathers": GATHERS}).wait(timeout=300) == 0, (
        out / "log"
    ).read_text()
    return out


def equal_curves_and_weights(case: str, together: Path, alone: Path) -> None:
    """The run of several processes in `together` beside that of one process, made in `alone`."""
    result, last = toy_run.run(alone, CASES[case])
    for ours, theirs in zip(result.history, json.loads((together / case / "history.json").read_text()), strict=True):
        assert theirs == pytest.approx(ours, abs=TOLERANCE)
    for name, weights in load_file(together / case / "last.safetensors").items():
        torch.testing.assert_close(weights, last[name], atol=TOLERANCE, rtol=0, msg=name)


@pytest.mark.parametrize("case", CASES)
def test_one_and_two_processes_have_the_same_curve_and_weights(case, two_processes, tmp_path):
    equal_curves_and_weights(case, two_processes, tmp_path)


def test_two_machines_have_the_curve_and_weights_of_one_process(tmp_path):
    machines = processes.start_two_machines(tmp_path / "two", {"plain": CASES["plain"]})
    assert [machine.wait(timeout=300) for machine in machines] == [0, 0], (tmp_path / "two/log").read_text()
    equal_curves_and_weights("plain", tmp_path / "two", tmp_path / "one")


def test_what_a_loss_has_gathered_is_of_all_processes_in_the_checkpoint_that_all_resume_from(two_processes):
    saved = checkpoint.read(two_processes / "gathers/checkpoints" / checkpoint.LATEST).part("loss")
    assert saved["num_images"] == 13
    assert torch.all(saved["probability_sum_C"] < 13)


def test_synchronised_batchnorm_keeps_the_activation_of_a_fused_layer_and_the_names():
    class NormAct(nn.BatchNorm2d):
        def __init__(self, width):
            super().__init__(width)
            self.drop, self.act = nn.Identity(), nn.ReLU()

        def forward(self, x):
            return self.act(self.drop(super().forward(x)))

    model = nn.Sequential(nn.Conv2d(3, 4, 1), NormAct(4), nn.Flatten(), nn.BatchNorm1d(4 * 4)).eval()
    images, names = torch.randn(5, 3, 2, 2), list(model.state_dict())
    before = model(images)
    synchronise_batchnorm(model, torch.device("cpu"))
    assert list(model.state_dict()) == names
    torch.testing.assert_close(model(images), before)


def test_the_device_can_be_chosen_and_a_wrong_one_is_one_clear_line(monkeypatch):
    monkeypatch.setenv("TAGWRIGHT_DEVICE", "cpu")
    assert default_device() == torch.device("cpu")
    monkeypatch.setenv("TAGWRIGHT_DEVICE", "cdua")
    with pytest.raises(ModelError, match="TAGWRIGHT_DEVICE: 'cdua' cannot be used here"):
        default_device()


def test_a_world_of_one_communicates_with_nobody():
    world = World()
    assert world.is_main
    assert world.sum(torch.tensor([1.0, 2.0])).tolist() == [1.0, 2.0]
    world.barrier()
