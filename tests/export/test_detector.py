"""A detector beside the exported model: what it may be, and that the fused scores are those of the pipeline."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx.parser
import pytest
from starlette.testclient import TestClient

from tasks.commands.detect import detect_as_exported
from tasks.core.errors import ModelError
from tasks.core.states import scores_of
from tasks.export.detector import Detector
from tasks.export.detector_files import read_classes, ship_detector
from tasks.export.runtime import Predictor, open_session, predict_files
from tasks.export.service import create_app
from tasks.images.stored_pixels import stored_pixels
from tasks.params import Params, parse_params
from tasks.sources import predictions
from tasks.stages import export
from tasks.thresholds.document import read_thresholds
from tests.export.test_stage import LABELS, saved_params

TAKES = {"image_px": [8, 8], "resize": "stretch", "layout": "chw", "mean": [0, 0, 0], "std": [255, 255, 255]}
FUSION = {  # cat is red or green, whichever is more, and 犬 blue
    "cat": {"origin": "detector:hue", "model": 0.8, "detector": 1.3, "intercept": -0.2, "threshold": 0.55},
    "犬": {"origin": "detector:hue", "model": 1.1, "detector": 0.0, "intercept": 0.4, "threshold": None},
    "animal": {"origin": "vendor:other", "model": 1.0, "detector": 9.0, "intercept": 5.0, "threshold": 0.1},
}


FORMS = {  # outputs, and how they come of `means`, the mean red, green and blue
    "torchvision": (
        "float[n, 4] boxes, int64[n] labels, float[n] scores",
        "shape = Constant<value_ints = [3]>() scores = Reshape(means, shape)"
        "labels = Constant<value_ints = [0, 1, 2]>()"
        "size = Constant<value_ints = [3, 4]>() boxes = ConstantOfShape(size)",
    ),
    "tensorflow": (
        "float[1, n] detection_classes, float[1, n] detection_scores",
        "shape = Constant<value_ints = [1, 3]>() detection_scores = Reshape(means, shape)"
        "classes = Constant<value_floats = [0.0, 1.0, 2.0]>() detection_classes = Reshape(classes, shape)",
    ),
    "rows": (
        "float[1, n, 6] output0",
        "shape = Constant<value_ints = [1, 3, 1]>() scores = Reshape(means, shape)"
        "classes = Constant<value_floats = [0.0, 1.0, 2.0]>() labels = Reshape(classes, shape)"
        "size = Constant<value_ints = [1, 3, 4]>() corners = ConstantOfShape(size)"
        "output0 = Concat<axis = 2>(corners, scores, labels)",
    ),
    "unnamed": (
        "float[n] out_1, int64[n] out_2",
        "shape = Constant<value_ints = [3]>() out_1 = Reshape(means, shape) out_2 = Constant<value_ints = [0, 1, 2]>()",
    ),
    "no suppression": (
        "float[1, m, n] output0",
        "size = Constant<value_ints = [1, 84, 8400]>() output0 = ConstantOfShape(size)",
    ),
}


def hues(
    path: Path, form: str = "torchvision", takes: str = "float[1, 3, 8, 8]", scale: float = 1.0, names: str = ""
) -> Path:
    """A "detector" with one box for each of red, green and blue, whose score is the image's mean of that colour."""
    dims = takes.partition("[")[2].rstrip("]").split(", ")
    axes = [axis for axis, size in enumerate(dims) if size == "8"]
    outputs, nodes = FORMS[form]
    model = onnx.parser.parse_model(f"""<ir_version: 9, opset_import: ["": 18]>
        hues ({takes} image) => ({outputs}) {{
            values = Cast<to = 1>(image)
            axes = Constant<value_ints = {axes}>()
            raw = ReduceMean<keepdims = 0>(values, axes)
            scale = Constant<value_float = {scale:.8f}>()
            means = Mul(raw, scale)
            {nodes}
        }}""")
    if names:
        onnx.helper.set_model_props(model, {"names": names})
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    return path


def home(folder: Path, *, classes: str = "{0: cat, 1: cat, 2: 犬}", fusion: dict = FUSION) -> Params:
    """What the stage reads, a fitted fusion among it, with the detector and its class map."""
    folder.mkdir(exist_ok=True)
    raw = saved_params(folder, thresholds=(0.4, 0.3, 0.6)).model_dump(mode="json")
    params = parse_params(raw | {"export": raw["export"] | {"detector": {"origin": "detector:hue", **TAKES}}})
    document = json.loads(params.paths.thresholds.read_text(encoding="utf-8")) | {"fusion": fusion}
    params.paths.thresholds.write_text(json.dumps(document), encoding="utf-8")
    hues(params.paths.detector / "detector.onnx")
    (params.paths.detector / "classes.yaml").write_text(classes, encoding="utf-8")
    return params


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Params:
    params = home(tmp_path_factory.mktemp("run"))
    export.run(params)
    return params


def photos(params: Params) -> list[Path]:
    return sorted(params.paths.exported.parent.glob("?.png"))


def test_predicted_scores_are_those_that_the_pipeline_fuses_from_the_two_tables(exported, tmp_path):
    """The detector's table by `detect`, through the reader of predictions; the model's scores by the file alone."""
    files, table = photos(exported), tmp_path / "hue.parquet"
    assert detect_as_exported(exported, map(str, files), table) == len(files) == 8
    rows = predictions.read("hue", table, of="s", origin="detector:hue").labels
    detector_NC = scores_of(rows, [f"s/{file.name}" for file in files], LABELS)
    assert (detector_NC[:, [0, 2]] > 0).all()
    assert not detector_NC[:, 1].any()
    model = Predictor(exported.paths.exported)
    scores_NC, decisions_NC = model(np.stack([model.network_pixels(str(file), stored_pixels) for file in files]))
    saved = read_thresholds(exported.paths.thresholds, LABELS)
    saved = replace(saved, fusion={c: fused for c, fused in saved.fusion.items() if fused.origin == "detector:hue"})
    fused_NC, thresholds_C = saved.fused(scores_NC, detector_NC)
    assert np.abs(fused_NC[:, 0] - scores_NC[:, 0]).max() > 0.01

    seen = [model.look(str(file), stored_pixels).detected_C for file in files]
    joined_NC, joined_decisions_NC = model.detector.joined(scores_NC, decisions_NC, np.stack(seen))
    np.testing.assert_allclose(joined_NC, fused_NC, atol=1e-5)
    np.testing.assert_array_equal(joined_decisions_NC, fused_NC >= thresholds_C)
    for n, entry in enumerate(predict_files(exported.paths.exported, files, read=stored_pixels)):
        wanted = {LABELS[c]: fused_NC[n, c] for c in range(3) if fused_NC[n, c] >= thresholds_C[c]}
        assert entry["labels"] == pytest.approx(wanted, abs=1e-5)


def test_the_service_answers_as_the_command_and_names_the_thresholds_of_the_fused_scores(exported):
    (file, *_), model = photos(exported), exported.paths.exported
    (entry,) = predict_files(model, [file], read=stored_pixels)
    with TestClient(create_app(Predictor(model), read=stored_pixels)) as client:
        assert client.post("/predict", content=file.read_bytes()).json()["predictions"][0]["labels"] == entry["labels"]
        assert [row["threshold"] for row in client.get("/labels").json()] == [0.55, 0.3, None]


def test_report_and_ledger_name_the_detector(exported):
    report = json.loads(exported.paths.export_report.read_text(encoding="utf-8"))["detector"]
    assert list(report["labels"]) == ["cat", "犬"]
    ledger = (exported.paths.ledger / "export.json").read_text(encoding="utf-8")
    assert "detector:hue in variants/detector.onnx is blended with the model's scores of cat, 犬" in ledger


def test_a_detector_that_is_not_asked_for_any_more_goes_and_the_graph_is_the_same(exported, tmp_path):
    shutil.copytree(exported.paths.exported.parent, tmp_path, dirs_exist_ok=True)
    raw = exported.model_dump(mode="json")
    raw["paths"] = {name: str(tmp_path / Path(path).name) for name, path in raw["paths"].items()}
    alone = parse_params(raw | {"export": raw["export"] | {"detector": None}})
    export.run(alone)
    assert not list(alone.paths.variants.iterdir())
    assert open_session(alone.paths.exported)[1].detector is None
    assert "detector" not in json.loads(alone.paths.export_report.read_text(encoding="utf-8"))
    assert onnx.load(alone.paths.exported).graph == onnx.load(exported.paths.exported).graph


def test_the_two_files_move_together_and_another_detector_is_refused(exported, tmp_path):
    model = shutil.copy(exported.paths.exported, tmp_path / "m.onnx")
    with pytest.raises(ModelError, match=r"detector\.onnx: no such file; .*m\.onnx was exported with it"):
        Predictor(model)
    shutil.copy(exported.paths.variants / "detector.onnx", tmp_path)
    files = photos(exported)
    here, there = (list(predict_files(path, files, read=stored_pixels)) for path in (model, exported.paths.exported))
    assert here == there
    hues(tmp_path / "detector.onnx", scale=0.5)
    with pytest.raises(ModelError, match=r"not the detector that .*m\.onnx was exported with"):
        Predictor(model)


# ---------------------------------------------------------------- what a detector may be

GREY = np.full((8, 8, 3), (51, 102, 204), np.uint8)
AS_BYTES = {"mean": [0, 0, 0], "std": [1, 1, 1], "layout": "hwc"}


@pytest.mark.parametrize(
    ("made", "takes"),
    [
        ({}, {}),
        ({"takes": "float[3, 8, 8]"}, {}),
        ({"form": "tensorflow", "takes": "uint8[1, 8, 8, 3]", "scale": 1 / 255}, AS_BYTES),
        ({"form": "rows", "takes": "float[n, 3, 8, 8]"}, {}),
    ],
    ids=["torchvision", "torchvision without batch", "tensorflow", "rows of six"],
)
def test_each_form_of_outputs_is_read(tmp_path, made, takes):
    detector = Detector(hues(tmp_path / "d.onnx", **made), **TAKES | takes)
    assert detector(GREY) == pytest.approx({0: 0.2, 1: 0.4, 2: 0.8}, abs=1e-6)
    assert detector.look("x", lambda *_: GREY, {0: "a", 2: "a"}) == pytest.approx({"a": 0.8})


@pytest.mark.parametrize(
    ("made", "takes", "message"),
    [
        ({"form": "unnamed"}, {}, r"gives out_1 \[3\], out_2 \[3\]\. Expected boxes, scores \[N\]"),
        ({"form": "no suppression"}, {}, r"gives output0 \[1, 84, 8400\]\. Expected .* non-maximum suppression"),
        ({"scale": 9.0}, {}, r"Expected boxes, scores \[N\] in \[0, 1\]"),
        ({}, {"image_px": [9, 8]}, r"takes image tensor\(float\) \[1, 3, 8, 8\]\. Expected .* \[1, 3, 9, 8\]"),
        ({}, {"layout": "hwc"}, r"Expected one input, float or uint8, of \[8, 8, 3\]"),
        ({"takes": "double[1, 3, 8, 8]"}, {}, r"takes image tensor\(double\)"),
        ({"takes": "uint8[1, 3, 8, 8]"}, {}, r"takes uint8\. Set mean: \[0, 0, 0\] and std: \[1, 1, 1\]"),
    ],
)
def test_another_form_is_refused_with_what_it_has_and_what_is_right(tmp_path, made, takes, message):
    with pytest.raises(ModelError, match=message) as refused:
        Detector(hues(tmp_path / "d.onnx", **made), **TAKES | takes)
    assert "\n" not in str(refused.value)


def test_what_is_no_onnx_file_and_what_is_not_there_are_one_line(tmp_path):
    (tmp_path / "d.onnx").write_text("weights")
    with pytest.raises(ModelError, match=r"d\.onnx: not an ONNX file"):
        Detector(tmp_path / "d.onnx", **TAKES)
    params = home(tmp_path)
    (params.paths.detector / "detector.onnx").unlink()
    with pytest.raises(ModelError, match=r"detector\.onnx: no such file\. Put the detector there"):
        export.run(params)


# ---------------------------------------------------------------- its classes, and the fitted rule


def test_classes_are_indices_or_the_names_in_the_detectors_own_file(tmp_path):
    detector = Detector(hues(tmp_path / "d.onnx", names="{0: 'red', 1: 'green', 2: 'blue'}"), **TAKES)
    (tmp_path / "c.yaml").write_text('{"red": "cat", 2: "犬"}', encoding="utf-8")
    assert read_classes(tmp_path / "c.yaml", detector.names, LABELS) == {0: "cat", 2: "犬"}


@pytest.mark.parametrize(
    ("text", "names", "message"),
    [
        ("{}", {}, r"found \{\}\. Expected a mapping of the detector's classes to labels"),
        ("[cat]", {}, r"found \['cat'\]"),
        ("{0: cats}", {}, r"the model has no label 'cats'\. Did you mean 'cat'"),
        ("{red: cat}", {}, r"the detector has no class 'red'\. Its file names none: write indices"),
        ("{rad: cat}", {0: "red"}, r"the detector has no class 'rad'\. Did you mean 'red'"),
        ("{7: cat}", {0: "red"}, r"the detector has no class '7'"),
        ("{0: cat", {}, r"not a readable YAML file"),
    ],
)
def test_a_class_map_that_fits_neither_side_is_one_line(tmp_path, text, names, message):
    (tmp_path / "c.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ModelError, match=message) as refused:
        read_classes(tmp_path / "c.yaml", names, LABELS)
    assert "\n" not in str(refused.value)


def test_a_label_that_the_taxonomy_fuses_needs_a_class_and_some_label_must_be_fused(tmp_path):
    with pytest.raises(
        ModelError, match=r"classes\.yaml: no class of '犬', which the taxonomy fuses with detector:hue"
    ):
        export.run(home(tmp_path / "a", classes="{0: cat}"))
    with pytest.raises(
        ModelError, match=r"thresholds\.json blends no label with detector:hue\. Write `fuse: detector:hue`"
    ):
        export.run(home(tmp_path / "b", fusion={"animal": FUSION["animal"]}))


def test_a_class_of_a_label_without_a_rule_changes_nothing(tmp_path):
    (tmp_path / "classes.yaml").write_text("{0: cat, 1: animal, 2: 犬}", encoding="utf-8")
    hues(tmp_path / "detector.onnx")
    settings = {"origin": "detector:hue", **TAKES}
    shipped = ship_detector(settings, tmp_path, tmp_path / "out", tmp_path / "m.onnx", labels=LABELS, rules=FUSION)
    assert shipped["classes"] == {"0": "cat", "2": "犬"}
    assert list(shipped["labels"]) == ["cat", "犬"]
