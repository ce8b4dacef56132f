from __future__ import annotations

import numpy as np
import onnx
import pytest

from tasks.core.errors import ModelError
from tasks.export.fp16 import halve
from tasks.export.runtime import Predictor, open_session
from tests.export import toy


@pytest.fixture(scope="module", params=["linear", "query2label"])
def files(request, tmp_path_factory):
    """An exported file and its half-precision twin."""
    path = toy.exported(tmp_path_factory.mktemp("model"), toy.tagger(request.param))
    halve(path, path.with_name("fp16.onnx"))
    return path, path.with_name("fp16.onnx")


def test_images_score_nearly_the_same_in_halves(files):
    (full_BC, _), (half_BC, _) = (Predictor(path)(toy.pixels(30, seed=1)) for path in files)
    assert half_BC.dtype == np.float32
    assert 0 < np.abs(full_BC - half_BC).max() < 0.02


def test_weights_are_halves_up_to_the_last_layer_and_scores_are_single_all_the_way(files):
    model = onnx.load(files[1])
    onnx.checker.check_model(model, full_check=True)
    types = {w.name: w.data_type for w in model.graph.initializer}
    assert onnx.TensorProto.FLOAT16 in types.values()
    singles = {name for name, type_ in types.items() if type_ == onnx.TensorProto.FLOAT}
    assert singles
    assert all(name.endswith("_fp32") for name in singles)
    assert len(files[1].read_bytes()) < len(files[0].read_bytes())


def test_scores_are_not_rounded_to_halves(files):
    scores_BC, _ = Predictor(files[1])(toy.pixels(30))
    assert (scores_BC != scores_BC.astype(np.float16)).mean() > 0.5


def test_the_manifest_is_kept_and_says_that_it_is_in_halves(files):
    full, half = (open_session(path)[1] for path in files)
    assert half.provenance == {**full.provenance, "precision": "fp16"}
    assert (half.labels, half.thresholds, half.preprocessing) == (full.labels, full.thresholds, full.preprocessing)


def test_any_batch_size_passes_and_the_bytes_are_the_same_twice(files, tmp_path):
    assert [len(Predictor(files[1])(toy.pixels(n))[0]) for n in (1, 5)] == [1, 5]
    halve(files[0], tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == files[1].read_bytes()


def test_what_is_no_exported_model_is_refused(tmp_path):
    with pytest.raises(ModelError, match="no such file"):
        halve(tmp_path / "absent.onnx", tmp_path / "out.onnx")
    assert not list(tmp_path.iterdir())
