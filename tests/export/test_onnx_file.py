from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from tasks.core.errors import ModelError
from tasks.export.onnx_file import export_onnx, parity
from tasks.export.runtime import open_session
from tasks.nn.heads import HEADS
from tests.export import toy


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Path:
    return toy.exported(tmp_path_factory.mktemp("plain"))


def outputs(path: Path, images_BHWC: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return tuple(open_session(path)[0].run(["scores", "decisions"], {"images": images_BHWC}))


@pytest.mark.parametrize("head", HEADS)
def test_every_head_scores_as_in_torch(tmp_path, head):
    model = toy.tagger(head)
    result = parity(toy.exported(tmp_path, model), model, toy.pixels(5), batch_size=3)
    assert result.max_score_difference < 1e-4
    assert result.unlike_decisions == 0
    assert result.num_images == 5


@pytest.mark.parametrize(("head", "backbone"), [("linear", "test_resnet"), ("ml_decoder", "test_vit")])
def test_a_timm_backbone_scores_as_in_torch(tmp_path, head, backbone):
    model = toy.tagger(head, backbone)
    assert parity(toy.exported(tmp_path, model), model, toy.pixels(3)).max_score_difference < 1e-4


def test_a_softmax_group_scores_as_in_torch(tmp_path):
    model = toy.tagger(groups=[[0, 1]])
    path = toy.exported(tmp_path, model)
    assert parity(path, model, toy.pixels()).max_score_difference < 1e-5
    scores_BC, _ = outputs(path, toy.pixels())
    np.testing.assert_allclose(scores_BC[:, :2].sum(1), 1, rtol=1e-5)


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_an_image_scores_the_same_in_any_batch(plain, batch):
    images = toy.pixels(7)
    np.testing.assert_allclose(outputs(plain, images[:batch])[0], outputs(plain, images)[0][:batch], atol=1e-6)


def test_a_label_scores_at_least_what_its_kinds_score(tmp_path):
    model, images = toy.tagger(), toy.pixels(40)
    with torch.inference_mode():
        own_BC = model.scores(model(torch.from_numpy(images.transpose(0, 3, 1, 2).copy()))).numpy()
    scores_BC, _ = outputs(toy.exported(tmp_path, model), images)
    np.testing.assert_allclose(scores_BC[:, 2], own_BC[:, :3].max(1), atol=1e-5)
    np.testing.assert_allclose(scores_BC[:, [0, 1, 3, 4]], own_BC[:, [0, 1, 3, 4]], atol=1e-5)
    assert (own_BC[:, :2].max(1) > own_BC[:, 2]).any(), "the case did not occur"


def test_decisions_are_those_of_the_scores_that_the_file_gives(plain):
    scores_BC, decisions_BC = outputs(plain, toy.pixels(40))
    assert np.array_equal(decisions_BC, scores_BC >= np.array(toy.manifest().thresholds))
    assert 0 < decisions_BC[:, :4].mean() < 1


def test_a_label_with_threshold_infinity_is_never_predicted(plain):
    assert not outputs(plain, toy.pixels(20))[1][:, 4].any()


def test_a_score_equal_to_its_threshold_is_present_and_one_just_below_is_not(tmp_path):
    model, images = toy.tagger(), toy.pixels(1)
    scores = outputs(toy.exported(tmp_path, model, implications=[]), images)[0][0].astype(float)
    at = toy.exported(tmp_path, model, thresholds=scores, implications=[])
    assert outputs(at, images)[1].all()
    # Between two single-precision numbers: rounding the threshold to the nearest would make it equal to the score.
    above = toy.exported(tmp_path, model, thresholds=scores * (1 + 1e-12), implications=[])
    assert not outputs(above, images)[1].any()


def test_one_file_carries_labels_thresholds_relations_preprocessing_and_provenance(plain):
    _, manifest = open_session(plain)
    assert manifest == toy.manifest()
    assert [entry.name for entry in plain.parent.iterdir()] == ["model.onnx"]


def test_the_file_is_valid_onnx_with_a_free_batch_axis(plain):
    model = onnx.load(plain)
    onnx.checker.check_model(model, full_check=True)
    assert [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim] == [0, *toy.IMAGE_PX, 3]
    assert [o.name for o in model.graph.output] == ["scores", "decisions"]


def test_the_file_names_no_path_of_the_machine_that_made_it(plain):
    content = plain.read_bytes()
    assert b"stack_trace" not in content
    assert os.fsencode(str(Path.cwd())) not in content
    assert b".py" not in content


def test_two_exports_of_the_same_model_are_the_same_bytes(plain, tmp_path):
    code = "import sys; from pathlib import Path; from tests.export import toy\ntoy.exported(Path(sys.argv[1]))"
    environment = {**os.environ, "PYTHONHASHSEED": "3"}
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, env=environment, capture_output=True)
    assert (tmp_path / "model.onnx").read_bytes() == plain.read_bytes()


def test_parity_notices_another_models_scores(plain):
    result = parity(plain, toy.tagger(seed=1), toy.pixels())
    assert result.max_score_difference > 0.01
    assert result.unlike_decisions > 0


def test_an_opset_that_cannot_express_the_network_names_one_that_can(tmp_path):
    with pytest.raises(ModelError, match=r"export\.opset: \d+ cannot express this network\. Set"):
        export_onnx(toy.tagger(), tmp_path / "model.onnx", toy.manifest(), opset=7)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", [b"", b"not onnx"])
def test_a_file_that_is_no_exported_model_is_refused_by_name(tmp_path, content):
    path = tmp_path / "other.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"other\.onnx: not an exported model"):
        open_session(path)


def test_an_onnx_file_of_somebody_else_is_refused(plain, tmp_path):
    model = onnx.load(plain)
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "bare.onnx")
    with pytest.raises(ModelError, match="its metadata has no 'format'"):
        open_session(tmp_path / "bare.onnx")


def test_a_flipped_bit_of_the_file_is_refused(plain, tmp_path):
    data = bytearray(plain.read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "flipped.onnx").write_bytes(data)
    with pytest.raises(ModelError, match="its checksum is broken"):
        open_session(tmp_path / "flipped.onnx")


def test_a_missing_file_says_how_to_make_it(tmp_path):
    with pytest.raises(ModelError, match=r"no such file\. Run `dvc repro export`"):
        open_session(tmp_path / "absent.onnx")
