from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from tasks.core.errors import ModelError
from tasks.export.openvino_ir import write_ir
from tasks.export.runtime import Predictor, predict_files
from tasks.images.stored_pixels import stored_pixels
from tests.export import toy
from tests.images import pictures


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """An exported file and its OpenVINO form."""
    pytest.importorskip("openvino", reason="needs the extra `openvino`")
    path = toy.exported(tmp_path_factory.mktemp("model"), toy.tagger("ml_decoder"))
    write_ir(path, path.with_suffix(".xml"))
    return path, path.with_suffix(".xml")


def test_images_score_as_in_the_exported_file_in_any_batch(files):
    full, ir = map(Predictor, files)
    for num_images in (1, 7):
        (wanted_BC, decided_BC), (scores_BC, decisions_BC) = (p(toy.pixels(num_images)) for p in (full, ir))
        np.testing.assert_allclose(scores_BC, wanted_BC, atol=1e-4)
        assert np.array_equal(decisions_BC, decided_BC)
        assert (scores_BC.dtype, decisions_BC.dtype) == (np.float32, np.bool_)


def test_the_manifest_comes_along(files):
    assert Predictor(files[1]).manifest == Predictor(files[0]).manifest


def test_files_are_predicted_with_it(files, tmp_path):
    (tmp_path / "a.jpg").write_bytes(pictures.encode(pictures.scene(90, 70), "JPEG"))
    full, ir = (list(predict_files(path, [tmp_path / "a.jpg"], read=stored_pixels)) for path in files)
    assert ir[0]["labels"] == pytest.approx(full[0]["labels"], abs=1e-4)


def test_the_bytes_are_the_same_twice_and_nothing_else_is_left(files, tmp_path):
    write_ir(files[0], tmp_path / "again.xml")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["again.bin", "again.xml"]
    for suffix in (".xml", ".bin"):
        assert (tmp_path / "again.xml").with_suffix(suffix).read_bytes() == files[1].with_suffix(suffix).read_bytes()


def test_what_is_no_exported_model_is_refused(files, tmp_path):
    (tmp_path / "other.xml").write_text("<net/>")
    with pytest.raises(ModelError, match=r"other\.xml: OpenVINO cannot read it"):
        Predictor(tmp_path / "other.xml")
    with pytest.raises(ModelError, match=r"absent\.onnx: OpenVINO cannot read it"):
        write_ir(tmp_path / "absent.onnx", tmp_path / "out.xml")


def test_somebody_elses_network_is_refused(files, tmp_path):
    openvino = pytest.importorskip("openvino")
    parameter = openvino.opset13.parameter([1], np.float32)
    openvino.save_model(openvino.Model([openvino.opset13.relu(parameter)], [parameter]), tmp_path / "bare.xml")
    with pytest.raises(ModelError, match=r"bare\.xml: not an exported model \(its metadata has no 'format'\)"):
        Predictor(tmp_path / "bare.xml")


def test_without_the_extra_one_line_says_how_to_get_it(tmp_path):
    code = (
        "import sys; sys.modules['openvino'] = None\n"
        "from pathlib import Path\n"
        "from tasks.core.errors import ModelError\n"
        "from tasks.export.openvino_ir import write_ir\n"
        "try: write_ir(Path('a.onnx'), Path('a.xml'))\n"
        "except ModelError as error: print(error)"
    )
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert (
        run.stdout.strip() == "openvino is not installed. `pip install .[openvino]`, or take it out of export.variants."
    )
