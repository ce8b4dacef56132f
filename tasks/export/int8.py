"""An exported file with 8-bit weights and activations, by static quantisation.

Axes: B images, H W pixels.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from tasks.export.graphs import from_the_last_layer_on, write_variant
from tasks.export.runtime import open_session

BATCH_SIZE = 16
"""Images in memory at once while ranges are found; changes no result."""


def quantise(path: Path, out_path: Path, images_BHWC: np.ndarray) -> None:
    """Write `out_path` atomically: the network of `path` in 8 bits, with the same inputs, outputs and manifest.

    images_BHWC: uint8, as the file's preprocessing leaves them; a hundred typical ones fix each activation's range.
    Scores differ somewhat from those of `path`: for thresholds at their best, fit them to the new scores.
    Raises ModelError when `path` is no exported model.
    """
    _, manifest = open_session(path)
    with tempfile.TemporaryDirectory() as folder:
        folded, quantised = Path(folder) / "folded.onnx", Path(folder) / "quantised.onnx"
        quant_pre_process(path, folded, skip_symbolic_shape=True)  # batch norm into convolutions, shapes inferred
        quantize_static(
            folded,
            quantised,
            _Images(images_BHWC),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            reduce_range=True,  # 7-bit weights: without VNNI, sums of two products of 8 bits saturate at 16
            nodes_to_exclude=from_the_last_layer_on(onnx.load(folded).graph),
        )
        model = onnx.load(quantised)
    write_variant(model, out_path, manifest, precision="int8")


class _Images(CalibrationDataReader):
    """Batches in the interface that onnxruntime asks for."""

    def __init__(self, images_BHWC: np.ndarray) -> None:
        self._batches = iter(np.array_split(images_BHWC, -(-len(images_BHWC) // BATCH_SIZE)))

    def get_next(self) -> dict[str, np.ndarray] | None:
        batch = next(self._batches, None)
        return None if batch is None else {"images": batch}
