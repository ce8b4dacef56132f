"""A Tagger as one ONNX file: pixels in, scores and decisions out, and everything a reader must know in its metadata.

    images     uint8 (B, H, W, 3), RGB of the size in `preprocessing`; any B
    scores     float32 (B, C) in [0, 1]; a label scores at least what its children score
    decisions  bool (B, C): that score reaches the label's threshold

Axes: B images, C labels, H W pixels, P parents, K a parent and its descendants.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tasks.core.atomic_files import atomic_path
from tasks.core.errors import ModelError
from tasks.core.seals import seal
from tasks.export.manifest import Manifest
from tasks.export.probabilities import Calibrated, calibrated
from tasks.export.runtime import open_session
from tasks.nn.model import Tagger

INPUT, OUTPUTS = "images", ("scores", "decisions")


class _Exported(nn.Module):
    """What becomes the graph."""

    def __init__(self, model: Tagger, manifest: Manifest) -> None:
        super().__init__()
        self.model = model
        # Scaling as a convolution of each channel by itself: subtraction and division would stay in single precision in
        # a quantised file, and took a third of the time of MobileNetV2 there.
        self.register_buffer("scale_C111", 1 / (255 * model.std).view(3, 1, 1, 1))
        self.register_buffer("shift_C", -(model.mean / model.std).view(3))
        self.calibrated = Calibrated(manifest.probabilities) if manifest.probabilities else nn.Identity()
        num_labels = len(manifest.labels)
        descendants = {c: [c] for _, c in manifest.implications}
        for child, ancestor in manifest.implications:
            descendants[ancestor].append(child)
        width = max(map(len, descendants.values()), default=0)
        padded = [own + own[:1] * (width - len(own)) for own in descendants.values()]
        place = {ancestor: num_labels + p for p, ancestor in enumerate(descendants)}
        self.register_buffer("descendants_PK", torch.tensor(padded, dtype=torch.long))
        self.register_buffer("place_C", torch.tensor([place.get(c, c) for c in range(num_labels)]))
        self.register_buffer("thresholds_C", torch.from_numpy(_rounded_up(manifest.thresholds)))

    def forward(self, images_BHWC: Tensor) -> tuple[Tensor, Tensor]:
        images_BCHW = images_BHWC.permute(0, 3, 1, 2).float()
        normalised_BCHW = F.conv2d(images_BCHW, self.scale_C111, self.shift_C, groups=3)
        scores_BC = self.implied(self.calibrated(self.model.scores(self.model(normalised_BCHW))))
        return scores_BC, scores_BC >= self.thresholds_C

    def implied(self, scores_BC: Tensor) -> Tensor:
        """Each label scores at least what its descendants score."""
        if not len(self.descendants_PK):
            return scores_BC
        # index_select becomes one Gather; indexing becomes transpositions around it, which OpenVINO 2026.4 gets wrong.
        descendants_BPK = scores_BC.index_select(1, self.descendants_PK.flatten()).unflatten(
            1, self.descendants_PK.shape
        )
        return torch.cat([scores_BC, descendants_BPK.amax(2)], 1).index_select(1, self.place_C)


def _rounded_up(thresholds: Sequence[float]) -> np.ndarray:
    """The smallest float32 not below each threshold: a single-precision score reaches both or neither."""
    exact = np.asarray(thresholds, np.float64)
    single = exact.astype(np.float32)
    return np.where(single < exact, np.nextafter(single, np.float32(np.inf)), single)


def export_onnx(model: Tagger, path: Path, manifest: Manifest, *, opset: int) -> None:
    """Write the file atomically; the same model and manifest give the same bytes.

    model: on the CPU, in evaluation mode.  manifest: its labels are the model's.
    Raises ModelError when the network cannot be written with `opset`.
    """
    assert list(manifest.labels) == model.labels, "the manifest is of another model"
    graph = _to_onnx(_Exported(model, manifest).eval(), manifest.preprocessing.image_px, opset=opset)
    del graph.metadata_props[:]
    onnx.helper.set_model_props(graph, manifest.as_metadata())
    with atomic_path(path) as temporary:
        temporary.write_bytes(graph.SerializeToString(deterministic=True))
        seal(temporary)


def _to_onnx(exported: nn.Module, image_px: tuple[int, int], *, opset: int) -> onnx.ModelProto:
    images_BHWC = torch.zeros(2, *image_px, 3, dtype=torch.uint8)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own deprecations, which no user can act upon
        exported(images_BHWC)  # what depends on weights alone is computed here, and stored as a constant
        try:
            program = torch.onnx.export(
                exported,
                (images_BHWC,),
                input_names=[INPUT],
                output_names=list(OUTPUTS),
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                opset_version=opset,
                external_data=False,
                verbose=False,
                dynamo=True,
            )
        except torch.onnx.errors.OnnxExporterError as error:
            cause = str(error.__cause__ or error).strip().splitlines()[0]
            network = exported.model.backbone.name
            raise ModelError(f"export: {network} cannot be written as ONNX ({cause}). Use another network.") from error
    graph = program.model_proto
    written = next(entry.version for entry in graph.opset_import if entry.domain in ("", "ai.onnx"))
    if written != opset:
        raise ModelError(f"export.opset: {opset} cannot express this network. Set export.opset: {written}.")
    _forget_how_it_was_made(graph)
    return graph


def _forget_how_it_was_made(graph: onnx.ModelProto) -> None:
    """Take out torch's notes: stack traces name the files of this machine, and differ between two."""
    values = [*graph.graph.input, *graph.graph.output, *graph.graph.value_info, *graph.graph.initializer]
    for item in [graph.graph, *graph.graph.node, *values, *graph.functions]:
        del item.metadata_props[:]
        item.doc_string = ""


class Parity(NamedTuple):
    """max_score_difference: over all images and labels.  unlike_decisions: pairs that differ.  num_images: seen."""

    max_score_difference: float
    unlike_decisions: int
    num_images: int


@torch.inference_mode()
def parity(path: Path, model: Tagger, images_BHWC: np.ndarray, *, batch_size: int = 16) -> Parity:
    """Compare the written file with torch on real images.

    images_BHWC: uint8, as `preprocessing` leaves them. What torch's logits mean is worked out in numpy here, not by the
    module that was exported.
    """
    session, manifest = open_session(path)
    difference, unlike = 0.0, 0
    for start in range(0, len(images_BHWC), batch_size):
        batch = images_BHWC[start : start + batch_size]
        scores_BC, decisions_BC = session.run(list(OUTPUTS), {INPUT: batch})
        logits_BC = model(torch.from_numpy(np.ascontiguousarray(batch.transpose(0, 3, 1, 2))))
        torch_BC = _implied(calibrated(model.scores(logits_BC).numpy(), manifest.probabilities), manifest.implications)
        decided_BC = torch_BC >= np.asarray(manifest.thresholds, np.float64)
        difference = max(difference, float(np.abs(scores_BC - torch_BC).max()))
        unlike += int((decisions_BC != decided_BC).sum())
    return Parity(difference, unlike, len(images_BHWC))


def refuse_unlike_scores(path: Path, model: Tagger, images_BHWC: np.ndarray, *, tolerance: float) -> Parity:
    """The file's parity with torch. Raises ModelError, and removes the file, where scores differ by more."""
    result = parity(path, model, images_BHWC)
    if result.max_score_difference > tolerance:
        path.unlink()
        raise ModelError(
            f"export: scores of the ONNX file differ from torch's by up to {result.max_score_difference:.2g} on "
            f"{result.num_images} images, export.tolerance is {tolerance:g}. Change export.opset or the head."
        )
    return result


def _implied(scores_BC: np.ndarray, implications: Sequence[tuple[int, int]]) -> np.ndarray:
    result_BC = scores_BC.copy()
    for child, ancestor in implications:
        result_BC[:, ancestor] = np.maximum(result_BC[:, ancestor], scores_BC[:, child])
    return result_BC
