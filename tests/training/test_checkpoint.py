import numpy as np
import pytest
import torch

from tasks.training import OPTIMIZERS, checkpoint
from tasks.training.optim import parameter_groups
from tests.training import toy


def test_tensors_and_state_come_back_whatever_their_memory(tmp_path):
    shared = torch.arange(6.0)
    parts = {
        "model": {"a": shared, "b": shared[2:4], "nhwc": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)},
        "loss": {},
        "ema": {"count": torch.tensor(3)},
    }
    state = {"x": 0.1, "bar": -float("inf"), "rows": [{"loss": 1 / 3}]}
    checkpoint.write(tmp_path / "c.safetensors", parts, state)
    back = checkpoint.read(tmp_path / "c.safetensors")
    assert back.state == state
    for part, tensors in parts.items():
        assert back.part(part).keys() == tensors.keys()
        assert all(torch.equal(back.part(part)[k], v) for k, v in tensors.items())


def test_a_checkpoint_is_no_pickle(tmp_path):
    path = tmp_path / "c.safetensors"
    checkpoint.write(path, {"model": {"a": torch.ones(2)}}, {"x": 1})
    content = path.read_bytes()
    assert content[8:9] == b"{"  # safetensors: the length of the header, then JSON
    assert b"cos\n" not in content
    assert b"torch._utils" not in content


def test_a_flipped_bit_makes_a_checkpoint_none(tmp_path, caplog):
    path = tmp_path / "c.safetensors"
    checkpoint.write(path, {"model": {"a": torch.ones(2)}}, {"x": 1})
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert checkpoint.read(path) is None
    assert "checksum broken" in caplog.text


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "c.safetensors"
    checkpoint.write(path, {"model": {"a": torch.ones(2)}}, {"x": 1})
    with pytest.raises(TypeError):
        checkpoint.write(path, {"model": {"a": torch.zeros(2)}}, {"x": object()})
    assert checkpoint.read(path).state == {"x": 1}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_an_optimizer_continues_bit_for_bit(name, memory_format):
    def prepared():
        model = toy.tagger().to(memory_format=memory_format)
        return model, OPTIMIZERS[name](parameter_groups(model, lr=0.1, weight_decay=0.01, no_bias_decay=True))

    def step(model, optimizer, i):
        torch.manual_seed(i)
        for group in optimizer.param_groups:
            group["lr"] = 0.1
        optimizer.zero_grad()
        model(torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8)).square().sum().backward()
        optimizer.step()

    full, theirs = prepared()
    for i in range(2):
        step(full, theirs, i)
    resumed, ours = prepared()
    resumed.load_state_dict(full.state_dict())
    tensors = {
        k: v.clone(memory_format=torch.contiguous_format) for k, v in checkpoint.optimizer_tensors(theirs).items()
    }
    checkpoint.restore_optimizer(ours, tensors)
    step(full, theirs, 2)
    step(resumed, ours, 2)
    for key, value in full.state_dict().items():
        assert torch.equal(resumed.state_dict()[key], value), key


def test_fingerprints_follow_the_values():
    array, tensor = np.arange(3), torch.ones(2, 2)
    same = checkpoint.fingerprint("a", array, tensor)
    assert same == checkpoint.fingerprint("a", array.copy(), tensor.clone())
    assert same != checkpoint.fingerprint("a", array + 1, tensor)
    assert same != checkpoint.fingerprint("a", array, tensor * 2)
    assert checkpoint.fingerprint("ab", "c") != checkpoint.fingerprint("a", "bc")
    assert checkpoint.fingerprint(torch.ones(2, dtype=torch.bfloat16), torch.tensor(True))
