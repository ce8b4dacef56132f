"""An object detector, as an ONNX file, beside the exported model; numpy and onnxruntime only.

It takes one RGB image of a fixed size, (pixel - mean) / std as float32 or the pixels themselves as uint8, with an axis
for a batch of one or without. It gives, duplicates already suppressed, either

    boxes, scores [N] and labels [N], or [1, N] each: torchvision, TensorFlow; other outputs are not looked at
    one output [1, N, 6] or [N, 6], a row a box: four corners, score, label; Ultralytics' `nms=True`, YOLOv10

Scores are in [0, 1], labels class indices, as integers or floats. A class scores what its best box scores, 0 without
one.

Axes: C labels, K those of them that the detector helps, H W pixels; leading axes are free where `…` stands.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnxruntime

from tasks.core.errors import ModelError
from tasks.export.manifest import Manifest
from tasks.nn.geometry import GREY, fit_to

SCORES, CLASSES = ("scores", "detection_scores"), ("labels", "classes", "detection_classes")
"""Names of the outputs."""

DTYPES = {"tensor(float)": np.float32, "tensor(uint8)": np.uint8}
SMALLEST, FLOOR = 1e-6, 0.01
"""The model's and the detector's scores are kept this far from 0 and 1; as in tasks/thresholds/fusion.py."""

Read = Callable[[str | bytes, int, int | None], np.ndarray]
"""(path or encoded bytes, short side in px, JPEG quality or None) -> uint8 (H, W, 3) as the shards hold it; raises with
the reason."""


class Detector:
    """Ready to look at one image at a time. Safe to call from several threads."""

    def __init__(
        self,
        path: Path,
        *,
        image_px: Sequence[int],
        resize: str,
        layout: str,
        mean: Sequence[float],
        std: Sequence[float],
        num_threads: int = 0,
    ) -> None:
        """image_px: (height, width).  resize: see nn.geometry.  layout: chw | hwc.  mean, std: of R, G, B in [0, 255].

        names: class index -> name, as far as the file says (`names` in its metadata).
        Raises ModelError where the file is none that the module's docstring describes.
        """
        self.path, self.image_px, self.resize, self.layout = path, tuple(image_px), resize, layout
        self.mean_C, self.std_C = np.asarray(mean, np.float32), np.asarray(std, np.float32)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = num_threads, 3
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's errors share no public base class
            raise ModelError(
                f"{path}: not an ONNX file ({str(error).splitlines()[0]}). Export the detector."
            ) from error
        self._outputs = [output.name for output in self._session.get_outputs()]
        self._check_input()
        self.names: dict[int, str] = _names_of(self._session.get_modelmeta().custom_metadata_map.get("names", "{}"))
        self(np.full((*self.image_px, 3), GREY, np.uint8))

    def look(self, source: str | bytes, read: Read, classes: Mapping[int, str]) -> dict[str, float]:
        """Label -> best score, of an image. classes: index -> label.  Raises what `read` raises."""
        best: dict[str, float] = {}
        for index, score in self(read(source, max(self.image_px), None)).items():
            if (label := classes.get(index)) is not None:
                best[label] = max(score, best.get(label, 0.0))
        return best

    def __call__(self, pixels_HWC: np.ndarray) -> dict[int, float]:
        """Class index -> best score of its boxes. pixels_HWC: uint8, of any size."""
        pixels_HWC = fit_to(pixels_HWC, self.image_px, self.resize)
        values = pixels_HWC if self._dtype == np.uint8 else (pixels_HWC - self.mean_C) / self.std_C
        values = values.transpose(2, 0, 1) if self.layout == "chw" else values
        feed = {self._input: np.ascontiguousarray(values[None] if self._batched else values)}
        try:
            results = self._session.run(self._outputs, feed)
        except Exception as error:
            raise ModelError(f"{self.path}: it failed on an image ({str(error).splitlines()[0]}).") from error
        outputs = dict(zip(self._outputs, map(np.asarray, results), strict=True))
        boxes = boxes_of(outputs)
        if boxes is None:
            shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in outputs.items())
            raise ModelError(
                f"{self.path}: gives {shapes}. Expected boxes, scores [N] in [0, 1] and labels [N] (whole numbers), or "
                "one output [1, N, 6], for one image. Export the detector with its non-maximum suppression."
            )
        scores_N, classes_N = boxes
        return {int(c): float(scores_N[classes_N == c].max()) for c in np.unique(classes_N)}

    def _check_input(self) -> None:
        inputs = self._session.get_inputs()
        shape = [*self.image_px, 3] if self.layout == "hwc" else [3, *self.image_px]
        taken = ", ".join(f"{one.name} {one.type} {one.shape}" for one in inputs)
        dims = inputs[0].shape
        wanted = [1, *shape] if len(dims) == 4 else shape
        fits = len(inputs) == 1 and inputs[0].type in DTYPES and len(dims) == len(wanted)
        if not fits or any(isinstance(d, int) and d != w for d, w in zip(dims, wanted, strict=True)):
            raise ModelError(
                f"{self.path}: takes {taken}. Expected one input, float or uint8, of {shape} or {[1, *shape]}, by "
                "image_px and layout of export.detector. Change those, or export the detector so."
            )
        self._input, self._dtype, self._batched = inputs[0].name, DTYPES[inputs[0].type], len(dims) == 4
        if self._dtype == np.uint8 and (self.mean_C.any() or (self.std_C != 1).any()):
            raise ModelError(f"{self.path}: takes uint8. Set mean: [0, 0, 0] and std: [1, 1, 1] in export.detector.")


def boxes_of(outputs: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray] | None:
    """Scores (N,) and class indices (N,) of one image; None where the outputs have neither form."""
    if len(outputs) == 1:
        (rows,) = outputs.values()
        if rows.shape[-1:] != (6,) or rows.shape[:-2] not in ((), (1,)):
            return None
        scores, classes = rows.reshape(-1, 6)[:, 4], rows.reshape(-1, 6)[:, 5]
    else:
        scores, classes = (next((outputs[n] for n in names if n in outputs), None) for names in (SCORES, CLASSES))
        if scores is None or classes is None or scores.shape != classes.shape or scores.shape[:-1] not in ((), (1,)):
            return None
    scores_N, classes_N = scores.ravel(), classes.ravel()
    sound = ((scores_N >= 0) & (scores_N <= 1 + SMALLEST)).all() and (classes_N == np.round(classes_N)).all()
    return (scores_N, classes_N) if sound else None


def _names_of(text: str) -> dict[int, str]:
    try:
        return {int(index): str(name) for index, name in ast.literal_eval(text).items()}
    except (ValueError, SyntaxError, AttributeError):  # another program's idea of `names`
        return {}


class BesideModel:
    """The detector of an exported model, and the fitted rule by which its scores join the model's."""

    def __init__(self, model_path: Path, manifest: Manifest, *, num_threads: int = 0) -> None:
        """Raises ModelError when the detector is not there, or is another one than the model was exported with."""
        entry, folder = manifest.detector, Path(model_path).parent
        name = Path(entry["file"]).name
        path = next((p for p in (folder / name, folder / entry["file"]) if p.is_file()), None)
        if path is None:
            raise ModelError(f"{folder / name}: no such file; {model_path} was exported with it. Copy it there.")
        with open(path, "rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != entry["sha256"]:
                raise ModelError(f"{path}: not the detector that {model_path} was exported with. Copy that one there.")
        self.detector = Detector(path, **entry["input"], num_threads=num_threads)
        self._classes = {int(index): label for index, label in entry["classes"].items()}
        self._column = {label: c for c, label in enumerate(manifest.labels)}
        self.columns = [self._column[label] for label in entry["labels"]]
        rules = list(entry["labels"].values())
        self._model_K, self._detector_K, self._intercept_K = (
            np.array([rule[key] for rule in rules]) for key in ("model", "detector", "intercept")
        )
        self.thresholds_K = np.array([np.inf if r["threshold"] is None else r["threshold"] for r in rules])

    def look(self, source: str | bytes, read: Read) -> np.ndarray:
        """The detector's score of each label, float64 (C,), 0 where it found nothing. Raises what `read` raises."""
        detected_C = np.zeros(len(self._column))
        for label, score in self.detector.look(source, read, self._classes).items():
            detected_C[self._column[label]] = score
        return detected_C

    def joined(self, scores: np.ndarray, decisions: np.ndarray, detected: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Scores and decisions (…, C) with the detector where a label has a rule, as they are elsewhere; copies.

        sigmoid(model x logit(score) + detector x logit(detector's score) + intercept).
        """
        scores, decisions, K = scores.copy(), decisions.copy(), self.columns
        z = self._model_K * _logit(scores[..., K], SMALLEST) + self._detector_K * _logit(detected[..., K], FLOOR)
        scores[..., K] = 1 / (1 + np.exp(-(z + self._intercept_K)))
        decisions[..., K] = scores[..., K] >= self.thresholds_K
        return scores, decisions


def _logit(scores: np.ndarray, smallest: float) -> np.ndarray:
    clipped = np.clip(scores.astype(np.float64), smallest, 1 - smallest)
    return np.log(clipped) - np.log1p(-clipped)
