from __future__ import annotations

import numpy as np
import onnx
import pytest

from tasks.core.errors import ModelError
from tasks.export.int8 import quantise
from tasks.export.runtime import Predictor, open_session
from tests.export import toy


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """An exported file and its quantised twin."""
    path = toy.exported(tmp_path_factory.mktemp("model"))
    quantise(path, path.with_name("int8.onnx"), toy.pixels(40))
    return path, path.with_name("int8.onnx")


def test_images_score_nearly_the_same_in_8_bits(files):
    (full_BC, _), (int8_BC, _) = (Predictor(path)(toy.pixels(30, seed=1)) for path in files)
    assert 0 < np.abs(full_BC - int8_BC).max() < 0.1


def test_the_network_is_8_bit_and_the_last_layer_is_not(files):
    nodes = onnx.load(files[1]).graph.node
    made_by = {output: node for node in nodes for output in node.output}
    convolutions = [node for node in nodes if node.op_type == "Conv"]
    assert len(convolutions) == 2  # the normalisation and the network's own
    assert {made_by[name].op_type for node in convolutions for name in node.input} == {"DequantizeLinear"}
    (last,) = (node for node in nodes if node.op_type == "Gemm")
    assert not {made_by[name].op_type for name in last.input[1:] if name in made_by}


def test_the_manifest_is_kept_and_says_that_it_is_8_bit(files):
    full, int8 = (open_session(path)[1] for path in files)
    assert int8.provenance == {**full.provenance, "precision": "int8"}
    assert (int8.labels, int8.thresholds, int8.preprocessing) == (full.labels, full.thresholds, full.preprocessing)


def test_any_batch_size_passes(files):
    predictor = Predictor(files[1])
    assert [len(predictor(toy.pixels(n))[0]) for n in (1, 5)] == [1, 5]


def test_what_is_no_exported_model_is_refused(tmp_path):
    with pytest.raises(ModelError, match="no such file"):
        quantise(tmp_path / "absent.onnx", tmp_path / "out.onnx", toy.pixels(2))
    assert not list(tmp_path.iterdir())
